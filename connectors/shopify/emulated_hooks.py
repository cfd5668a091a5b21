"""The subscriptions of the emulated shop's one app: to every topic from the start, until they end.

They end all together, as on the real platform, when deliveries fail too often (``--disable-after``)
or by the fault ``disable``; what is subscribed to again afterwards is sent again, topic by topic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from connectors.shopify.addresses import global_id
from connectors.shopify.hooks import FORMAT, TOPICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.emulated_sender import HookSender

FIRST_HOOK: Final = 1_000_000

# Topics that were subscribed to before there was a list of subscriptions.
ALSO: Final = ("refunds/create",)

TAKEN: Final = "Address for this topic has already been taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One of them."""

    topic: str
    """As the API names it: ``ORDERS_CREATE``."""
    uri: str
    format: str = FORMAT
    filter: str = ""
    include_fields: tuple[str, ...] = ()


class SubscriptionBook:
    """All of them, by their ids."""

    def __init__(self, hook_url: str, sender: HookSender) -> None:
        self._hook_url = hook_url
        self._sender = sender
        self._numbers = count(FIRST_HOOK)
        self._all = {
            self._next_id(): Subscription(topic=enum_of(topic), uri=hook_url) for topic in (*TOPICS, *ALSO)
        }

    def is_wanted(self, topic: str) -> bool:
        """Whether deliveries of a topic are sent to the hub."""
        self._forget_if_ended()
        enum = enum_of(topic)
        return any(one.topic == enum and one.uri == self._hook_url for one in self._all.values())

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Return them as the API shows them, the oldest first."""
        self._forget_if_ended()
        return [(name, _shown(name, one)) for name, one in self._all.items()]

    def create(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Subscribe to one more topic."""
        return self._keep(self._next_id(), Subscription(topic=asked["topic"], uri=""), asked["hook"])

    def update(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Change one of them."""
        self._forget_if_ended()
        known = self._all.get(asked["id"])
        return (
            _refused("Could not find the webhook")
            if known is None
            else self._keep(asked["id"], known, asked["hook"])
        )

    def _keep(self, name: str, before: Subscription, wish: Mapping[str, Any]) -> dict[str, Any]:
        self._forget_if_ended()
        wanted = replace(
            before,
            uri=wish.get("uri", before.uri),
            format=wish.get("format", before.format),
            filter=wish.get("filter", before.filter),
            include_fields=tuple(wish.get("includeFields", before.include_fields)),
        )
        if before.topic not in {enum_of(topic) for topic in (*TOPICS, *ALSO)}:
            return _refused("You cannot create a webhook subscription with the specified topic")
        others = (one for other, one in self._all.items() if other != name)
        if any((one.topic, one.uri) == (wanted.topic, wanted.uri) for one in others):
            return _refused(TAKEN)
        self._all[name] = wanted
        self._sender.is_subscribed = True
        return {"userErrors": []}

    def _forget_if_ended(self) -> None:
        if not self._sender.is_subscribed:
            self._all.clear()

    def _next_id(self) -> str:
        return global_id("WebhookSubscription", str(next(self._numbers)))


def enum_of(topic: str) -> str:
    """Return a topic's name in the API."""
    return topic.replace("/", "_").upper()


def _shown(name: str, one: Subscription) -> dict[str, Any]:
    return {
        "id": name,
        "topic": one.topic,
        "uri": one.uri,
        "format": one.format,
        "filter": one.filter or None,
        "includeFields": list(one.include_fields),
    }


def _refused(message: str) -> dict[str, Any]:
    return {"userErrors": [{"message": message}]}
