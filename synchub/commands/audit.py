"""``synchub audit``: check the archive, look something up in it, restore from it, begin a new one."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from synchub.archive import operations as archive
from synchub.archive.model import Finding, Log
from synchub.archive.showing import Shown, Wanted
from synchub.commands.common import add_common, say, settings_of
from synchub.decisions import rules as decisions
from synchub.errors import Fault, InvalidRequest, NotFound
from synchub.history.operations import Historian
from synchub.keyspace import check_name
from synchub.kit.hash_chain import ChainBroken
from synchub.ledger import rules as ledger
from synchub.logs import set_up_logs
from synchub.recovery.operations import Recovery
from synchub.redis import CoalescingRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.archive.model import Note
    from synchub.recovery.model import Plan, Restored
    from synchub.settings import Settings

_DIFFERING_SHOWN: Final = 10


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check every hash, join and checkpoint of the archive")
    verify.set_defaults(act=_verify)
    verify.add_argument("--merchant", help="only this merchant's")
    show = actions.add_parser("show", help="show entries, from the archive and then from the store")
    show.set_defaults(act=_show)
    show.add_argument("--merchant", required=True, help="whose entries")
    show.add_argument("--log", type=Log, choices=list(Log), default=Log.LEDGER, help="default: ledger")
    show.add_argument("--sku", help="only of this SKU")
    show.add_argument("--from-seq", type=int, default=0, metavar="N", help="from this sequence on")
    show.add_argument("--to-seq", type=int, metavar="N", help="up to this sequence")
    restore = actions.add_parser("restore", help="bring back sales and numbers that the store has lost")
    restore.set_defaults(act=_restore)
    restore.add_argument("--merchant", required=True, help="whose")
    restore.add_argument("--apply", action="store_true", help="do it (otherwise only say what would be done)")
    begin = actions.add_parser("begin", help="let the archive begin anew after its folder has been lost")
    begin.set_defaults(act=_begin)
    begin.add_argument("--merchant", required=True, help="whose archive")
    for action in actions.choices.values():
        action.add_argument("--folder", type=Path, metavar="DIR", help="the archive (default: the settings)")
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 done, 1 failed or broken."""
    settings = settings_of(args)
    set_up_logs(settings.log.model_copy(update={"level": "error", "form": "console"}))
    if getattr(args, "merchant", None):
        check_name(args.merchant, "The merchant's name")
    args.folder = args.folder or settings.archive.folder
    code: int = asyncio.run(args.act(args, settings))
    return code


async def _verify(args: argparse.Namespace, settings: Settings) -> int:
    merchants = [args.merchant] if args.merchant else await archive.list_merchants(args.folder)
    if not merchants:
        msg = f"There is no archive in {args.folder}."
        raise NotFound(msg)
    findings: list[Finding] = []
    async with _store(settings) as redis:
        for merchant in merchants:
            notes = await _notes(redis, merchant)
            findings += await archive.verify(args.folder, merchant, notes)
    broken = [finding.broken for finding in findings if finding.broken]
    document = {"valid": not broken, "logs": [_document(finding) for finding in findings]}
    say(args, document, *[_sentence(finding) for finding in findings])
    return 1 if broken else 0


async def _notes(redis: CoalescingRedis, merchant: str) -> dict[Log, Note | None]:
    """Ask the store what it knows; a check must also be possible where there is none."""
    try:
        return await archive.read_notes(redis, merchant)
    except Fault as fault:
        sys.stderr.write(f"The end of {merchant}'s archive is not checked: {fault.detail}\n")
        return {}


async def _show(args: argparse.Namespace, settings: Settings) -> int:
    wanted = Wanted(merchant=args.merchant, log=args.log, sku=args.sku, first=args.from_seq, last=args.to_seq)
    found: list[dict[str, Any]] = []
    async with _store(settings) as redis, aclosing(archive.show(redis, args.folder, wanted)) as entries:
        try:
            async for one in entries:
                if args.json:
                    found.append(_entry_document(one))
                else:
                    print(_entry_sentence(args.log, one))
        except (ChainBroken, FileNotFoundError) as problem:
            msg = f"The archive is damaged ({problem}); `synchub audit verify` says where."
            raise InvalidRequest(msg) from problem
        except Fault as fault:
            sys.stderr.write(f"What only the store has is not shown: {fault.detail}\n")
    if args.json:
        sys.stdout.buffer.write(orjson.dumps(found) + b"\n")
    return 0


