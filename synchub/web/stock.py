"""What agents ask about stock. An unknown SKU is an answer too, never a bare 404."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from aiohttp import web
from pydantic import Field

from synchub.agents.model import Scope
from synchub.availability import operations as availability
from synchub.availability.bodies import Json, stock_body
from synchub.availability.operations import Asker, Presented
from synchub.connector_kit.events import MAX_QUANTITY
from synchub.connector_kit.payloads import quantity
from synchub.decisions.model import Decision, DecisionKind, Seen
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import MerchantKeys, check_name
from synchub.kit.clock import now_ms
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of, check_channel
from synchub.web.bodies import Body, Rows, read_body, sku_of
from synchub.web.deadline import Effect, in_time
from synchub.web.keys import HUB
from synchub.web.noting import note_told
from synchub.web.terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from synchub.agents.model import Agent
    from synchub.availability.operations import Answers, Verified
    from synchub.hub import Hub

SKUS_MAX: Final = 200
"""SKUs of one question."""
_CHECKSUM_MAX: Final = 100


class QueryItem(Body):
    """One SKU, and how many are wanted."""

    sku: str
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)] | None = None


class Query(Body):
    """Body of ``POST /v1/stock/query``."""

    items: Annotated[Rows[QueryItem], Field(min_length=1, max_length=SKUS_MAX)]
    channel: str | None = None


class VerifyItem(Body):
    """One SKU, and the checksum of the answer that was shown."""

    sku: str
    checksum: Annotated[str, Field(max_length=_CHECKSUM_MAX)]


class Verify(Body):
    """Body of ``POST /v1/stock/verify``."""

    items: Annotated[Rows[VerifyItem], Field(min_length=1, max_length=SKUS_MAX)]
    channel: str | None = None


def stock_app(hub: Hub) -> web.Application:
    """Build the application for questions about stock."""
    app = web.Application()
    app[HUB] = hub
    app.router.add_post("/query", query_stock, name="stock_query")
    app.router.add_post("/verify", verify_stock, name="stock_verify")
    # A SKU may contain a slash.
    app.router.add_get("/{sku:.+}", show_stock, name="stock")
    return app


@in_time(Effect.READ)
async def show_stock(request: web.Request) -> web.Response:
    """Answer with the present state of one SKU of the key's merchant."""
    agent = agent_of(request, Scope.STOCK_READ)
    asker = _asker(request, agent, request.query.get("channel"))
    wanted = {sku_of(request.match_info["sku"]): _quantity(request.query.get("quantity"))}
    answers = await availability.answer(request.app[HUB].redis, asker, wanted)
    _note(request, agent, answers)
    return answer_json(stock_body(answers.told[0]))


@in_time(Effect.READ)
async def query_stock(request: web.Request) -> web.Response:
    """Answer for several SKUs at one position; a SKU named twice is answered once, for the sum."""
    agent = agent_of(request, Scope.STOCK_READ)  # first: nobody unknown makes the hub read a body
    query = await read_body(request, Query)
    asker = _asker(request, agent, query.channel)
    answers = await availability.answer(request.app[HUB].redis, asker, _folded(query.items))
    _note(request, agent, answers)
    return answer_json(
        {
            "seq": answers.position.seq,
            "epoch": answers.position.epoch,
            "answers": [stock_body(one) for one in answers.told],
        }
    )


@in_time(Effect.READ)
async def verify_stock(request: web.Request) -> web.Response:
    """Say of answers that were shown earlier whether they still hold; one verdict per item, in order."""
    agent = agent_of(request, Scope.STOCK_READ)
    body = await read_body(request, Verify)
    asker = _asker(request, agent, body.channel)
    presented = [Presented(sku=sku_of(item.sku), checksum=item.checksum) for item in body.items]
    verified = await availability.verify(request.app[HUB].redis, asker, presented)
    _note_verdicts(request, agent, presented, verified)
    results: list[Json] = [
        {"sku": one.sku, "status": "current"}
        if changed is None
        else {"sku": one.sku, "status": "changed", "answer": stock_body(changed)}
        for one, changed in zip(presented, verified.changed, strict=True)
    ]
    return answer_json({"seq": verified.position.seq, "epoch": verified.position.epoch, "results": results})


async def look_at(
    request: web.Request,
    agent: Agent,
    channel: str | None,
    wanted: Mapping[str, int | None],
    *,
    lacks: Collection[str] = (),
) -> Answers:
    """Answer for SKUs as this agent and channel are shown them; of those in ``lacks`` there is not enough."""
    asker = _asker(request, agent, channel)
    return await availability.answer(request.app[HUB].redis, asker, wanted, lacks=lacks)


def _note(request: web.Request, agent: Agent, answers: Answers) -> None:
    for told in answers.told:
        note_told(request.app[HUB], agent, DecisionKind.QUERY, told, "told")


def _note_verdicts(
    request: web.Request, agent: Agent, presented: Sequence[Presented], verified: Verified
) -> None:
    for one, changed in zip(presented, verified.changed, strict=True):
        if changed is not None:
            note_told(request.app[HUB], agent, DecisionKind.VERIFY, changed, "changed")
            continue
        decision = Decision(
            at_ms=now_ms(),
            kind=DecisionKind.VERIFY,
            agent=agent.name,
            sku=one.sku,
            seen=Seen(seq=verified.position.seq, checksum=one.checksum),
            outcome="current",
            policy_version=request.app[HUB].policies.version(agent.merchant),
        )
        request.app[HUB].decisions.note(agent.merchant, decision)


def _asker(request: web.Request, agent: Agent, channel: str | None) -> Asker:
    hub = request.app[HUB]
    check_channel(agent, None if channel is None else check_name(channel, "The channel"))

    def max_age_of(account: str) -> int:
        found = hub.directory.find_account(account)
        return (found.max_age_ms if found else None) or hub.settings.stock.max_age_ms

    return Asker(
        keys=MerchantKeys(agent.merchant),
        terms_of=lambda sku: terms_of(hub, agent, sku, channel),
        max_age_of=max_age_of,
        checksum_key=hub.vault.merchant_key(agent.merchant),
        now_ms=now_ms(),
    )


def _folded(items: Iterable[QueryItem]) -> dict[str, int | None]:
    """Add up what is wanted of each SKU; None where no quantity was given at all."""
    wanted: dict[str, int | None] = {}
    for item in items:
        sku = sku_of(item.sku)
        before = wanted.get(sku)
        wanted[sku] = before if item.quantity is None else (before or 0) + item.quantity
    return wanted


def _quantity(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        wanted = quantity(text, "quantity")
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
    if wanted < 1:
        msg = "quantity is at least 1."
        raise InvalidRequest(msg)
    return wanted
