"""``synchub dead``: deliveries that wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub import keyspace
from synchub.commands.aside import register_for, run_on

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Declare ``list`` and ``retry``."""
    register_for(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the verb."""
    return run_on(args, keyspace.dead_letters())
