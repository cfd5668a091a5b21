"""What can be done with reservations: hold, look, renew, commit, release.

Each verb is decided in one step of the store and at most once for one
idempotency key: a repeat gets the first answer, and what the hold is now.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Final

from synchub.agents.model import Limited
from synchub.errors import (
    Frozen,
    HoldClosed,
    HoldUnknown,
    IdempotencyMismatch,
    InvalidRequest,
    StoreUnavailable,
)
from synchub.kit.clock import now_ms
from synchub.reservations import store
from synchub.reservations.model import Changed, Held, Outcome, Refused, Renamed, Status
from synchub.reservations.rules import check_ttl, fingerprint, refusal_of, reservation_of, why_not_held
from synchub.reservations.store import ChangeRequest, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from synchub.agents.model import Rate
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.policies.operations import PolicyDirectory
    from synchub.reservations.granting import Granter
    from synchub.reservations.model import Asker, Change, Reservation, Wanted
    from synchub.settings import Settings

_TRIES_MAX: Final = 100
"""Steps for one request, of which each but the last ends other holds or learns of newer policies."""
_TOO_MUCH: Final = "More changes by itself at once than can be worked off; try again."
_UNKNOWN: Final = "There is no such reservation."
_SECOND_MS: Final = 1000
_MISMATCH: Final = "This Idempotency-Key came with another request before; use a new one for a new request."


async def hold(
    granter: Granter,
    policies: PolicyDirectory,
    asker: Asker,
    want: Callable[[], Wanted],
    *,
    once: str,
    request: object,
    rate: Rate,
) -> Held | Refused | Renamed | Limited:
    """Hold all lines or none.

    ``want`` states the request under the policies as this process knows them; it is asked again
    when the store knows newer ones. ``once`` is the caller's idempotency key (empty: none) and
    ``request`` whatever tells this request from another one under the same key.

    Raises:
        IdempotencyMismatch: the key came with another request before.
        HoldUnknown, HoldClosed: what it is to replace is not the agent's, or has been bought.
        Frozen: after a loss of the store nothing is granted for a while.
        OutcomeUnknown: it may or may not be held; ask again with the same key.
        StoreUnavailable: nothing is held.
    """
    merchant = asker.keys.merchant
    print_ = fingerprint("hold", request) if once else ""
    for _ in range(_TRIES_MAX):
        version = policies.version(merchant)
        answer = await granter.grant(
            asker.keys,
            Request(
                wanted=want(),
                once=f"{asker.agent}:{once}" if once else "",
                fingerprint=print_,
                policy=version,
                rate=rate,
            ),
        )
        if answer.did == "policy_moved":
            await policies.refresh(merchant, unless_newer_than=version)
        elif answer.did != "again":
            return _granted(answer)
    raise StoreUnavailable(_TOO_MUCH, retry_after_s=1)


def _granted(answer: store.Answered) -> Held | Refused | Renamed | Limited:
    if answer.did == "limited":
        return Limited(wait_us=int(answer.first))
    if answer.did == "renamed":
        return Renamed()
    _raise_refusal(answer)
    if answer.did == "hold_unknown":
        raise HoldUnknown(_UNKNOWN)
    if answer.did == "closed":
        msg = f"The reservation to be replaced is {reservation_of(answer.now).status}."
        raise HoldClosed(msg)
    is_repeat = answer.did == "replay"
    if "refused" in {answer.did, answer.first_did}:
        return refusal_of(answer.first, is_repeat=is_repeat)
    first = reservation_of(answer.first)
    has_changed = answer.now and answer.now != answer.first
    current = reservation_of(answer.now).status if has_changed else first.status
    return Held(reservation=first, current=current, is_repeat=is_repeat)


def _raise_refusal(answer: store.Answered) -> None:
    if answer.did == "mismatch":
        raise IdempotencyMismatch(_MISMATCH)
    if answer.did == "frozen":
        msg = "The store has lost some history; nothing is granted while what was granted is shown again."
        raise Frozen(msg, retry_after_s=-(-int(answer.first) // _SECOND_MS))


async def change(
    redis: Executes,
    keys: MerchantKeys,
    wanted: Change,
    *,
    agent: str,
    once: str,
    rate: Rate,
    settings: Settings,
) -> Changed | Limited:
    """Renew, commit or release the agent's own reservation.

    A hold whose deadline has passed by the merchant's clock is over in every verb. With ``regrants`` a
    commit after the deadline takes the units again if they can still be had, in the same step; without
    it, it is refused. A renewal never shortens, and no hold lives longer than :func:`life_ms` of its mode.
    A commit with ``lines`` buys those and gives the rest back, in the same step.

    Raises:
        IdempotencyMismatch: the key came with another request before.
        InvalidRequest: a renewal is asked for longer than the hold's mode allows, or a commit buys
            what is not held.
        Frozen: after a loss of the store the hold may still be shown to have been granted.
        OutcomeUnknown: it may or may not be done; ask again with the same key.
        StoreUnavailable: nothing has changed.
    """
    request = ChangeRequest(
        change=wanted,
        agent=agent,
        once=f"{agent}:{once}" if once else "",
        fingerprint=fingerprint(*astuple(wanted)),
        rate=rate,
    )
    for _ in range(_TRIES_MAX):
        answer = await store.change(redis, keys, request, now_ms=now_ms(), settings=settings)
        if answer.did != "again":
            return _changed(answer, wanted.ttl_ms)
    raise StoreUnavailable(_TOO_MUCH, retry_after_s=1)


def _changed(answer: store.Answered, ttl_ms: int) -> Changed | Limited:
    if answer.did == "limited":
        return Limited(wait_us=int(answer.first))
    _raise_refusal(answer)
    if answer.did == "ttl_refused":
        check_ttl(reservation_of(answer.now).mode, ttl_ms)
    if answer.did == "not_held":
        raise InvalidRequest(why_not_held(answer.first))
    is_repeat = answer.did == "replay"
    outcome = Outcome(answer.first_did if is_repeat else answer.did)
    stored = answer.first or answer.now
    return Changed(
        outcome=outcome,
        reservation=reservation_of(stored) if stored else None,
        current=reservation_of(answer.now).status if answer.now else None,
        is_repeat=is_repeat,
    )


async def look(
    redis: Executes, keys: MerchantKeys, reservation: str, *, agent: str, settings: Settings
) -> Reservation:
    """Return the agent's own reservation as it is now.

    Raises:
        HoldUnknown: there is none of that id, it is another agent's, or it was long ago.
    """
    stored, clock_ms = await store.read(redis, keys, reservation, now_ms=now_ms(), settings=settings)
    found = reservation_of(stored) if stored else None
    if found is None or found.agent != agent:
        raise HoldUnknown(_UNKNOWN)
    if found.status is Status.HELD and found.expires_ms <= clock_ms:
        return found._replace(status=Status.EXPIRED)
    return found
