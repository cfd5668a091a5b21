"""How an account is polled, and what one turn of it found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Record
    from synchub.stock.rules import Row


class Mode(StrEnum):
    """Why an account is polled, which decides how often and how far."""

    SAFETY = "safety"
    """Its deliveries arrive: rarely, to find what they did not tell."""
    PROBE = "probe"
    """Something is odd: one page, at once."""
    FULL = "full"
    """Its deliveries do not arrive, or there are none: often, to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollState:
    """How the polls of one account go."""

    mode: Mode = Mode.SAFETY
    """Of the last turn."""
    due_ms: int = 0
    """When the next one is due, as far as the end of the last one knew."""
    last_ms: int = 0
    """When the last turn began; 0: there has been none."""
    failures: int = 0
    """Turns in a row that failed."""
    retry_ms: int = 0
    """After a failure: not before."""
    has_more: bool = False
    """The last turn stopped before the end, because it had read enough pages."""
    last_error: str = ""
    """Why the last turn failed; no secret, no address."""
    cursor_ms: int = 0
    """When the last page was asked for that moved the cursor."""
    complete_to_ms: int = 0
    """Everything up to this moment has been told; 0: no poll has come to an end."""
    sweep_ms: int = 0
    """The wish to read everything that was taken up last."""
    is_sweeping: bool = False
    """Everything is being read, and the end has not been reached."""
    soon_ms: int = 0
    """When somebody last asked for a poll at once."""
    sweep_wished_ms: int = 0
    """When somebody last asked for everything to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What deliveries may have told of a page before it was read."""

    to_ms: int
    """When the poll before was asked: what changed earlier is read again on purpose."""
    waiting_ms: int | None
    """When the oldest delivery arrived that the hub has not applied yet."""
    awaited: frozenset[str]
    """Items that were to be fetched: a delivery has told of them, and was not believed."""
    grace_ms: int
    """How late deliveries may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When and how to poll next."""

    mode: Mode
    due_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One record of a page, as rows."""

    record: Record
    rows: tuple[Row, ...]
    refusal: str = ""
    """Why it is not believed; it goes to the quarantine instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a turn has found, compared with what deliveries had told."""

    pages: int = 0
    records: int = 0
    """All that were read, also again."""
    found: int = 0
    """Changes under a topic, each counted when it is first read."""
    unseen: int = 0
    """Of these, what no delivery had told."""
    oldest_unseen_ms: int | None = None
    newest_ms: int | None = None
    put_aside: int = 0
