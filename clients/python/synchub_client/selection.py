"""What a feed follows, and how the hub is told.

A short list stands in the address. A long one, or one that changes while it is
followed, is a set that the hub keeps for us under an id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from synchub_client.errors import HubRefused, HubUnavailable, ProtocolBroken
from synchub_client.model import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub_client.core import FeedCore
    from synchub_client.links import Connection, Hub, Query

ADDRESS_BYTES_MAX: Final = 4000
"""SKUs that take more in an address become a set."""
_SETS: Final = "/v1/feed/sets"
_GONE: Final = 404
_ESCAPED: Final = 3
"""A byte takes up to three in an address."""


class Selection:
    """The SKUs of one feed."""

    def __init__(self, core: FeedCore, bound_ms: int) -> None:
        self._core = core
        self._bound_ms = bound_ms
        self._set_id = ""
        watch = core.watch
        self._is_long = sum(_address_bytes(sku) for sku in watch.skus or ()) > ADDRESS_BYTES_MAX
        if watch.skus is not None and not self._is_long:
            core.expect(watch.skus, 1)

    async def connect(self, hub: Hub, cursor: str, *, by_socket: bool) -> Connection:
        """Open a connection that follows what is selected.

        Raises:
            HubRefused, HubUnavailable: it was not opened.
        """
        open_link = hub.open_socket if by_socket else hub.open_events
        try:
            return await open_link(await self._query(hub), cursor)
        except HubRefused as refusal:
            if refusal.status != _GONE or not self._set_id:
                raise
            # The hub forgets a set that nobody has used for long.
            self._set_id = ""
            return await open_link(await self._query(hub), cursor)

    async def change(self, hub: Hub, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> bool:
        """Select other SKUs; return whether a new connection is needed to follow them.

        Raises:
            ValueError: the feed follows by prefix, or everything.
            HubRefused, HubUnavailable: the hub was not told; it can be asked again.
        """
        before = self._core.watch.skus
        if before is None:
            msg = "only a feed of named SKUs can be told to follow others"
            raise ValueError(msg)
        names = (before - frozenset(remove)) | frozenset(add)
        if not self._set_id:
            self._name(names, await self._make(hub, names))
            return True
        body = {"add": sorted(names - before), "remove": sorted(before - names)}
        self._name(names, _revision(await hub.send("PATCH", f"{_SETS}/{self._set_id}", body)))
        return False

    async def forget(self, hub: Hub) -> None:
        """Have the hub forget the set, if it can be reached; otherwise it does so by itself some day."""
        if self._set_id:
            try:
                await hub.send("DELETE", f"{_SETS}/{self._set_id}", None)
            except (HubRefused, HubUnavailable):
                return

    async def _query(self, hub: Hub) -> Query:
        watch = self._core.watch
        query = [("bound_ms", str(self._bound_ms))]
        if watch.mode is Mode.INV:
            query.append(("mode", "inv"))
        if watch.skus is not None and self._is_long and not self._set_id:
            self._name(watch.skus, await self._make(hub, watch.skus))
        if self._set_id:
            return [*query, ("set", self._set_id)]
        if watch.prefix:
            return [*query, ("prefix", watch.prefix)]
        return query + [("sku", sku) for sku in sorted(watch.skus or ())]

    async def _make(self, hub: Hub, names: frozenset[str]) -> int:
        answer = await hub.send("POST", _SETS, {"skus": sorted(names)})
        revision = _revision(answer)
        self._set_id, self._is_long = str(orjson.loads(answer)["set"]), True
        self._core.forget_expectations()
        return revision

    def _name(self, names: frozenset[str], revision: int) -> None:
        self._core.watch = replace(self._core.watch, skus=names)
        self._core.expect(names, revision)


def _revision(answer: bytes) -> int:
    try:
        told = orjson.loads(answer)
        return int(told["rev"]) if told["set"] else 0
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        msg = "the answer about a set is none"
        raise ProtocolBroken(msg) from None


def _address_bytes(sku: str) -> int:
    return len("sku=&") + _ESCAPED * len(sku.encode())