async def _restore(args: argparse.Namespace, settings: Settings) -> int:
    settings = settings.model_copy(
        update={"archive": settings.archive.model_copy(update={"folder": args.folder})}
    )
    async with _store(settings) as redis:
        historian = Historian(redis, settings)
        recovery = Recovery(redis, args.folder, args.merchant, settings)
        await recovery.check()
        if args.apply:
            # A store that has lost its end gets another history first, and grants nothing meanwhile.
            await historian.prove(args.merchant)
        plan = await recovery.plan()
        document = {**asdict(plan), "applied": args.apply}
        if not args.apply:
            say(args, document, *_plan_sentences(plan), "Nothing was changed; --apply does it.")
            return 0
        restored = await recovery.apply(_progress)
    document |= {"restored": asdict(restored)}
    say(args, document, *_plan_sentences(plan), *_restored_sentences(restored))
    return 0


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {total} parts" + ("\n" if done == total else ""))
        sys.stderr.flush()


def _plan_sentences(plan: Plan) -> list[str]:
    whole = f"The archive of {plan.merchant} is whole: {plan.entries} entries up to {plan.seq}."
    lost = (
        f"The store does not know of {plan.lost} of them: {plan.sales} sales of {plan.units} units, and the"
        f" last word of {plan.sources} sources, on {plan.skus} SKUs."
    )
    sentences = [whole, lost]
    if plan.holds:
        sentences.append(f"{plan.holds} holds were live; only their owners' tokens bring them back.")
    if plan.unknown_accounts:
        names = ", ".join(plan.unknown_accounts)
        sentences.append(f"Left out: the numbers of {names}. Connect them by these names, and do it again.")
    return sentences


def _restored_sentences(restored: Restored) -> list[str]:
    done = (
        f"Restored: {restored.sales} sales ({restored.sales_known} were known), {restored.sources} sources"
        f" ({restored.sources_known} were known or left out)."
    )
    sentences = [done]
    if restored.differing:
        shown = ", ".join(f"{sku} {was} > {now}" for sku, was, now in restored.differing[:_DIFFERING_SHOWN])
        sentences.append(
            f"{len(restored.differing)} SKUs have another number than last archived, until their sources are"
            f" heard again: {shown}."
        )
    return sentences


async def _begin(args: argparse.Namespace, settings: Settings) -> int:
    async with _store(settings) as redis:
        is_begun = await archive.begin(redis, args.folder, args.merchant)
    if not is_begun:
        msg = f"{args.folder} already holds an archive of {args.merchant}; move it away first."
        raise InvalidRequest(msg)
    say(
        args,
        {"merchant": args.merchant, "begun": True},
        f"The archive of {args.merchant} begins anew in {args.folder}.",
    )
    return 0


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[CoalescingRedis]:
    redis = CoalescingRedis(settings.redis)
    try:
        yield redis
    finally:
        await redis.close()


def _document(finding: Finding) -> dict[str, object]:
    return {
        "merchant": finding.merchant,
        "log": finding.log.value,
        "segments": finding.segments,
        "entries": finding.entries,
        "epoch": finding.epoch,
        "seq": finding.seq,
        "hash": finding.hash,
        "missing": finding.missing,
        "checkpoints": finding.checkpoints,
        "broken": finding.broken or None,
    }


def _sentence(finding: Finding) -> str:
    if finding.broken:
        return f"broken  {finding.broken}"
    if not finding.segments:
        return f"ok      {finding.merchant}, {finding.log.value}: nothing archived yet"
    lost = f", {finding.missing} lost before they could be archived" if finding.missing else ""
    return (
        f"ok      {finding.merchant}, {finding.log.value}: {finding.entries} entries in {finding.segments}"
        f" segments up to {finding.seq}{lost}; last hash {finding.hash}"
    )


def _entry_document(shown: Shown) -> dict[str, Any]:
    return {**shown.fields, "seq": shown.seq, "epoch": shown.epoch, "archived": shown.is_archived}


def _entry_sentence(log: Log, shown: Shown) -> str:
    if log is Log.DECISIONS:
        return decisions.sentence(shown.seq, shown.fields)
    return ledger.sentence(ledger.entry_of(shown.seq, shown.fields))
