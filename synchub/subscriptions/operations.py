"""What can be done with subscriptions: make one, look, renew, rotate, try it, redrive, delete; deliver.

Whatever an agent asks for is written down at once; the worker that tells the merchant's subscribers takes it
up within half a second. A subscription belongs to the key that it was made with: every other key, of the same
agent too, finds nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.accounts.model import Place
from synchub.agents.model import Scope
from synchub.connector_kit.signatures import new_secret
from synchub.errors import Conflict, InvalidRequest, NotFound
from synchub.keyspace import MerchantKeys
from synchub.kit.breaker import Limits
from synchub.kit.clock import now_ms
from synchub.kit.outbound import guarded_session, networks_of
from synchub.subscriptions import occurrences, rules, store
from synchub.subscriptions.catching_up import head_of
from synchub.subscriptions.dispatching import Dispatcher
from synchub.subscriptions.equipment import Equipment
from synchub.subscriptions.model import (
    EVERYTHING,
    SealedSecret,
    Spot,
    Standing,
    Status,
    Subscription,
)

if TYPE_CHECKING:
    from synchub.accounts.directory import Directory
    from synchub.accounts.vault import Vault
    from synchub.agents.model import Agent
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.subscriptions.model import Attempt, Filter
    from synchub.subscriptions.occurrences import Decisions

FAILING_SHARE: Final = 4
"""Of the requests at once, endpoints that failed last may have one in so many."""
LOOKS_AT_ONCE: Final = 8
"""Lanes of one process that read what they have missed at once, so that the store has time for others."""
BREAKER: Final = Limits(window=20, calls_min=10, open_ms=30_000, open_max_ms=600_000, trials=1)
"""An endpoint of which half of the last calls have failed is left alone, and then tried by one call."""

_HOUR_MS: Final = 3_600_000
_NAME_BYTES: Final = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What is needed to serve agents."""

    redis: Executes
    vault: Vault
    decided: Decisions
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an agent wants to be told, and where."""

    url: str
    filter: Filter
    channel: str | None
    ttl_ms: int | None = None
    since: str = "now"
    """``now``, ``everything``, or a cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A subscription as its agent sees it."""

    subscription: Subscription
    standing: Standing
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A subscription and its present secret, which is told only here."""

    shown: Shown
    secret: str


async def subscribe(desk: Desk, agent: Agent, wanted: Wanted) -> Issued:
    """Make a subscription; what is there already is not made again, but one that is over gives way.

    Raises:
        InvalidRequest: address, filter or position do not fit.
        Conflict: there is one for this address, filter and channel; its sentence names it.
        RateLimited: the agent, the merchant or the hub has as many as it may.
        OutcomeUnknown, StoreUnavailable: it may or may not have been made; list them.
    """
    limits, keys = desk.settings.subscriptions, MerchantKeys(agent.merchant)
    rules.check_url(wanted.url, may_be_plain=bool(limits.private_targets))
    if len(wanted.filter.skus) > limits.skus_max:
        msg = f"A subscription may name at most {limits.skus_max} SKUs."
        raise InvalidRequest(msg)
    name = rules.identity(agent.merchant, agent.key_hash, wanted.url, wanted.filter, wanted.channel)
    before = await _make_way(desk, agent, name)
    spot = await _spot_of(desk, keys, wanted.since)
    now, secret = now_ms(), new_secret()
    subscription = Subscription(
        id=name,
        merchant=agent.merchant,
        agent=agent.name,
        key_hash=agent.key_hash,
        url=wanted.url,
        filter=wanted.filter,
        channel=wanted.channel,
        secrets=(SealedSecret(ciphertext=desk.vault.seal(secret, _place(agent.merchant, name))),),
        created_at_ms=now,
        expires_at_ms=now + rules.granted_ms(wanted.ttl_ms, limits.grant_ms),
    )
    view = occurrences.view_of(desk.decided, subscription, agent, desk.settings.stock.low_threshold)
    standing = Standing(born_ms=now, spot=spot, view=occurrences.mark_of(view))
    # The lane first: a subscription without one would have no position.
    await store.open_lane(desk.redis, keys, name, standing)
    limit = await store.write(desk.redis, subscription, before=before, settings=limits)
    if limit is not None:
        await store.close_lane(desk.redis, keys, name)
        metrics.subscriptions_refused.labels(limit.value).inc()
        raise store.refusal_of(limit, limits)
    await store.keep_lane(desk.redis, keys, name)
    return Issued(shown=_shown(subscription, standing), secret=secret)


