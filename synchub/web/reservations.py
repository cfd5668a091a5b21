"""How agents hold stock and buy it. What is refused for want of stock is an answer, not an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, assert_never

from synchub.agents.model import Limited, Scope
from synchub.availability.bodies import stock_body
from synchub.availability.checksums import check
from synchub.availability.rules import disclosed
from synchub.decisions.model import DecisionKind
from synchub.errors import (
    HoldClosed,
    HoldExpired,
    HoldUnknown,
    InvalidRequest,
    SequenceMoved,
    StoreUnavailable,
)
from synchub.keyspace import MerchantKeys, check_name
from synchub.mappings.aliases import present_names
from synchub.reservations import operations as reservations
from synchub.reservations.model import (
    CHANGED,
    Asker,
    BoughtLine,
    Change,
    Held,
    Outcome,
    Reason,
    Refused,
    Renamed,
    Verb,
    Wanted,
    WantedLine,
)
from synchub.reservations.rules import check_ttl
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of, check_channel
from synchub.web.bodies import read_body, sku_of
from synchub.web.deadline import Effect, in_time
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS
from synchub.web.noting import note_refusal, note_reservation
from synchub.web.reservation_bodies import (
    CommitRequest,
    HoldRequest,
    ReleaseRequest,
    RenewRequest,
    claim,
    folded,
    key_of,
    reservation_body,
)
from synchub.web.stock import look_at
from synchub.web.terms import channel_of, terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from synchub.agents.model import Agent
    from synchub.availability.bodies import Json, Told
    from synchub.hub import Hub
    from synchub.reservations.model import Changed, Reservation, Status
    from synchub.web.reservation_bodies import Where

_KINDS: Final = {
    Verb.RENEW: DecisionKind.RENEW,
    Verb.COMMIT: DecisionKind.COMMIT,
    Verb.RELEASE: DecisionKind.RELEASE,
}
_RENAMES_MAX: Final = 5
"""Times that one request is asked again because a SKU has got another name meanwhile."""
_HAS_OTHER_REASONS: Final = frozenset({Reason.CHANGED, Reason.UNIT_LIMIT, Reason.TRANSACTION_LIMIT})
"""With these another SKU is no answer to the refusal."""


def add_reservation_routes(app: web.Application) -> None:
    """Add the routes for reservations; each request's token is counted in the step that decides it."""
    app.router.add_post("/v1/reservations", hold, name="reservations")
    app.router.add_get("/v1/reservations/{id}", show, name="reservation")
    app.router.add_post("/v1/reservations/{id}/renew", renew, name="reservation_renew")
    app.router.add_post("/v1/reservations/{id}/commit", commit, name="reservation_commit")
    app.router.add_post("/v1/reservations/{id}/release", release, name="reservation_release")


@in_time(Effect.WRITE)
async def hold(request: web.Request) -> web.Response:
    """Hold everything that is asked for, or nothing and say why."""
    agent = agent_of(request, Scope.RESERVATIONS)
    body = await read_body(request, HoldRequest)
    hub, limits = request.app[HUB], request.app[LIMITS]
    limits.check(agent)
    asked = _asking(agent, body)
    asker = _asker(agent, asked)
    answer, asked = await _decide(request, agent, asker, asked)
    match answer:
        case Held():
            if not answer.is_repeat:
                note_reservation(hub, agent.merchant, DecisionKind.HOLD, answer.reservation, answer.current)
            told = _told(hub, agent, answer.reservation, answer.current)
            return answer_json(told | _renamed_body(asked), status=HTTPStatus.CREATED)
        case Refused():
            return await _refused(request, agent, asker, asked, answer)
        case Limited():
            raise limits.refusal(agent, answer.wait_us)
    assert_never(answer)


@in_time(Effect.READ)
async def show(request: web.Request) -> web.Response:
    """Answer with one of the agent's own reservations as it is now."""
    agent = agent_of(request, Scope.RESERVATIONS)
    hub = request.app[HUB]
    await request.app[LIMITS].take(agent)
    found = await reservations.look(
        hub.redis,
        MerchantKeys(agent.merchant),
        _id(request),
        agent=agent.name,
        settings=hub.settings,
    )
    return answer_json(_told(hub, agent, found, found.status))


@in_time(Effect.WRITE)
async def renew(request: web.Request) -> web.Response:
    """Let a hold live longer."""
    agent = agent_of(request, Scope.RESERVATIONS)
    body = await read_body(request, RenewRequest)
    return await _change(request, agent, Change(verb=Verb.RENEW, hold=_id(request), ttl_ms=body.ttl_ms))


