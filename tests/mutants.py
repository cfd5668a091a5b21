"""Breaks each rule of the scripts on a real Valkey and prints which scenario or example notices it.

Run by `make mutants`; `make test` runs the same mutants as tests.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stores.test_sales_mutants import example_of
from tests.support import sales_mutants
from tests.support.mutants import MUTANTS, killer_of
from tests.support.sales_mutants import MUTANTS as SALES_MUTANTS
from tests.support.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis


def main() -> int:
    """Print the table; 1 when a mutant survives or no longer fits the script."""
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as server, server.client() as client:
        killed = 0
        for name, find_killer in _mutants(server):
            try:
                killer = find_killer(client)
            except ValueError as problem:
                killer = f"DOES NOT FIT: {problem}"
            else:
                killed += bool(killer)
            print(f"{name:<64} {killer or 'SURVIVES'}")  # noqa: T201 - the table is what the command is for
    count = len(MUTANTS) + len(SALES_MUTANTS)
    print(f"{count} mutants, {killed} killed")  # noqa: T201 - its last line
    return 0 if killed == count else 1


def _mutants(server: Valkey) -> Iterator[tuple[str, Callable[[Redis], str]]]:
    for mutant in MUTANTS:
        yield mutant.name, partial(killer_of, mutant)
    for broken in SALES_MUTANTS:
        server.flush()
        yield broken.name, partial(sales_mutants.killer_of, broken, example=example_of(broken))


if __name__ == "__main__":
    sys.exit(main())
