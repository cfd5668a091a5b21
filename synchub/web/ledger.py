"""A merchant's own ledger over HTTP; whoever mounts it says how a request's merchant is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import MerchantKeys
from synchub.ledger import operations as ledger
from synchub.ledger.rules import document
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.ledger.model import LedgerPage

_LIMIT: Final = 100
_DIGITS_MAX: Final = 18


def ledger_handlers(merchant_of: Callable[[web.Request], str], path: str = "/ledger") -> list[web.RouteDef]:
    """Return the routes for an application that holds a hub under ``HUB``.

    ``merchant_of`` raises what a request without the right to a merchant deserves.
    """

    async def show_ledger(request: web.Request) -> web.Response:
        """Answer with entries after a sequence."""
        merchant = merchant_of(request)
        page = await ledger.read(
            request.app[HUB].redis,
            MerchantKeys(merchant),
            after=_number(request, "after", default=0),
            limit=_limit(request),
            sku=_sku(request),
        )
        return web.Response(
            body=orjson.dumps(body_of(page)),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return [web.get(path, show_ledger, name="ledger")]


def body_of(page: LedgerPage) -> dict[str, object]:
    """Return the page as it is told.

    ``oldest`` is the oldest sequence that the store still has: what comes before is in the archive.
    """
    return {
        "epoch": page.epoch,
        "head": page.head,
        "oldest": page.oldest,
        "entries": [document(entry) for entry in page.entries],
        "next_after": page.next_after,
    }


def _limit(request: web.Request) -> int:
    limit = _number(request, "limit", default=_LIMIT)
    if not 1 <= limit <= ledger.PAGE_MAX:
        msg = f"limit is 1 to {ledger.PAGE_MAX}."
        raise InvalidRequest(msg)
    return limit


def _number(request: web.Request, name: str, *, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        msg = f"{name} is a whole number, not negative."
        raise InvalidRequest(msg)
    return int(text)


def _sku(request: web.Request) -> str | None:
    text = request.query.get("sku")
    try:
        return None if text is None else identifier(text, "The SKU")
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
