"""``python -m workers``: what ``synchub work`` becomes."""

from __future__ import annotations

import sys

import uvloop

from synchub.errors import Misconfigured
from synchub.logs import set_up_logs
from synchub.settings import load_settings
from workers.lifecycle import work


def main() -> int:
    """Run one worker until it is told to stop."""
    try:
        settings = load_settings()
        set_up_logs(settings.log)
        uvloop.run(work(settings))
    except Misconfigured as problem:
        sys.stderr.write(f"synchub: {problem.detail}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
