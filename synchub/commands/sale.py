"""``synchub sale``: find sales that some level does not contain, and settle one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from synchub.accounts import operations as accounts
from synchub.commands.common import add_common, say, with_registry
from synchub.errors import InvalidRequest, NotFound
from synchub.keyspace import MerchantKeys
from synchub.stock import operations as stock
from synchub.stock.sale_names import duration_ms, names_of, shown_sale, stored_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from synchub.accounts.operations import Registry

LIMIT: Final = 1000
AUTHOR: Final = "command"
_MINUTE_MS: Final = 60_000


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show sales that some source's level does not contain yet")
    listing.set_defaults(act=_list)
    listing.add_argument(
        "--older-than", default="0s", metavar="TIME", help="only those older than 90m, 24h or 7d"
    )
    listing.add_argument(
        "--limit", type=int, default=100, metavar="N", help="most sales shown (default: 100)"
    )
    settle = actions.add_parser("settle", help="take one out of the reckoning, because you have looked at it")
    settle.set_defaults(act=_settle)
    settle.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="the sale's name as `list` shows it"
    )
    settle.add_argument("--order", default="", help="instead of a name: the order it is part of")
    settle.add_argument("--line", default="", help="with --order: the order's line")
    settle.add_argument("--sku", default="", help="with --order: what was sold")
    settle.add_argument("--account", default="", help="with --order: the account that told the order")
    settle.add_argument("--reason", required=True, help="why; it is kept in the ledger")
    for action in actions.choices.values():
        action.add_argument("--merchant", required=True, help="whose sales")
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 done, 1 failed."""
    return with_registry(args, args.act)


async def _list(args: argparse.Namespace, registry: Registry) -> int:
    if not 1 <= args.limit <= LIMIT:
        msg = f"--limit is a number from 1 to {LIMIT}."
        raise InvalidRequest(msg)
    older_than_ms = duration_ms(args.older_than, "--older-than")
    await _require_merchant(registry, args.merchant)
    keys, sku, place = MerchantKeys(args.merchant), "", 0
    shown: list[dict[str, Any]] = []
    while len(shown) < args.limit:
        page = await stock.list_sales(
            registry.redis,
            keys,
            sku=sku,
            place=place,
            older_than_ms=older_than_ms,
            limit=args.limit - len(shown),
        )
        shown += [shown_sale(sale) for sale in page.sales]
        sku, place = page.next_sku, page.next_place
        if not sku:
            break
    more = ["There are more; ask with a greater --limit."] if sku else []
    say(args, shown, *(_lines(shown) or ["Every sale is in the levels."]), *more)
    return 0


async def _settle(args: argparse.Namespace, registry: Registry) -> int:
    names = _names(args)
    await _require_merchant(registry, args.merchant)
    settled = await stock.settle_sale(
        registry.redis,
        MerchantKeys(args.merchant),
        names,
        cause=f"settled:{AUTHOR}:{args.reason}",
        settings=registry.settings,
    )
    was_open = settled.seq > 0
    said = (
        f"Settled with entry {settled.seq} of the ledger."
        if was_open
        else "It was settled before; nothing changed."
    )
    say(args, {"settled": True, "was_open": was_open, "seq": settled.seq or None}, said)
    return 0


def _names(args: argparse.Namespace) -> Sequence[str]:
    if args.name and not args.order:
        return [stored_name(args.name)]
    if args.name or not (args.order and args.sku):
        msg = "Say which sale: its name, or --order and --sku, best with --line."
        raise InvalidRequest(msg)
    return names_of(sku=args.sku, order=args.order, line=args.line, account=args.account)


def _lines(shown: list[dict[str, Any]]) -> list[str]:
    return [
        f"{sale['sku']}  {sale['units']} sold {_age(sale['age_ms'])} ago, {_missing(sale)}"
        f"\n    {sale['name']}"
        for sale in shown
    ]


def _age(age_ms: int) -> str:
    minutes = age_ms // _MINUTE_MS
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004 - an hour


def _missing(sale: dict[str, Any]) -> str:
    told = [f"{one['quantity']} not in {one['account']} ({one['location']})" for one in sale["pending"]]
    return ", ".join(told) or "and no account counts stock there"


async def _require_merchant(registry: Registry, merchant: str) -> None:
    """A misspelt name must not look like a merchant without open sales."""
    if not await accounts.list_accounts(registry.redis, merchant):
        msg = f"There is no merchant {merchant}; add its first account."
        raise NotFound(msg)