async def list_subscriptions(desk: Desk, agent: Agent) -> list[Shown]:
    """Return what was made with this key and is kept, by id."""
    keys, found = MerchantKeys(agent.merchant), []
    for subscription in await store.read_all(desk.redis, agent.merchant):
        if _is_of(subscription, agent):
            standing = await store.read_lane(desk.redis, keys, subscription.id)
            if standing is not None:
                found.append(_shown(subscription, standing))
    return found


async def show(desk: Desk, agent: Agent, name: str) -> Shown:
    """Return one subscription.

    Raises:
        NotFound: none of that id was made with this key.
    """
    subscription, _ = await _own(desk, agent, name)
    return await _look(desk, subscription)


async def renew(desk: Desk, agent: Agent, name: str, ttl_ms: int | None = None) -> Shown:
    """Grant it anew from now on; one that was disabled or has expired goes on and catches up.

    Raises:
        NotFound: none of that id was made with this key.
        Conflict: it has ended for good, or was changed by somebody else at the same moment.
    """
    subscription, record = await _own(desk, agent, name)
    shown = await _look(desk, subscription)
    if shown.status is Status.ENDED:
        msg = f"Subscription {name} has ended: its endpoint said that it is gone. Make a new one."
        raise Conflict(msg)
    limits = desk.settings.subscriptions
    after = replace(subscription, expires_at_ms=now_ms() + rules.granted_ms(ttl_ms, limits.grant_ms))
    wish = _wish()
    await store.ask(desk.redis, MerchantKeys(agent.merchant), name, {"renew": wish})
    await store.write(desk.redis, after, before=record, settings=limits)
    asked = replace(shown.standing.asked, renew=wish)
    return _shown(after, replace(shown.standing, asked=asked))


async def rotate(desk: Desk, agent: Agent, name: str) -> Issued:
    """Give it another secret; the one before signs beside it for ``secrets.rotation_overlap_hours``.

    Raises:
        NotFound, Conflict: as :func:`renew` says.
    """
    subscription, record = await _own(desk, agent, name)
    secret = new_secret()
    until_ms = now_ms() + desk.settings.secrets.rotation_overlap_hours * _HOUR_MS
    fresh = SealedSecret(ciphertext=desk.vault.seal(secret, _place(agent.merchant, name)))
    after = replace(subscription, secrets=(fresh, replace(subscription.secrets[0], until_ms=until_ms)))
    await store.write(desk.redis, after, before=record, settings=desk.settings.subscriptions)
    return Issued(shown=await _look(desk, after), secret=secret)


async def send_test(desk: Desk, agent: Agent, name: str) -> str:
    """Have a test occurrence sent, once; returns its id, under which the attempts tell what came of it.

    Raises:
        NotFound: none of that id was made with this key.
        Conflict: nothing is sent for it at present.
    """
    message = f"msg_{_wish()}"
    await _put_wish(desk, agent, name, "test", message)
    return message


async def redrive(desk: Desk, agent: Agent, name: str, since: str) -> None:
    """Have everything told again that has changed after a position, under new ids (see :class:`Wanted`).

    Raises:
        NotFound: none of that id was made with this key.
        Conflict: nothing is sent for it at present.
        InvalidRequest: no position of this history.
    """
    spot = await _spot_of(desk, MerchantKeys(agent.merchant), since)
    await _put_wish(desk, agent, name, "redrive", f"{_wish()} {spot.epoch} {spot.seq}")


async def list_attempts(desk: Desk, agent: Agent, name: str, *, limit: int) -> list[Attempt]:
    """Return the newest attempts, newest first.

    Raises:
        NotFound: none of that id was made with this key.
    """
    await _own(desk, agent, name)
    return await store.read_attempts(desk.redis, MerchantKeys(agent.merchant), name, limit=limit)


async def delete(desk: Desk, agent: Agent, name: str) -> None:
    """End it and forget it; what is being sent at this moment may still arrive.

    Raises:
        NotFound: none of that id was made with this key.
        Conflict: it was changed by somebody else at the same moment.
    """
    subscription, record = await _own(desk, agent, name)
    await _forget(desk, subscription, record)


