"""Who takes part in the demo, what they tell, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synchub.accounts.model import Role

if TYPE_CHECKING:
    from synchub.connector_kit.emulated_faults import FaultKind

MERCHANT: Final = "demo"
AGENT: Final = "demo-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One account of the demo merchant: the warehouse whose stock counts, or a channel that sells it."""

    account: str
    platform: str
    role: Role
    seed: int
    place: str
    """The location's name on the emulator's command line."""
    rate: float
    """Random changes a second."""
    orders: float = 0.0
    """The share of them that are orders and cancellations."""
    ours: str = ""
    """The merchant's name for its place; empty where the platform speaks the merchant's own."""
    heartbeat: str = ""
    """Seconds between its signs of life; empty where it gives none by itself."""
    has_no_versions: bool = False
    """A rise may be an old delivery that comes late, so it has to be fetched."""

    @property
    def sells(self) -> bool:
        """Whether it takes orders, which leave from the warehouse; its own levels do not count."""
        return self.role is Role.CONTRIBUTOR


PROFILE: Final = {
    "SYNCHUB_SYNC__LOOK_EVERY_MS": "500",
    "SYNCHUB_SYNC__CANARY_EVERY_MS": "1500",
    "SYNCHUB_SYNC__GRACE_MS": "2000",
    "SYNCHUB_SYNC__SILENCE_FLOOR_MS": "2000",
    "SYNCHUB_POLLING__LOOK_EVERY_MS": "250",
    "SYNCHUB_POLLING__SAFETY_EVERY_MS": "5000",
    "SYNCHUB_POLLING__BUSY_EVERY_MS": "1500",
    "SYNCHUB_POLLING__QUIET_EVERY_MS": "1500",
    "SYNCHUB_POLLING__RETRY_BASE_MS": "500",
    "SYNCHUB_POLLING__RETRY_MAX_MS": "2000",
    "SYNCHUB_HOOK_GUARD__CHECK_EVERY_MS": "4000",
    "SYNCHUB_UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "SYNCHUB_UPSTREAM__BREAKER_WINDOW_MS": "5000",
    "SYNCHUB_UPSTREAM__BREAKER_OPEN_MS": "1000",
}
"""Ordinary settings, so short that a run of a minute shows what takes minutes otherwise."""

CAST: Final = (
    Cast(
        account="warehouse",
        platform="shiphero",
        role=Role.AUTHORITY,
        seed=1,
        place="WH1",
        rate=15.0,
        ours="WAREHOUSE",
        has_no_versions=True,
    ),
    Cast(
        account="marketplace",
        platform="standard",
        role=Role.CONTRIBUTOR,
        seed=2,
        place="MARKETPLACE",
        heartbeat="1.5",
        rate=5.0,
        orders=0.15,
    ),
    Cast(
        account="shop",
        platform="shopify",
        role=Role.CONTRIBUTOR,
        seed=3,
        place="STORE",
        rate=5.0,
        orders=0.15,
        ours="STORE",
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
    by_order: bool = False
    """An order took the units or gave them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A number that reached the agent."""

    sku: str
    available: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """Somebody sold, held or gave back a SKU: its number moves without the warehouse having said so."""

    sku: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as the platform that has it knows it."""

    name: str
    sku: str
    ordered: int
    units: int
    """Of them those that were not cancelled."""
    reference: str
    """What another system calls it."""
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What an emulator has on its shelves, and what became of its deliveries."""

    account: str
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
    """Since its end: nothing of it is wrong any more, and the hub takes the account for well."""
    polls: int
    """Polls of the platform from its beginning until then."""
    calls_put_off: int
    """Calls that the hub did not make meanwhile because the platform's limits had no room."""
    missing: int
    """SKUs that the platform changed meanwhile and of which the agent still knows another number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The demo in numbers."""

    received: int
    """Deliveries answered with success."""
    applied: int
    """Effects in the ledger, those of holds and of time among them."""
    delivered: int
    """Changed answers that reached the agent."""
    duplicates: int
    rejected: int
    missing: int
    """SKUs of which the agent knows another number than the warehouse has, and gaps in its feed."""
    webhook_to_agent_p50_ms: float | None
    webhook_to_agent_p99_ms: float | None
    webhook_to_agent_measured: int
    """Changes that could be followed without doubt and that the webhook alone could tell."""
    fetch_to_agent_p50_ms: float | None
    fetch_to_agent_p99_ms: float | None
    fetch_to_agent_measured: int
    """The same for rises that the hub must fetch before it believes them."""
    restarts: int
    held: int
    """Holds that the agent was granted."""
    refused: int
    """Holds that it was refused."""
    committed: int
    released: int
    expired: int
    sold: int
    """Units that the agent bought."""
    orders: int
    """Orders that marketplace and shop took themselves."""
    open_sales: int
    """Sales that the warehouse's level did not contain yet at the last look."""
    settled: int
    """Sales of the agent whose acknowledgement was lost, and that the order desk found at the warehouse."""
    faults: list[FaultReport] = field(default_factory=list)
