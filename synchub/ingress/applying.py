"""Bringing a batch of understood deliveries to their effect, one script per merchant.

One delivery that the script cannot digest must not hold up the others: when a
merchant's batch is refused as a whole, its deliveries are applied one by one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from synchub import metrics
from synchub.ingress.model import Failed, Misunderstood, Understood
from synchub.ingress.rules import complaint
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_us
from synchub.stock import operations as stock
from synchub.stock.model import Outcome
from synchub.stock.rules import ROW_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synchub.connector_kit.contract import Connector
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Applied

_EVIDENCE: Final = ROW_FIELDS.index("evidence_ms")

Verdict = Understood | Misunderstood | Failed


async def apply_understood(redis: Executes, verdicts: Sequence[Verdict], settings: Settings) -> list[Verdict]:
    """Apply every understood delivery; the others pass through. One verdict each, in order.

    Raises:
        OutcomeUnknown, StoreUnavailable: nothing is certain; handle the batch again.
    """
    settled: dict[str, Verdict] = {}
    for merchant, deliveries in _by_merchant(verdicts).items():
        settled |= await _apply_merchant(redis, MerchantKeys(merchant), deliveries, settings)
    return [settled.get(verdict.queued.id, verdict) for verdict in verdicts]


async def _apply_merchant(
    redis: Executes, keys: MerchantKeys, deliveries: Sequence[Understood], settings: Settings
) -> dict[str, Verdict]:
    rows = [row for delivery in deliveries for row in delivery.rows]
    try:
        results = iter(await stock.apply(redis, keys, rows, settings=settings))
    except ResponseError as problem:
        if len(deliveries) > 1:
            return {
                entry_id: verdict
                for delivery in deliveries
                for entry_id, verdict in (await _apply_merchant(redis, keys, [delivery], settings)).items()
            }
        [delivery] = deliveries
        return {delivery.queued.id: Failed(queued=delivery.queued, error=f"The script refused it: {problem}")}
    return {
        delivery.queued.id: _settle(delivery, [next(results) for _ in delivery.rows])
        for delivery in deliveries
    }


def _settle(delivery: Understood, results: Sequence[Applied]) -> Verdict:
    errors = [result.error for result in results if result.outcome is Outcome.FAILED]
    if errors:
        return Failed(queued=delivery.queued, error=f"The script could not apply it: {errors[0]}")
    reason = complaint(results)
    if reason:
        return Misunderstood(queued=delivery.queued, reason=reason)
    return replace(delivery, results=tuple(results))


def count(verdicts: Iterable[Verdict], platforms: Mapping[str, Connector]) -> None:
    """Count what became of a batch; ``platforms`` is the connector of each account."""
    for verdict in verdicts:
        connector = platforms.get(verdict.queued.delivery.account)
        if not isinstance(verdict, Understood) or connector is None:
            continue
        arrived_us = verdict.queued.delivery.arrived_at_us
        metrics.webhook_to_cache.labels(connector.name).observe(max(0, now_us() - arrived_us) / 1e6)
        evidence_ms = max((int(row[_EVIDENCE]) for row in verdict.rows), default=0)
        if evidence_ms:
            metrics.source_event_timestamp.labels(connector.name).set(evidence_ms / 1000)
        for result in verdict.results:
            metrics.events.labels(connector.name, result.outcome.value).inc()
            if result.outcome is Outcome.DUPLICATE:
                metrics.replays_rejected.labels(connector.name).inc()


def _by_merchant(verdicts: Sequence[Verdict]) -> dict[str, list[Understood]]:
    groups: defaultdict[str, list[Understood]] = defaultdict(list)
    for verdict in verdicts:
        if isinstance(verdict, Understood):
            groups[verdict.merchant].append(verdict)
    return groups
