"""``python -m synchub.connector_kit.testing check|sign FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from synchub.connector_kit.testing.files import Shortcoming
from synchub.connector_kit.testing.signing import sign_recordings
from synchub.connector_kit.testing.suite import shortcomings


def main() -> int:
    """Run one of the two commands; exit code 1 when something is left to do."""
    parser = argparse.ArgumentParser(prog="python -m synchub.connector_kit.testing")
    parser.add_argument("command", choices=("check", "sign"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "check":
        findings = shortcomings(given.folder.resolve())
        sys.stdout.writelines(f"- {sentence}\n" for sentence in findings or ["Nothing is missing."])
        return 1 if findings else 0
    try:
        changed = sign_recordings(given.folder)
    except Shortcoming as found:
        sys.stderr.write(f"{found}\n")
        return 1
    sys.stdout.write(f"{changed} headers files signed anew.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
