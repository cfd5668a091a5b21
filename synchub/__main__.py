"""The ``synchub`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from synchub import __version__
from synchub.errors import Misconfigured, SynchubError

COMMANDS: Final = {
    "up": "run a whole hub on this machine, with an embedded Valkey",
    "serve": "run an api process: webhooks, answers, feeds",
    "work": "run a worker process: apply deliveries, fetch levels, upkeep",
    "config": "show the settings in force, secrets masked",
    "account": "connect platforms: add, list, check, map, rotate, remove",
    "agent": "give agents, merchants and operators keys: add, list, revoke",
    "policy": "what a merchant has decided: show, set, history",
    "sale": "sales that no level contains yet: list, settle",
    "connector": "list connectors, or write the folder of a new one",
    "feed": "watch a merchant's feed",
    "quarantine": "list or retry deliveries that were signed and not understood",
    "dead": "list or retry deliveries that were given up",
    "audit": "check the archive of ledger and decisions, look something up in it",
    "replay": "post recorded deliveries to an account again",
    "verify-delivery": "check a recorded delivery's signature and say what it would do",
    "doctor": "say in words how the hub is",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrongly called."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = _parser(arguments[0] if arguments else "")
    args = parser.parse_args(arguments)
    module = importlib.import_module(f"synchub.commands.{args.command.replace('-', '_')}")
    try:
        code: int = module.run(args)
    except Misconfigured as problem:
        sys.stderr.write(f"synchub: {problem.detail}\n")
        return 1
    except SynchubError as problem:
        sys.stderr.write(f"synchub: {problem.detail or problem.code}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return code


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Declare all commands, and import only the chosen one: the others cost start-up time."""
    parser = argparse.ArgumentParser(
        prog="synchub", description="One stock truth per SKU for merchants who sell through AI agents."
    )
    parser.add_argument("--version", action="version", version=f"synchub {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            importlib.import_module(f"synchub.commands.{name.replace('-', '_')}").register(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
