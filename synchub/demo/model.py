"""Who takes part in the demo, what they tell, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synchub.connector_kit.emulated_faults import FaultKind

MERCHANT: Final = "demo"
AGENT: Final = "demo-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One account of the demo merchant and the place whose stock it knows."""

    account: str
    platform: str
    rank: int
    place: str
    """The location's name on the emulator's command line."""
    ours: str = ""
    """The merchant's name for it; empty where the platform speaks the merchant's own."""
    times_stop_at_the_second: bool = False
    """Two changes within a second have no order, so a rise has to be fetched."""
    has_no_versions: bool = False
    """A rise may be an old delivery that comes late, so it has to be fetched."""


CAST: Final = (
    Cast(
        account="warehouse", platform="shiphero", rank=1, place="WH1", ours="WAREHOUSE", has_no_versions=True
    ),
    Cast(account="marketplace", platform="standard", rank=2, place="MARKETPLACE"),
    Cast(
        account="shop", platform="shopify", rank=3, place="STORE", ours="STORE", times_stop_at_the_second=True
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A platform's misbehaviour, in seconds since its emulator's start."""

    kind: FaultKind
    account: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A change that an emulator has told, or kept to itself where ``sent`` is false."""

    account: str
    sku: str
    location: str
    previous: int
    quantity: int
    at_us: int
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A number that reached the agent."""

    sku: str
    available: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What an emulator has on its shelves, and what became of its deliveries."""

    levels: dict[str, int]
    """By SKU, over all locations."""
    locations: tuple[str, ...]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultReport:
    """What came of one fault; None where it did not come to that."""

    kind: str
    account: str
    detected_after_s: float | None
    """Since its beginning."""
    recovered_after_s: float | None
    """Since its end."""
    polls: int
    missing: int
    """SKUs that the platform changed meanwhile and of which the agent still knows another number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The demo in numbers."""

    received: int
    """Deliveries answered with success."""
    applied: int
    """Effects in the ledger."""
    delivered: int
    """Changed answers that reached the agent."""
    duplicates: int
    rejected: int
    missing: int
    """SKUs of which the agent knows another number than the platforms, and gaps in its feed."""
    webhook_to_agent_p50_ms: float | None
    webhook_to_agent_p99_ms: float | None
    webhook_to_agent_measured: int
    """Changes that could be followed without doubt and that the webhook alone could tell."""
    fetch_to_agent_p50_ms: float | None
    fetch_to_agent_p99_ms: float | None
    fetch_to_agent_measured: int
    """The same for rises that the hub must fetch before it believes them."""
    restarts: int
    faults: list[FaultReport] = field(default_factory=list)
