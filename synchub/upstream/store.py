"""What all processes share about calls to platforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from synchub import lua, sync_keys

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Quota
    from synchub.kit import breaker
    from synchub.lua import Executes
    from synchub.upstream.model import Limits, Place, Wanted

TAKE = lua.load("upstream_take")
SETTLE = lua.load("upstream_settle")
BREAKER = lua.load("upstream_breaker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of an account's limits."""

    left: float
    capacity: float
    restored_per_s: float
    calls_today: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whether a call may begin now."""

    has_begun: bool
    left: Left
    why: str = ""
    """The limit that it waits for: bucket, throttled, slots, outranked, day or listing."""
    wait_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One request for a turn."""

    call: str
    process: str
    wanted: Wanted
    kept: float
    slots: int
    owed: float
    owed_calls: int
    lease_ms: int
    waits_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the processes together have found a breaker to be."""

    state: str
    generation: int
    trips: int
    wait_ms: int
    is_permitted: bool
    has_opened: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that is over."""

    call: str
    listing: str
    quota: Quota | None
    throttled_ms: int
    is_unused: bool


class Asked(TypedDict):
    """One step with a breaker."""

    operation: str
    step: str
    chance: float
    now_ms: int


class About(TypedDict, total=False):
    """What some steps tell."""

    permit: str
    permit_ms: int
    generation: int
    has_failed: bool
    was_slow: bool


async def take(redis: Executes, place: Place, limits: Limits, asked: Wish, *, now_ms: int) -> Turn:
    """Count a call that begins now, or learn how long it has to wait; ``now_ms`` 0 is the store's clock."""
    may, *left, why, wait_ms = await TAKE(
        redis,
        keys=_budget_keys(place),
        args={
            "call": asked.call,
            "process": asked.process,
            "priority": int(asked.wanted.priority),
            "cost": asked.wanted.cost,
            "kept": asked.kept,
            "slots": asked.slots,
            "capacity": limits.capacity,
            "rate": limits.restored_per_s,
            "per_day": limits.per_day,
            "listing": asked.wanted.listing,
            "per_listing": limits.per_listing_per_day,
            "owed": asked.owed,
            "owed_calls": asked.owed_calls,
            "lease_ms": asked.lease_ms,
            "waits_ms": asked.waits_ms,
            "now_ms": now_ms,
        },
    )
    return Turn(has_begun=bool(may), left=_left(left), why=why.decode(), wait_ms=int(wait_ms))


async def settle(redis: Executes, place: Place, limits: Limits, ended: Ended, *, now_ms: int) -> Left:
    """Note that a call is over, and what its answer says is left. Repeatable."""
    quota = ended.quota
    answer = await SETTLE(
        redis,
        keys=_budget_keys(place),
        args={
            "call": ended.call,
            "is_unused": int(ended.is_unused),
            "listing": ended.listing,
            "remaining": "" if quota is None else quota.remaining,
            "told_capacity": "" if quota is None or quota.capacity is None else quota.capacity,
            "told_rate": "" if quota is None or quota.restored_per_s is None else quota.restored_per_s,
            "throttled_ms": ended.throttled_ms,
            "capacity": limits.capacity,
            "rate": limits.restored_per_s,
            "now_ms": now_ms,
        },
    )
    return _left(answer)


async def ask_breaker(
    redis: Executes, place: Place, limits: breaker.Limits, asked: Asked, about: About
) -> Shared:
    """Take one step with the breaker that all processes share (see the script)."""
    state, generation, trips, wait_ms, is_permitted, has_opened = await BREAKER(
        redis,
        keys={"breaker": sync_keys.breaker(place.merchant, place.account)},
        args={
            "step": asked["step"],
            "operation": asked["operation"],
            "permit": about.get("permit", ""),
            "generation": about.get("generation", 0),
            "has_failed": int(about.get("has_failed", False)),
            "was_slow": int(about.get("was_slow", False)),
            "permits": limits.trials,
            "failed_percent": limits.failed_percent,
            "slow_percent": limits.slow_percent,
            "open_ms": limits.open_ms,
            "open_max_ms": limits.open_max_ms,
            "permit_ms": about.get("permit_ms", 0),
            "chance": asked["chance"],
            "now_ms": asked["now_ms"],
        },
    )
    return Shared(
        state=state.decode(),
        generation=int(generation),
        trips=int(trips),
        wait_ms=int(wait_ms),
        is_permitted=bool(is_permitted),
        has_opened=bool(has_opened),
    )


async def read(redis: Executes, place: Place) -> tuple[dict[str, str], dict[str, str], int]:
    """Return the fields of the budget, those of the breakers, and the store's present in ms."""
    budget = await redis.execute("HGETALL", sync_keys.budget(place.merchant, place.account))
    breakers = await redis.execute("HGETALL", sync_keys.breaker(place.merchant, place.account))
    seconds, micros = await redis.execute("TIME")
    return _fields(budget), _fields(breakers), int(seconds) * 1000 + int(micros) // 1000


async def is_there(redis: Executes) -> None:
    """Return when the store answers."""
    await redis.execute("PING")


def _budget_keys(place: Place) -> dict[str, str]:
    return {
        "budget": sync_keys.budget(place.merchant, place.account),
        "listings": sync_keys.listings(place.merchant, place.account),
    }


def _left(answer: list[bytes | int]) -> Left:
    left, capacity, rate, calls = answer
    return Left(
        left=float(left), capacity=float(capacity), restored_per_s=float(rate), calls_today=int(calls)
    )


def _fields(flat: list[bytes]) -> dict[str, str]:
    names, values = flat[::2], flat[1::2]
    return {name.decode(): value.decode() for name, value in zip(names, values, strict=True)}
