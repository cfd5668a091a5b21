"""Breaks each rule of the apply script on a real Valkey and prints which scenario notices it.

Run by `make mutants`; `make test` runs the same mutants as tests.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.mutants import MUTANTS, killer_of
from tests.support.valkey import Valkey


def main() -> int:
    """Print the table; 1 when a mutant survives or no longer fits the script."""
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as server, server.client() as client:
        survivors = 0
        for mutant in MUTANTS:
            try:
                killer = killer_of(mutant, client)
            except ValueError as problem:
                killer, survivors = f"DOES NOT FIT: {problem}", survivors + 1
            survivors += not killer
            print(f"{mutant.name:<64} {killer or 'SURVIVES'}")  # noqa: T201 - the table is what the command is for
    print(f"{len(MUTANTS)} mutants, {len(MUTANTS) - survivors} killed")  # noqa: T201 - its last line
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