async def deliver(
    redis: Executes,
    directory: Directory,
    vault: Vault,
    decided: Decisions,
    settings: Settings,
    *,
    breaker: Limits = BREAKER,
) -> None:
    """Tell subscribers what there is to tell, until cancelled.

    Any number of processes may do so: each merchant's subscribers are told by one of them. What was being
    sent when one ends is sent again by another, under the same id.

    Raises:
        ValueError: ``subscriptions.private_targets`` does not hold networks.
    """

    def opened(subscription: Subscription, secret: SealedSecret) -> str:
        return vault.unseal(secret.ciphertext, _place(subscription.merchant, subscription.id))

    def holder_of(subscription: Subscription) -> Agent | None:
        agent = directory.find_by_hash(subscription.key_hash)
        return agent if agent is not None and _may_have(agent, subscription) else None

    limits = settings.subscriptions
    await directory.loaded.wait()
    async with guarded_session(
        allowed=networks_of(limits.private_targets), connections_max=limits.at_once
    ) as session:
        equipment = Equipment(
            redis=redis,
            settings=settings,
            session=session,
            decided=decided,
            holder_of=holder_of,
            opened=opened,
            owner=secrets.token_hex(8),
            slots=asyncio.Semaphore(limits.at_once),
            slots_failing=asyncio.Semaphore(max(1, limits.at_once // FAILING_SHARE)),
            looks=asyncio.Semaphore(LOOKS_AT_ONCE),
            breaker=breaker,
        )
        await Dispatcher(equipment).run()


async def _make_way(desk: Desk, agent: Agent, name: str) -> bytes:
    """Take away what is over under this name."""
    present, record = await store.read(desk.redis, agent.merchant, name)
    if present is None:
        return b""
    standing = await store.read_lane(desk.redis, MerchantKeys(agent.merchant), name)
    if standing and rules.status_of(present, standing, now_ms()) in {Status.ACTIVE, Status.DISABLED}:
        msg = f"Subscription {name} is for this address, filter and channel; renew it, or rotate its secret."
        raise Conflict(msg)
    await _forget(desk, present, record)
    return b""


async def _forget(desk: Desk, subscription: Subscription, record: bytes) -> None:
    limits = desk.settings.subscriptions
    await store.write(desk.redis, subscription, before=record, is_gone=True, settings=limits)
    await store.close_lane(desk.redis, MerchantKeys(subscription.merchant), subscription.id)


async def _own(desk: Desk, agent: Agent, name: str) -> tuple[Subscription, bytes]:
    subscription, record = await store.read(desk.redis, agent.merchant, name)
    if subscription is None or not _is_of(subscription, agent):
        msg = f"There is no subscription {name}."
        raise NotFound(msg)
    return subscription, record


def _may_have(agent: Agent, subscription: Subscription) -> bool:
    """Say whether the key still allows what it allowed when the subscription was made."""
    channel = subscription.channel
    has_channel = channel is None or not agent.channels or channel in agent.channels
    return Scope.FEED_READ in agent.scopes and has_channel


def _is_of(subscription: Subscription, agent: Agent) -> bool:
    return (subscription.agent, subscription.key_hash) == (agent.name, agent.key_hash)


async def _look(desk: Desk, subscription: Subscription) -> Shown:
    keys = MerchantKeys(subscription.merchant)
    standing = await store.read_lane(desk.redis, keys, subscription.id)
    if standing is None:
        msg = f"There is no subscription {subscription.id}."
        raise NotFound(msg)
    return _shown(subscription, standing)


def _shown(subscription: Subscription, standing: Standing) -> Shown:
    status = rules.status_of(subscription, standing, now_ms())
    return Shown(subscription=subscription, standing=standing, status=status)


async def _put_wish(desk: Desk, agent: Agent, name: str, wish: str, text: str) -> None:
    subscription, _ = await _own(desk, agent, name)
    status = (await _look(desk, subscription)).status
    if status is not Status.ACTIVE:
        msg = f"Subscription {name} is {status}, so nothing is sent; renew it first."
        raise Conflict(msg)
    await store.ask(desk.redis, MerchantKeys(agent.merchant), name, {wish: text})
    await store.announce(desk.redis, agent.merchant)


async def _spot_of(desk: Desk, keys: MerchantKeys, since: str) -> Spot:
    head = await head_of(desk.redis, keys)
    if since == "now":
        return Spot(epoch=head.epoch, seq=head.feed_seq)
    if since == "everything":
        return Spot(epoch=head.epoch, seq=EVERYTHING)
    spot = rules.read_cursor(since)
    if spot.epoch == head.epoch and spot.seq > head.seq:
        msg = "This cursor lies beyond the end of the history."
        raise InvalidRequest(msg)
    return spot


def _place(merchant: str, name: str) -> Place:
    # No account is called so: their names have no slash.
    return Place(merchant=merchant, account=f"subscription/{name}", credential="signing_secret")


def _wish() -> str:
    return secrets.token_urlsafe(_NAME_BYTES)
