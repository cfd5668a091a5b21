"""Holds of one merchant in Redis: three scripts and nothing decided here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from synchub import lua
from synchub.reservations.rules import REVIEW_WITHIN_MS, TTL_MS, life_ms
from synchub.steps import memory_args, saw, step_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.agents.model import Rate
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.redis import Part
    from synchub.reservations.model import Change, Wanted, WantedLine
    from synchub.settings import Settings

GRANT = lua.load("grant")
CHANGE = lua.load("change_hold")
READ = lua.load("read_hold")


class Answered(NamedTuple):
    """What a script has said: what it did, its first answer, and the hold as it is now."""

    did: str
    first: bytes
    now: bytes
    first_did: str
    """What it did the first time, where this is a repeat."""


class Request(NamedTuple):
    """One request for a hold as the grant script takes it."""

    wanted: Wanted
    once: str
    """The agent's idempotency key; empty: none."""
    fingerprint: str
    policy: int
    """The version of the policies that the terms follow from."""
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """One request to change a hold as the script takes it."""

    change: Change
    agent: str
    once: str
    """The agent's idempotency key; empty: none."""
    fingerprint: str
    rate: Rate


async def grant(
    redis: Executes, keys: MerchantKeys, requests: Sequence[Request], *, now_ms: int, settings: Settings
) -> list[Answered]:
    """Run the grant script once for all requests of one merchant; one answer each, in order.

    Raises:
        ResponseError: the script has a fault in one of them; the others were decided.
    """
    epoch, seq, answers = await GRANT(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            "remember_ms": memory_args(settings)["remember_ms"],
            "feed_max": settings.feed.retained,
            "review_ms": REVIEW_WITHIN_MS,
        },
        rest=[part for request in requests for part in _request_args(request)],
    )
    saw(redis, keys, epoch, seq)
    return [
        Answered(did=did.decode(), first=first, now=now, first_did=before[0].decode() if before else "")
        for did, first, now, *before in answers
    ]


def _request_args(request: Request) -> list[Part]:
    wanted, asker = request.wanted, request.wanted.asker
    terms = [line.terms for line in wanted.lines]
    transactions = [one.transactions_per_session for one in terms if one.transactions_per_session is not None]
    return [
        request.once,
        request.fingerprint,
        request.policy,
        request.rate.interval_us,
        request.rate.burst,
        asker.agent,
        asker.buyer,
        asker.session,
        asker.channel,
        asker.tier,
        wanted.mode,
        wanted.ttl_ms,
        life_ms(wanted.mode),
        max(one.confirm_ms for one in terms),
        terms[0].conflict,
        min(transactions) if transactions else "",
        _or_nothing(wanted.expected_seq),
        wanted.replaces,
        TTL_MS[wanted.mode][1],
        wanted.ship_to,
        len(wanted.lines),
        *_line_args(wanted.lines),
    ]


async def change(
    redis: Executes, keys: MerchantKeys, request: ChangeRequest, *, now_ms: int, settings: Settings
) -> Answered:
    """Run the script that renews, commits or releases."""
    asked = request.change
    did, first, now, *more = await CHANGE(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now_ms, settings=settings),
            **memory_args(settings),
            "feed_max": settings.feed.retained,
            "interval_us": request.rate.interval_us,
            "burst": request.rate.burst,
            "verb": asked.verb,
            "once": request.once,
            "fingerprint": request.fingerprint,
            "agent": request.agent,
            "id": asked.hold,
            "ttl_ms": asked.ttl_ms,
            "order_id": asked.order,
            "expected_seq": _or_nothing(asked.expected_seq),
            "regrants": int(asked.regrants),
        },
        rest=[part for line in asked.lines for part in (line.sku, line.quantity, line.location)],
    )
    if len(more) > 1:
        saw(redis, keys, *more[1:])
    return Answered(did=did.decode(), first=first, now=now, first_did=more[0].decode() if more else "")


async def read(
    redis: Executes, keys: MerchantKeys, hold: str, *, now_ms: int, settings: Settings
) -> tuple[bytes, int]:
    """Return the stored hold, empty when there is none, and the present by the merchant's clock."""
    stored, clock = await READ(
        redis,
        keys={"head": keys.head},
        args={**step_args(keys, now_ms=now_ms, settings=settings), "id": hold},
    )
    return stored, int(clock)


def _line_args(lines: Sequence[WantedLine]) -> list[Part]:
    """Return the lines as the grant script reads them, fourteen arguments each."""
    found: list[Part] = []
    for line in lines:
        terms = line.terms
        found += [
            line.sku,
            line.quantity,
            line.location,
            terms.buffer_units,
            terms.buffer_bp,
            terms.lag_units,
            terms.allowance_bp,
            _or_nothing(terms.channel_cap),
            _or_nothing(terms.units_per_agent),
            _or_nothing(terms.units_per_buyer),
            terms.on_stale,
            terms.on_unknown,
            int(terms.split),
            _or_nothing(line.ver),
        ]
    return found


def _or_nothing(number: int | None) -> Part:
    return "" if number is None else number
