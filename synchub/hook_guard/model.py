"""What is known of a platform's promise to send deliveries to us."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synchub.connector_kit.contract import HookState


class Need(StrEnum):
    """Why the hub does not go on by itself."""

    NONE = ""
    EXHAUSTED = "exhausted"
    """Repaired as often as it may be in a day."""
    UNDONE = "undone"
    """The platform has undone the last repair, and every one before it that may be made in a day."""
    REFUSED = "refused"
    """The platform does not let us ask, or repair: a token or a permission is missing."""
    SECRET_LOST = "secret_lost"  # noqa: S105 - says that there is none
    """The platform has begun to sign with a secret that could not be kept."""


class Wish(StrEnum):
    """What a person asks the guard to do at once."""

    CHECK = "check"
    REPAIR = "repair"
    """As well, and count the repairs of the day anew: what kept them from lasting is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """What one account's platform last said and what was done; a time is 0 where nothing happened."""

    hooks: HookState | None = None
    """What it said when it was last asked; ``None``: it has never answered."""
    topics: tuple[str, ...] = ()
    detail: str = ""
    since_ms: int = 0
    """Since when it says so."""
    checked_ms: int = 0
    """When it last answered."""
    due_ms: int = 0
    """When it is asked next."""
    repairs: tuple[int, ...] = ()
    """When it was repaired in the last day, oldest first; noted before each one begins."""
    is_repairing: bool = False
    """The last repair has begun, and what it brought is not kept yet."""
    backfill_from_ms: int = 0
    """A poll that began since then must reach the end before the account counts as complete; 0: one has."""
    failures: int = 0
    """How often in a row the platform did not answer."""
    error: str = ""
    """How it failed the last time."""
    need: Need = Need.NONE
    """Why a person is needed."""
    need_since_ms: int = 0

    @property
    def is_missed(self) -> bool:
        """Deliveries that were made meanwhile have not been polled yet."""
        return self.backfill_from_ms > 0
