"""The misbehaviour that an emulated platform can be told to show, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from synchub.errors import InvalidRequest

_WINDOW = re.compile(r"([a-z]+)@([0-9]+(?:\.[0-9]+)?)s?-([0-9]+(?:\.[0-9]+)?)s?")


class FaultKind(StrEnum):
    """One way to misbehave."""

    STALL = "stall"
    """Webhooks are not sent, and never will be."""

    LOSE = "lose"
    """One webhook of three is not sent, and never will be."""

    DUPLICATE = "duplicate"
    """Each webhook is sent five times."""

    REORDER = "reorder"
    """Webhooks are held for half a second and sent shuffled."""

    FORGE = "forge"
    """Webhooks that somebody else signed come in between."""

    THROTTLE = "throttle"
    """The API answers 429 with Retry-After."""

    DOWN = "down"
    """The API hangs up, and no webhook is sent."""

    DISABLE = "disable"
    """At the start of the window the subscription ends, until the API restores it."""

    SLOW = "slow"
    """The API takes seconds to answer."""

    HALF = "half"
    """The API's answers break off in the middle."""

    GAP = "gap"
    """The API shows no changes although there are some; they are not gone."""

    HTML = "html"
    """The API answers 200 with a page for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """A fault between two moments, in seconds since the emulator's start."""

    kind: FaultKind
    from_s: float
    to_s: float

    def is_open(self, elapsed_s: float) -> bool:
        """Whether the fault shows at this moment."""
        return self.from_s <= elapsed_s < self.to_s


def parse_fault(text: str) -> FaultWindow:
    """Read ``stall@5s-25s``.

    Raises:
        InvalidRequest: another form, an unknown kind, or an end before its start.
    """
    match = _WINDOW.fullmatch(text)
    if match is None or match[1] not in set(FaultKind):
        msg = f"A fault is KIND@FROM-TO such as stall@5s-25s, KIND one of {', '.join(FaultKind)}."
        raise InvalidRequest(msg)
    window = FaultWindow(kind=FaultKind(match[1]), from_s=float(match[2]), to_s=float(match[3]))
    if window.to_s <= window.from_s:
        msg = "A fault ends after it starts."
        raise InvalidRequest(msg)
    return window


def is_open(windows: tuple[FaultWindow, ...], kind: FaultKind, elapsed_s: float) -> bool:
    """Whether any window of this kind is open."""
    return any(window.kind is kind and window.is_open(elapsed_s) for window in windows)