@in_time(Effect.WRITE)
async def commit(request: web.Request) -> web.Response:
    """Buy what is held, or a part of it; the rest is given back."""
    agent = agent_of(request, Scope.RESERVATIONS)
    body = await read_body(request, CommitRequest)
    asked = Change(
        verb=Verb.COMMIT,
        hold=_id(request),
        order=claim(body.order_id, "order_id"),
        expected_seq=body.expected_seq,
        regrants=body.regrant,
        lines=tuple(
            BoughtLine(sku=sku, quantity=quantity, location=location)
            for (sku, location), quantity in folded(body.lines or ()).items()
        ),
    )
    return await _change(request, agent, asked)


@in_time(Effect.WRITE)
async def release(request: web.Request) -> web.Response:
    """Give back what is held."""
    agent = agent_of(request, Scope.RESERVATIONS)
    if request.can_read_body:
        await read_body(request, ReleaseRequest)
    return await _change(request, agent, Change(verb=Verb.RELEASE, hold=_id(request)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """A request for a hold, checked."""

    body: HoldRequest
    channel: str | None
    lines: Mapping[Where, int]
    ttl_ms: int
    names: Mapping[str, str] = field(default_factory=dict)
    """Present names of SKUs that were asked for by an old one; ``lines`` has the present ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """Whose checksums were sent, and whether they still are those of the answers."""

    policy: int
    versions: Mapping[str, int]

    def version(self, sku: str, policy: int) -> int | None:
        """Return the version that the asker was shown; other policies have other answers."""
        shown = self.versions.get(sku)
        return shown if shown is None or policy == self.policy else CHANGED


_NOTHING_SHOWN: Final = _Shown(policy=0, versions={})


def _asking(agent: Agent, body: HoldRequest) -> _Asking:
    return _Asking(
        body=body,
        channel=_channel(agent, body),
        lines=folded(body.lines),
        ttl_ms=check_ttl(body.mode, body.ttl_ms),
    )


def _channel(agent: Agent, body: HoldRequest) -> str | None:
    if body.channel is not None:
        check_channel(agent, check_name(body.channel, "The channel"))
    channel = channel_of(agent.channels, body.channel)
    if channel is None and agent.channels:
        # What is sold counts for a channel, and a key that has some may not sell past all of them.
        msg = f"Name the channel: this key is for {', '.join(sorted(agent.channels))}."
        raise InvalidRequest(msg)
    return channel


def _asker(agent: Agent, asked: _Asking) -> Asker:
    return Asker(
        keys=MerchantKeys(agent.merchant),
        agent=agent.name,
        tier=agent.tier,
        channel=asked.channel or "",
        buyer=claim(asked.body.buyer, "buyer"),
        session=claim(asked.body.session, "session"),
    )


async def _decide(
    request: web.Request, agent: Agent, asker: Asker, asked: _Asking
) -> tuple[Held | Refused | Limited, _Asking]:
    """Have the request decided; what was asked for by an old name is asked for by the present one."""
    hub, limits = request.app[HUB], request.app[LIMITS]
    once = key_of(request)
    for _ in range(_RENAMES_MAX):
        shown = await _shown(request, agent, asked)
        answer = await reservations.hold(
            hub.granter,
            hub.policies,
            asker,
            partial(_wanted, hub, agent, asker, asked, shown),
            once=once,
            request=asked.body.model_dump_json(),
            rate=limits.rate(agent),
        )
        if not isinstance(answer, Renamed):
            return answer, await _as_answered(hub, asker, asked, answer)
        asked = await _by_present_names(hub, asker, asked)
    msg = "The SKU gets other names all the time; try again."
    raise StoreUnavailable(msg, retry_after_s=1)


async def _by_present_names(hub: Hub, asker: Asker, asked: _Asking) -> _Asking:
    names = await present_names(hub.redis, asker.keys, sorted({*_skus(asked.body)}))
    lines: dict[Where, int] = {}
    for (sku, location), quantity in folded(asked.body.lines).items():
        where = names.get(sku, sku), location
        lines[where] = lines.get(where, 0) + quantity
    return replace(asked, lines=lines, names=names)


async def _as_answered(hub: Hub, asker: Asker, asked: _Asking, answer: Held | Refused | Limited) -> _Asking:
    """A repeat gets its first answer, which may be under a name that was found then."""
    skus, told = {sku for sku, _ in asked.lines}, set[str]()
    if isinstance(answer, Held):
        told = {line.sku for line in answer.reservation.lines}
    elif isinstance(answer, Refused):
        told = {answer.sku}
    return asked if told <= skus else await _by_present_names(hub, asker, asked)


def _renamed_body(asked: _Asking) -> dict[str, Json]:
    """Say of each SKU that was asked for by an old name what it is called now; nothing where none was."""
    return {"renamed": dict(asked.names)} if asked.names else {}


async def _shown(request: web.Request, agent: Agent, asked: _Asking) -> _Shown:
    """Compare the checksums that were sent with those of the present answers.

    What differs is refused by the script and not here: a repeat gets its first answer, whatever has changed.
    """
    if all(row.checksum is None for row in asked.body.lines):
        return _NOTHING_SHOWN
    version = request.app[HUB].policies.version(agent.merchant)
    skus = [asked.names.get(sku, sku) for sku in _skus(asked.body)]
    sent = {(sku, row.checksum) for row, sku in zip(asked.body.lines, skus, strict=True)}
    wanted = {sku: None for sku, checksum in sent if checksum is not None}
    answers = await look_at(request, agent, asked.channel, wanted)
    present = {told.answer.sku: told for told in answers.told}
    changed = {sku for sku, one in sent if one is not None and not check(one, present[sku].checksum)}
    versions = {sku: CHANGED if sku in changed else told.answer.ver for sku, told in present.items()}
    return _Shown(policy=version, versions=versions)


def _wanted(hub: Hub, agent: Agent, asker: Asker, asked: _Asking, shown: _Shown) -> Wanted:
    policy = hub.policies.version(agent.merchant)
    return Wanted(
        asker=asker,
        lines=tuple(
            WantedLine(
                sku=sku,
                quantity=quantity,
                location=location,
                terms=terms_of(hub, agent, sku, asked.channel),
                ver=shown.version(sku, policy),
            )
            for (sku, location), quantity in asked.lines.items()
        ),
        mode=asked.body.mode,
        ttl_ms=asked.ttl_ms,
        expected_seq=asked.body.expected_seq,
        replaces=asked.body.replaces,
        ship_to=asked.body.ship_to.country if asked.body.ship_to else "",
    )


async def _refused(
    request: web.Request, agent: Agent, asker: Asker, asked: _Asking, refusal: Refused
) -> web.Response:
    """Say why, and what can be had instead: the merchant's own substitutes that are there."""
    units = sum(quantity for (sku, _), quantity in asked.lines.items() if sku == refusal.sku)
    lacks = () if refusal.reason in _HAS_OTHER_REASONS else (refusal.sku,)
    answers = await look_at(request, agent, asked.channel, {refusal.sku: units}, lacks=lacks)
    told = answers.told[0]
    if not refusal.is_repeat:
        note_refusal(request.app[HUB], asker, DecisionKind.HOLD, asked.lines, refusal, told)
    return answer_json(_refusal_body(refusal, told) | _renamed_body(asked))


def _refusal_body(refusal: Refused, told: Told) -> dict[str, Json]:
    answer = stock_body(told)
    return {
        "status": "refused",
        "current_status": "refused",
        "reason": refusal.reason.value,
        "sku": refusal.sku,
        "available": disclosed(refusal.available, told.terms.disclosure),
        "seq": refusal.seq,
        "answer": answer,
        "fallback_options": answer["fallback_options"],
    }


async def _change(request: web.Request, agent: Agent, asked: Change) -> web.Response:
    hub, limits = request.app[HUB], request.app[LIMITS]
    limits.check(agent)
    answer = await reservations.change(
        hub.redis,
        MerchantKeys(agent.merchant),
        asked,
        agent=agent.name,
        once=key_of(request),
        rate=limits.rate(agent),
        settings=hub.settings,
    )
    if isinstance(answer, Limited):
        raise limits.refusal(agent, answer.wait_us)
    if answer.reservation is None:
        msg = "There is no such reservation."
        raise HoldUnknown(msg)
    if not answer.is_repeat:
        is_done = answer.outcome is Outcome.DONE
        outcome = answer.reservation.status.value if is_done else answer.outcome.value
        reason = answer.reservation.resolution
        note_reservation(hub, agent.merchant, _KINDS[asked.verb], answer.reservation, outcome, reason)
    _raise_refusal(answer)
    body = _told(hub, agent, answer.reservation, answer.current)
    if answer.outcome is Outcome.CONFLICT:
        body |= {"status": "conflict", "resolution": answer.reservation.resolution}
    return answer_json(body)


def _raise_refusal(answer: Changed) -> None:
    match answer.outcome:
        case Outcome.DONE | Outcome.CONFLICT:
            return
        case Outcome.EXPIRED:
            msg = "The hold's time is over; ask for a new one, or commit with regrant."
            raise HoldExpired(msg)
        case Outcome.CLOSED:
            now = answer.current.value if answer.current else "over"
            msg = f"The reservation is {now} and cannot be changed any more."
            raise HoldClosed(msg)
        case Outcome.SEQUENCE_MOVED:
            msg = "What is held is no longer covered; commit without expected_seq, or release it."
            raise SequenceMoved(msg)
        case Outcome.UNKNOWN:
            msg = "There is no such reservation."
            raise HoldUnknown(msg)
    assert_never(answer.outcome)


def _told(hub: Hub, agent: Agent, found: Reservation, current: Status | None) -> dict[str, Json]:
    key = hub.vault.merchant_key(agent.merchant, "token")
    return reservation_body(key, agent.merchant, found, current)


def _skus(body: HoldRequest) -> list[str]:
    return [sku_of(row.sku) for row in body.lines]


def _id(request: web.Request) -> str:
    return request.match_info["id"]
