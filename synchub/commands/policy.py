"""``synchub policy``: look at what a merchant has decided, and replace it from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from synchub.accounts import operations as accounts
from synchub.agents import operations as agents
from synchub.commands.common import add_common, say, with_registry
from synchub.errors import InvalidRequest, NotFound
from synchub.policies import operations as policies
from synchub.policies.document import shown, shown_edit

if TYPE_CHECKING:
    import argparse

    from synchub.accounts.operations import Registry

AUTHOR: Final = "command"
"""Under which edits from the command line stand in the history."""


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print a merchant's policies as JSON, ready to be edited")
    show.set_defaults(act=_show)
    show.add_argument("--version", type=int, help="an earlier version (default: the present one)")
    replace = actions.add_parser("set", help="make a file a merchant's policies")
    replace.set_defaults(act=_set)
    replace.add_argument("file", metavar="FILE", help="JSON as `show` prints it; - is standard input")
    history = actions.add_parser("history", help="say who has made which version, newest first")
    history.set_defaults(act=_history)
    for action in actions.choices.values():
        action.add_argument("--merchant", required=True, help="whose policies")
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 done, 1 failed."""
    if args.action == "set":
        args.document = _read(args.file)
    return with_registry(args, args.act)


async def _show(args: argparse.Namespace, registry: Registry) -> int:
    await _require_merchant(registry, args.merchant)
    stored = await policies.show(registry.redis, args.merchant, args.version)
    document = shown(stored)
    say(args, document, json.dumps(document, ensure_ascii=False, indent=2))
    return 0


async def _set(args: argparse.Namespace, registry: Registry) -> int:
    form = policies.read_document(args.document)
    await _require_merchant(registry, args.merchant)
    expected = form.version
    if expected is None:
        # A file that names no version was made from none: it replaces whatever there is.
        present = await policies.show(registry.redis, args.merchant)
        expected = present.edit.version if present else 0
    written = await policies.replace(
        registry.redis, args.merchant, form, expected=expected, author=AUTHOR, settings=registry.settings
    )
    version = written.edit.version
    say(
        args,
        {"merchant": args.merchant, "version": version},
        f"The policies of {args.merchant} are at version {version}; they count from now on.",
    )
    return 0


async def _history(args: argparse.Namespace, registry: Registry) -> int:
    await _require_merchant(registry, args.merchant)
    edits = await policies.list_history(registry.redis, args.merchant)
    told = [shown_edit(edit) for edit in edits]
    sentences = [f"version {one['version']}, {one['changed_at']}, by {one['changed_by']}" for one in told]
    say(args, told, *(sentences or ["Nothing has been decided yet."]))
    return 0


async def _require_merchant(registry: Registry, merchant: str) -> None:
    """A misspelt name must not bring a merchant into being."""
    if await accounts.list_accounts(registry.redis, merchant):
        return
    if not await agents.list_agents(registry.redis, merchant):
        msg = f"There is no merchant {merchant}; add its first account."
        raise NotFound(msg)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as problem:
        msg = f"{file} cannot be read: {problem.strerror}."
        raise InvalidRequest(msg) from None
