"""What can be done with sets of SKUs: make, change, show, delete.

A set belongs to one agent of one merchant and is followed with ``set=<id>``. Long ones are written in
steps, each a revision of its own, so that the store is never held up; an interrupted change can be
repeated as it was.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub.errors import InvalidRequest, NotFound, RateLimited
from synchub.feed import set_store
from synchub.feed.set_store import SetWrite
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from synchub.feed.model import Filter
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import FeedSettings

STEP: Final = 1000
"""Most SKUs that are written in one step."""
ID_BYTES: Final = 12
_RETRY_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SetState:
    """A set as its agent is told of it."""

    id: str
    rev: int
    count: int
    """How many SKUs it has."""
    mark: str = ""
    """Tells its revision from another of the same number, where that was looked up."""


async def create(
    redis: Executes, keys: MerchantKeys, agent: str, skus: Sequence[str], *, limits: FeedSettings
) -> SetState:
    """Make a set of these SKUs.

    Raises:
        InvalidRequest: more SKUs than a set may have; nothing was made.
        RateLimited: the agent has as many sets as it may.
        OutcomeUnknown, StoreUnavailable: it may have been made in part; such a set dies of itself.
    """
    unique = list(dict.fromkeys(skus))
    if len(unique) > limits.set_skus_max:
        raise _too_large(limits)
    set_id = f"fs_{secrets.token_urlsafe(ID_BYTES)}"
    first, *rest = [added for added, _ in _steps(unique, ())] or [()]
    step = SetWrite(agent=agent, set_id=set_id, added=first, is_new=True)
    state = await _write(redis, keys, step, limits)
    for added in rest:
        state = await _write(redis, keys, SetWrite(agent=agent, set_id=set_id, added=added), limits)
    return state


async def change(
    redis: Executes,
    keys: MerchantKeys,
    agent: str,
    set_id: str,
    *,
    add: Sequence[str],
    remove: Sequence[str],
    limits: FeedSettings,
) -> SetState:
    """Remove SKUs from a set and add others; one that is named in both lists is in it afterwards.

    Repeatable. What is more than ``STEP`` SKUs is done in several revisions, removals first.

    Raises:
        NotFound: the agent has no such set.
        InvalidRequest: it would have more SKUs than it may; what did not fit was not added.
        OutcomeUnknown, StoreUnavailable: it may have been done in part; repeat it.
    """
    state = None
    for added, removed in _steps(list(dict.fromkeys(add)), list(dict.fromkeys(remove))):
        step = SetWrite(agent=agent, set_id=set_id, added=added, removed=removed)
        state = await _write(redis, keys, step, limits)
    return state or await look_up(redis, keys, agent, set_id, limits=limits)


async def look_up(
    redis: Executes, keys: MerchantKeys, agent: str, set_id: str, *, limits: FeedSettings
) -> SetState:
    """Return a set of the agent's and let it live on.

    Raises:
        NotFound: the agent has no such set.
    """
    rev, mark, count = await set_store.use(redis, keys, agent, set_id, now_ms=now_ms(), limits=limits)
    if not rev:
        raise _unknown()
    return SetState(id=set_id, rev=rev, count=count, mark=mark)


async def read(
    redis: Executes, keys: MerchantKeys, agent: str, set_id: str, *, limits: FeedSettings
) -> Filter:
    """Return a set of the agent's with its SKUs, and let it live on.

    Raises:
        NotFound: the agent has no such set.
        StoreUnavailable: it could not be read.
    """
    await look_up(redis, keys, agent, set_id, limits=limits)
    found = await set_store.read(redis, keys, set_id)
    if not found.rev:
        raise _unknown()
    return found


async def delete(
    redis: Executes, keys: MerchantKeys, agent: str, set_id: str, *, limits: FeedSettings
) -> None:
    """Delete a set; who follows it is sent away.

    Raises:
        NotFound: the agent has no such set.
    """
    if not await set_store.delete(redis, keys, agent, set_id, limits=limits):
        raise _unknown()


async def _write(redis: Executes, keys: MerchantKeys, step: SetWrite, limits: FeedSettings) -> SetState:
    outcome, rev, count = await set_store.write(redis, keys, step, now_ms=now_ms(), limits=limits)
    if outcome == "unknown":
        raise _unknown()
    if outcome == "large":
        raise _too_large(limits)
    if outcome == "many":
        msg = f"This key already has {limits.sets_per_agent} sets; delete one, or let one end."
        raise RateLimited(msg, retry_after_s=_RETRY_S)
    return SetState(id=step.set_id, rev=rev, count=count)


def _steps(add: Sequence[str], remove: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Split a change; one that fits is a single step. No SKU is in both lists of a step."""
    added = set(add)
    remove = [sku for sku in remove if sku not in added]
    if 0 < len(add) + len(remove) <= STEP:
        yield add, remove
        return
    for start in range(0, len(remove), STEP):
        yield (), remove[start : start + STEP]
    for start in range(0, len(add), STEP):
        yield add[start : start + STEP], ()


def _unknown() -> NotFound:
    return NotFound("This key has no such set.")


def _too_large(limits: FeedSettings) -> InvalidRequest:
    return InvalidRequest(f"A set may have at most {limits.set_skus_max} SKUs.")
