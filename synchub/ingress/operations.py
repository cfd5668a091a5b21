"""What is done with a delivery: verify, enqueue, normalize, put aside, retry."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from synchub import keyspace, metrics
from synchub.errors import IngestFull, NotFound, SignatureRefused, SynchubError
from synchub.ingress import store
from synchub.ingress.model import Aside, Failed, Misunderstood, PutAside, Queued, Understood
from synchub.ingress.rules import delivery_of_rows, understand
from synchub.kit.clock import monotonic_ms, now_us, wall_ms
from synchub.redis import store_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio as aioredis

    from synchub.accounts.directory import Directory
    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.connector_kit.delivery import Delivery
    from synchub.lua import Executes
    from synchub.settings import IngressSettings
    from synchub.stock.rules import Row

_NOBODYS_SECRET: Final = secrets.token_bytes(32)
_NOT_SIGNED: Final = "This delivery is not signed by an active secret of a known account."
_FULL: Final = "Too many deliveries wait to be applied; send it again later."
_PRESENT_MS: Final = 10_000
"""A worker gives a sign of life every two seconds; one that has not for so long is gone."""
_LENGTH_AGE_MS: Final = 100
"""How old the known length of the ingest stream may get: the limit is exceeded by at most so much traffic."""


def verify(
    delivery: Delivery, account: AccountView | None, connectors: Mapping[str, Connector]
) -> tuple[AccountView, Connector]:
    """Return who sent a delivery, or refuse it; touches no store.

    An unknown account costs the same work and gives the same answer as a wrong
    signature, so nobody learns which accounts exist.

    Raises:
        SignatureRefused: unknown account, or no active secret signed these bytes.
        DeliveryStale: rightly signed, outside the scheme's time window.
    """
    connector = connectors.get(account.platform) if account else None
    if account is None or connector is None:
        hmac.compare_digest(hmac.digest(_NOBODYS_SECRET, delivery.body, hashlib.sha256), _NOBODYS_SECRET)
        metrics.signature_failures.labels("unknown", "unknown_account").inc()
        raise SignatureRefused(_NOT_SIGNED)
    time_ms = wall_ms()  # the sender signed by the wall clock
    try:
        connector.verify(delivery, account.secrets_at(time_ms), now_ms=time_ms)
    except SignatureRefused:
        metrics.signature_failures.labels(connector.name, "signature").inc()
        raise SignatureRefused(_NOT_SIGNED) from None
    except SynchubError as refusal:
        metrics.signature_failures.labels(connector.name, refusal.code).inc()
        raise
    return account, connector


class Gate:
    """The door to the ingest stream: it closes while the stream is as long as it may get."""

    def __init__(self, redis: Executes, settings: IngressSettings) -> None:
        self._redis = redis
        self._stream_max = settings.stream_max
        self._length = 0
        self._measured_ms = -_LENGTH_AGE_MS

    async def enqueue(self, delivery: Delivery, connector: Connector) -> None:
        """Make a verified delivery durable; it is when this returns, and not when it raises.

        Raises:
            IngestFull: the stream is as long as it may get; nothing was stored.
            StoreUnavailable, OutcomeUnknown: ask the platform to send it again.
        """
        await self._measure()
        if self._length >= self._stream_max:
            raise IngestFull(_FULL, retry_after_s=5)
        manifest = connector.manifest
        kept = {name: delivery.headers[name] for name in manifest.headers_kept if name in delivery.headers}
        await store.append(self._redis, delivery, kept)

    async def _measure(self) -> None:
        if monotonic_ms() - self._measured_ms >= _LENGTH_AGE_MS:
            self._measured_ms = monotonic_ms()
            self._length = await store.length(self._redis)
            metrics.queue_depth.labels("ingest").set(self._length)


def normalize(
    queued: Queued, directory: Directory, connectors: Mapping[str, Connector], settings: IngressSettings
) -> Understood | Misunderstood | Failed:
    """Turn a queued delivery into rows for the apply script, or say why not; never raises.

    A connector that raises anything but its agreed refusal has a fault: the
    delivery is tried again and does not hold up the others.
    """
    account = directory.find_account(queued.delivery.account)
    connector = connectors.get(account.platform) if account else None
    if account is None or connector is None:
        gone = "Its account or connector is not there."
        # The process that received it may have heard of a new account before this one does.
        may_be_late = queued.tries == 1 or not directory.is_current
        return Failed(queued=queued, error=gone) if may_be_late else Misunderstood(queued=queued, reason=gone)
    try:
        return understand(queued, connector, account.merchant, future_skew_ms=settings.future_skew_ms)
    except Exception as fault:  # noqa: BLE001 - a connector's fault must stay with its own delivery
        return Failed(queued=queued, error=f"{type(fault).__name__} in the connector {connector.name}")


async def put_aside(
    client: aioredis.Redis, verdict: Misunderstood | Failed, settings: IngressSettings
) -> None:
    """Move a delivery to the quarantine, or after its last try to the dead letters.

    A failed delivery with tries left stays where it is and is taken again.
    """
    if isinstance(verdict, Misunderstood):
        metrics.deliveries_quarantined.inc()
        await store.put_aside(
            client, keyspace.quarantine(), verdict.queued,
            reason=verdict.reason, limit=settings.quarantine_max,
        )  # fmt: skip
    elif verdict.queued.tries >= settings.tries_max:
        metrics.dead_letters_total.inc()
        await store.put_aside(
            client, keyspace.dead_letters(), verdict.queued, reason=verdict.error, limit=settings.dead_max
        )


async def put_rows_aside(
    redis: Executes,
    account: str,
    rows: Sequence[Row],
    *,
    reason: str,
    is_dead: bool,
    settings: IngressSettings,
) -> None:
    """Put aside what a poll has brought and the hub could not take in, as a delivery that can be retried.

    Raises:
        OutcomeUnknown, StoreUnavailable: it may not have been put aside.
    """
    (metrics.dead_letters_total if is_dead else metrics.deliveries_quarantined).inc()
    await store.put_rows_aside(
        redis,
        keyspace.dead_letters() if is_dead else keyspace.quarantine(),
        delivery_of_rows(account, rows, arrived_at_us=now_us()),
        reason=reason,
        limit=settings.dead_max if is_dead else settings.quarantine_max,
    )


async def waiting_since_ms(redis: Executes) -> int | None:
    """Return when the oldest delivery arrived that has not been applied yet; ``None``: none waits.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    return await store.waiting_since_ms(redis)


