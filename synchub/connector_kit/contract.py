"""What a connector's folder gives the hub: ``verify``, ``normalize`` and ``Client``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.http import PlatformHttp
    from synchub.connector_kit.manifest import Manifest


class Verify(Protocol):
    """Checks who sent a delivery. Pure: no IO, no clock, constant time over the secrets."""

    def __call__(self, delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
        """Return when one of the active secrets signed these bytes.

        Raises:
            SignatureRefused: missing, malformed or foreign signature.
            DeliveryStale: rightly signed, outside the scheme's time window.
        """


class Normalize(Protocol):
    """Turns a verified delivery into events. Pure: equal bytes give equal events."""

    def __call__(self, topic: str, delivery: Delivery) -> tuple[StockEvent, ...]:
        """Return the events of the delivery, in its order; an empty tuple says: of no concern.

        Raises:
            PayloadRefused: unknown topic, or content that is not of the documented form.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client needs to call its platform on behalf of one account."""

    http: PlatformHttp
    credentials: Mapping[str, str] = field(repr=False)
    """The account's credentials by the names of the manifest, newest value of each."""


class Client(Protocol):
    """A connector's only IO: calls to the platform, one account at a time."""

    def __init__(self, access: Access) -> None: ...

    async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
        """Read the present levels of these items at every location, in one or few calls.

        May also return ``Catalogue`` events (the SKU of an item that is not mapped
        yet). An item the platform does not know is simply absent. At most
        ``manifest.client.fetch_levels_max`` items are asked for at once.

        Raises:
            UpstreamThrottled, UpstreamRefused, UpstreamFailed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One discovered connector."""

    manifest: Manifest
    verify: Verify
    normalize: Normalize
    client: type[Client] | None

    @property
    def name(self) -> str:
        """The folder's name, which is also the platform's name in commands."""
        return self.manifest.name
