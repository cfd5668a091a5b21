"""The webhooks of the emulated account: each with a secret of its own, a health and a switch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from connectors.shiphero.emulated_forms import uuid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FIRST_ID: Final = 4100
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedHook:
    """One registered webhook."""

    id: str
    name: str
    shop_name: str
    url: str
    secret: str = field(repr=False)
    enabled: bool = True
    health: str = HEALTHY

    def node(self) -> dict[str, Any]:
        """Return it as the query ``webhooks`` does: without its secret."""
        shown = ("id", "name", "shop_name", "url", "enabled", "health")
        return {name: getattr(self, name) for name in shown}


class EmulatedHooks:
    """What the account has registered."""

    def __init__(self, url: str, topics: tuple[str, ...], secret: str) -> None:
        """Register the topics as a person has done it, all with the secret that the hub was given."""
        self._ids = count(FIRST_ID)
        self._url = url
        self._hooks: dict[str, EmulatedHook] = {}
        for topic in topics:
            self._add({"name": topic, "url": url, "shop_name": "example"}, secret)

    def nodes(self) -> list[dict[str, Any]]:
        """Return all of them, as a query does."""
        return [hook.node() for hook in self._hooks.values()]

    def secrets_of(self, topic: str) -> list[str]:
        """Return what each webhook that posts this topic to the hub signs with."""
        return [hook.secret for hook in self._here(topic) if hook.enabled]

    def create(self, wish: Mapping[str, Any]) -> EmulatedHook | None:
        """Register one under a new secret; ``None``: there is one of that name and shop."""
        if self._find(wish) is not None:
            return None
        return self._add(wish, secrets.token_urlsafe(24))

    def enable(self, number: str) -> EmulatedHook | None:
        """Switch one on, with the secret that it had."""
        return self._set(number, enabled=True, health=HEALTHY)

    def delete(self, wish: Mapping[str, Any]) -> EmulatedHook | None:
        """Forget one."""
        found = self._find(wish)
        return None if found is None else self._hooks.pop(found.id)

    def rate(self, topic: str, health: str) -> None:
        """Judge every webhook of a topic; those that are unhealthy are off."""
        for hook in list(self._here(topic)):
            self._set(hook.id, enabled=health != UNHEALTHY, health=health)

    def disable_all(self) -> None:
        """Give up on the hub's address."""
        for hook in [hook for hook in self._hooks.values() if hook.url == self._url]:
            self._set(hook.id, enabled=False, health=UNHEALTHY)

    def _here(self, topic: str) -> Iterator[EmulatedHook]:
        return (hook for hook in self._hooks.values() if (hook.name, hook.url) == (topic, self._url))

    def _find(self, wish: Mapping[str, Any]) -> EmulatedHook | None:
        wanted = (wish.get("name"), wish.get("shop_name"))
        return next((hook for hook in self._hooks.values() if (hook.name, hook.shop_name) == wanted), None)

    def _add(self, wish: Mapping[str, Any], secret: str) -> EmulatedHook:
        hook = EmulatedHook(
            id=uuid_of("Webhook", str(next(self._ids))),
            name=str(wish["name"]),
            shop_name=str(wish.get("shop_name")),
            url=str(wish["url"]),
            enabled=wish.get("enabled") is not False,
            secret=secret,
        )
        self._hooks[hook.id] = hook
        return hook

    def _set(self, number: str, *, enabled: bool, health: str) -> EmulatedHook | None:
        if number not in self._hooks:
            return None
        self._hooks[number] = replace(self._hooks[number], enabled=enabled, health=health)
        return self._hooks[number]