async def drop_silent_workers(client: aioredis.Redis, *, idle_ms: int) -> int:
    """Forget workers that have been silent for ``idle_ms`` and own no delivery; returns how many."""
    with store_errors():
        return await store.drop_silent_workers(client, idle_ms=idle_ms)


async def measure(client: aioredis.Redis) -> None:
    """Set the metrics of what waits and of what was put aside.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer; some were set.
    """
    with store_errors():
        metrics.queue_depth.labels("ingest").set(await client.xlen(keyspace.ingest_stream()))
        metrics.queue_oldest_age.labels("ingest").set(await store.oldest_age_ms(client) / 1000)
        metrics.workers_present.set(await store.count_workers(client, idle_ms=_PRESENT_MS))
        metrics.dlq_depth.set(await client.xlen(keyspace.dead_letters()))
        metrics.quarantine_depth.set(await client.xlen(keyspace.quarantine()))
        metrics.dlq_oldest.set(await store.oldest_aside_us(client, keyspace.dead_letters()) / 1e6)


async def queue_state(client: aioredis.Redis) -> tuple[int, int, int]:
    """Return how many deliveries wait, for how long the oldest has, and how many workers are at work."""
    with store_errors():
        return (
            int(await client.xlen(keyspace.ingest_stream())),
            await store.oldest_age_ms(client),
            await store.count_workers(client, idle_ms=_PRESENT_MS),
        )


async def count_aside(client: aioredis.Redis, where: str) -> Aside:
    """Return how much was put aside there, and when the oldest of it was.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    with store_errors():
        oldest_us = await store.oldest_aside_us(client, where)
        return Aside(count=int(await client.xlen(where)), oldest_at_ms=oldest_us // 1000)


async def list_aside(client: aioredis.Redis, where: str, *, count: int = 100) -> list[PutAside]:
    """Return the newest put-aside deliveries of a key, newest first."""
    return await store.list_aside(client, where, count=count)


async def retry_aside(client: aioredis.Redis, where: str, ids: Sequence[str]) -> int:
    """Send put-aside deliveries through the hub again; all of them when ``ids`` is empty.

    Repeatable: what has been applied before is recognized and changes nothing.

    Raises:
        NotFound: an id that is not there; nothing was retried.
    """
    entries = {entry.id: entry for entry in await store.list_aside(client, where, count=10_000)}
    missing = [entry_id for entry_id in ids if entry_id not in entries]
    if missing:
        msg = f"Nothing under {', '.join(missing)}."
        raise NotFound(msg)
    chosen = [entries[entry_id] for entry_id in ids] if ids else list(entries.values())
    for entry in sorted(chosen, key=lambda entry: entry.queued.delivery.arrived_at_us):
        await store.return_aside(client, where, entry)
    return len(chosen)
