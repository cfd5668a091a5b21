"""What agents ask about stock. An unknown SKU is an answer too, never a bare 404."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from synchub.agents.model import Limited, Scope
from synchub.availability import operations as availability
from synchub.availability.bodies import Json, stock_body
from synchub.availability.operations import Asker, Presented
from synchub.connector_kit.events import MAX_QUANTITY
from synchub.connector_kit.payloads import quantity
from synchub.decisions.model import Decision, DecisionKind, Seen
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.keyspace import MerchantKeys, check_name
from synchub.kit.clock import now_ms
from synchub.mappings.aliases import present_names
from synchub.stock import operations as stock
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of, check_channel
from synchub.web.away import compare_with_sources, query_sources, show_from_source
from synchub.web.bodies import Body, Rows, read_body, sku_of
from synchub.web.deadline import Effect, in_time
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS
from synchub.web.noting import note_told
from synchub.web.terms import terms_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from aiohttp import web

    from synchub.agents.model import Agent
    from synchub.availability.operations import Answers, Verified
    from synchub.stock.model import Reading

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


def add_stock_routes(app: web.Application) -> None:
    """Add the routes for questions about stock; the step that reads for one counts its token."""
    app.router.add_post("/v1/stock/query", query_stock, name="stock_query")
    app.router.add_post("/v1/stock/verify", verify_stock, name="stock_verify")
    # A SKU may contain a slash.
    app.router.add_get("/v1/stock/{sku:.+}", show_stock, name="stock")


@in_time(Effect.READ)
async def show_stock(request: web.Request) -> web.Response:
    """Answer with the present state of one SKU of the key's merchant."""
    agent = agent_of(request, Scope.STOCK_READ)
    asker = _asker(request, agent, request.query.get("channel"))
    wanted = {sku_of(request.match_info["sku"]): _quantity(request.query.get("quantity"))}
    if request.app[HUB].authority.is_needed:
        return await show_from_source(request, agent, asker, wanted)
    answers, renamed = await _answer(request, agent, asker, wanted)
    _note(request, agent, answers)
    return answer_json(_bodies(wanted, answers, renamed)[0])


@in_time(Effect.READ)
async def query_stock(request: web.Request) -> web.Response:
    """Answer for several SKUs at one position; a SKU named twice is answered once, for the sum."""
    agent = agent_of(request, Scope.STOCK_READ)  # first: nobody unknown makes the hub read a body
    query = await read_body(request, Query)
    asker = _asker(request, agent, query.channel)
    wanted = _folded(query.items)
    if request.app[HUB].authority.is_needed:
        return await query_sources(request, agent, asker, wanted)
    answers, renamed = await _answer(request, agent, asker, wanted)
    _note(request, agent, answers)
    return answer_json(
        {
            "seq": answers.position.seq,
            "epoch": answers.position.epoch,
            "answers": _bodies(wanted, answers, renamed),
        }
    )


@in_time(Effect.READ)
async def verify_stock(request: web.Request) -> web.Response:
    """Say of answers that were shown earlier whether they still hold; one verdict per item, in order."""
    agent = agent_of(request, Scope.STOCK_READ)
    body = await read_body(request, Verify)
    asker = _asker(request, agent, body.channel)
    presented = [Presented(sku=sku_of(item.sku), checksum=item.checksum) for item in body.items]
    if request.app[HUB].authority.is_needed:
        return await compare_with_sources(request, agent, asker, presented)
    reading = await _read(request, agent, asker, list(dict.fromkeys(one.sku for one in presented)))
    redis = request.app[HUB].redis
    renamed = await present_names(redis, asker.keys, [one.sku for one in reading.answers if one.gone])
    if renamed:
        presented = [replace(one, sku=renamed.get(one.sku, one.sku)) for one in presented]
        reading = await stock.read(redis, asker.keys, list(dict.fromkeys(one.sku for one in presented)))
    verified = await availability.verify(redis, asker, presented, reading)
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
    asker, redis = _asker(request, agent, channel), request.app[HUB].redis
    reading = await stock.read(redis, asker.keys, list(wanted))
    return await availability.answer(redis, asker, wanted, reading, lacks=lacks)


async def _answer(
    request: web.Request, agent: Agent, asker: Asker, wanted: Mapping[str, int | None]
) -> tuple[Answers, Mapping[str, str]]:
    """Answer, for SKUs that have another name by now under that; with those names."""
    redis, reading = request.app[HUB].redis, await _read(request, agent, asker, list(wanted))
    renamed = await present_names(redis, asker.keys, [one.sku for one in reading.answers if one.gone])
    if renamed:
        wanted = _renamed(wanted, renamed)
        reading = await stock.read(redis, asker.keys, list(wanted))
    return await availability.answer(redis, asker, wanted, reading), renamed


def _renamed(wanted: Mapping[str, int | None], renamed: Mapping[str, str]) -> dict[str, int | None]:
    """Add up what is wanted of each SKU, whatever it was called."""
    found: dict[str, int | None] = {}
    for asked, units in wanted.items():
        sku = renamed.get(asked, asked)
        before = found.get(sku)
        found[sku] = before if units is None else (before or 0) + units
    return found


def _bodies(wanted: Iterable[str], answers: Answers, renamed: Mapping[str, str]) -> list[dict[str, Json]]:
    """Tell the answers in the order of the question; one to an old name says so."""
    if not renamed:
        return [stock_body(one) for one in answers.told]
    told = {one.answer.sku: one for one in answers.told}
    return [
        stock_body(told[renamed[sku]]) | {"asked_sku": sku} if sku in renamed else stock_body(told[sku])
        for sku in wanted
    ]


async def _read(request: web.Request, agent: Agent, asker: Asker, skus: Sequence[str]) -> Reading:
    """Read what is asked for, counting the request.

    Raises:
        RateLimited: the agent may not ask now.
    """
    limits = request.app[LIMITS]
    limits.check(agent)
    reading = await request.app[HUB].questions.ask(asker.keys, agent.name, limits.rate(agent), skus)
    if isinstance(reading, Limited):
        raise limits.refusal(agent, reading.wait_us)
    return reading


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
    if channel is not None:
        check_channel(agent, check_name(channel, "The channel"))

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
