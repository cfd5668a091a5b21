"""``/v1/merchant/sales`` and ``/v1/merchant/settlements``: sales that some level does not contain yet.

The surprising part: no timer ever settles a sale. A level without it may be right or late, and only
a person can find out; until then too little is sold rather than too much.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from synchub.agents.model import Scope
from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import MerchantKeys, check_name
from synchub.stock import operations as stock
from synchub.stock.sale_names import duration_ms, names_of, shown_sale, stored_name
from synchub.web.answers import answer_json
from synchub.web.auth import merchant_of
from synchub.web.bodies import Body, read_body
from synchub.web.keys import HUB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

LIMIT: Final = 100
"""Sales on one page, and most that a request may ask for."""
_NAME_MAX: Final = 4096
_REASON_MAX: Final = 500
_TEXT_MAX: Final = 128
_CURSOR: Final = re.compile(r"([0-9]{1,9})\.(.{1,128})", re.DOTALL)


class SettlementBody(Body):
    """Body of ``POST /v1/merchant/settlements``: one name, or an order and its SKU."""

    name: Annotated[str, Field(max_length=_NAME_MAX)] = ""
    order: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    line: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    sku: Annotated[str, Field(max_length=_TEXT_MAX)] = ""
    account: str = ""
    reason: Annotated[str, Field(min_length=1, max_length=_REASON_MAX)]


async def list_sales(request: web.Request) -> web.Response:
    """Answer with open sales: their names, their age, and which source lacks how much of them."""
    merchant = merchant_of(request, Scope.MERCHANT_READ).merchant
    if request.query.get("open", "1") != "1":
        msg = "Only open sales are listed: leave open away, or let it be 1. The ledger has the others."
        raise InvalidRequest(msg)
    sku, place = _position(request.query.get("cursor"))
    page = await stock.list_sales(
        request.app[HUB].redis,
        MerchantKeys(merchant),
        sku=sku,
        place=place,
        older_than_ms=_duration_ms(request.query.get("older_than")),
        limit=_limit(request.query.get("limit")),
    )
    cursor = f"{page.next_place}.{page.next_sku}" if page.next_sku else None
    return answer_json({"sales": [shown_sale(sale) for sale in page.sales], "cursor": cursor})


async def settle(request: web.Request) -> web.Response:
    """Take one sale out of the reckoning and keep the reason in the ledger; again changes nothing."""
    holder = merchant_of(request, Scope.MERCHANT_WRITE)
    hub = request.app[HUB]
    body = await read_body(request, SettlementBody)
    settled = await stock.settle_sale(
        hub.redis,
        MerchantKeys(holder.merchant),
        _names(body),
        cause=f"settled:{holder.name}:{body.reason}",
        settings=hub.settings,
    )
    return answer_json({"settled": True, "was_open": settled.seq > 0, "seq": settled.seq or None})


def _names(body: SettlementBody) -> Sequence[str]:
    if body.name and not (body.order or body.line or body.sku or body.account):
        return [stored_name(body.name)]
    if body.name or not (body.order and body.sku):
        msg = "Say which sale: name, as GET /v1/merchant/sales shows it, or order and sku, best with line."
        raise InvalidRequest(msg)
    if body.account:
        check_name(body.account, "The account")
    given = {
        field: _identifier(getattr(body, field), field)
        for field in ("order", "line", "sku")
        if getattr(body, field)
    }
    return names_of(account=body.account, **given)


def _identifier(text: str, what: str) -> str:
    try:
        return identifier(text, what)
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None


def _duration_ms(text: str | None) -> int:
    return 0 if text is None else duration_ms(text, "older_than")


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIMIT:
        msg = f"limit is a number from 1 to {LIMIT}."
        raise InvalidRequest(msg)
    return int(text)


def _position(cursor: str | None) -> tuple[str, int]:
    if cursor is None:
        return "", 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        msg = "cursor is what the page before has told."
        raise InvalidRequest(msg)
    return found[2], int(found[1])
