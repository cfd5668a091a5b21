"""What is sent: an occurrence as JSON, and the three headers of Standard Webhooks around it.

An occurrence keeps its id over all its attempts, and tells its SKUs as they are when it is sent. The time in
the header is the attempt's, and so is the signature.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from synchub import __version__
from synchub.availability.bodies import rfc3339
from synchub.connector_kit.signatures import sign_standard_webhooks
from synchub.feed import frames
from synchub.feed.model import ViewClass
from synchub.subscriptions.rules import CHANGED, TEST, cursor_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.agents.model import Agent
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer
    from synchub.subscriptions.model import Pending, Spot, Subscription

_AGENT: Final = f"synchub/{__version__}"


class Decisions(Protocol):
    """What merchants have decided, known without asking a store."""

    def terms(self, merchant: str, sku: str, tier: str | None = None, channel: str | None = None) -> Terms:
        """Return what holds for a SKU and an asker."""

    def version(self, merchant: str) -> int:
        """Return which of the merchant's decisions these are."""


def view_of(decided: Decisions, subscription: Subscription, agent: Agent, low_threshold: int) -> ViewClass:
    """Return what the agent is shown, as it would be on the feed."""
    merchant, tier, channel = subscription.merchant, agent.tier, subscription.channel
    return ViewClass(
        merchant=merchant,
        tier=tier,
        channel=channel,
        revision=f"{decided.version(merchant)}.{low_threshold}",
        terms_of=partial(_terms_of, decided, merchant, tier, channel),
    )


def mark_of(view: ViewClass) -> str:
    """Name a view: with another mark everything looks different."""
    return f"{view.tier}/{view.channel or ''}/{view.revision}"


def changed(pending: Pending, before: Spot, answers: Sequence[Answer], view: ViewClass) -> bytes:
    """Write the occurrence of some changes; what can no longer be sold stands first."""
    items = sorted(frames.items(answers, view), key=lambda one: one.is_sellable)
    # A position in another history is no number of this one.
    prev = max(before.seq, 0) if before.epoch == pending.upto.epoch else 0
    data = {"prev": prev, "seq": pending.upto.seq, "items": [one.json for one in items]}
    return _occurrence(pending.id, CHANGED, pending.at_ms, data, pending.upto, truncated=pending.truncated)


def test(name: str, spot: Spot, at_ms: int) -> bytes:
    """Write an occurrence that only shows that occurrences arrive."""
    return _occurrence(name, TEST, at_ms, {"items": []}, spot, truncated=False)


def headers(body: bytes, secrets: Sequence[str], *, name: str, at_ms: int) -> dict[str, str]:
    """Return the headers of one attempt, signed with each of the secrets."""
    signed = [
        sign_standard_webhooks(body, secret, message_id=name, timestamp_s=at_ms // 1000) for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        **signed[0],
        "webhook-signature": " ".join(one["webhook-signature"] for one in signed),
    }


def _occurrence(
    name: str, kind: str, at_ms: int, data: dict[str, object], spot: Spot, *, truncated: bool
) -> bytes:
    return orjson.dumps(
        {
            "eventId": name,
            "name": kind,
            "timestamp": rfc3339(at_ms),
            "data": data,
            "cursor": cursor_text(spot),
            "truncated": truncated,
        }
    )


def _terms_of(decided: Decisions, merchant: str, tier: str, channel: str | None, sku: str) -> Terms:
    return decided.terms(merchant, sku, tier, channel)
