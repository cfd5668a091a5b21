"""What is known of a history, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """What a look at a history has found."""

    WHOLE = "whole"
    """Nothing is missing, and this run of the server was known before."""
    TAKEN_ON = "taken_on"
    """Nothing is missing, and from now on scripts accept this run of the server."""
    UNPROVEN = "unproven"
    """Nothing that was asked about is missing; the run is still to be taken on."""
    LOST = "lost"
    """Something is missing: the history has got a new name, and nothing new is granted for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a history was when somebody looked."""

    epoch: str
    seq: int
    at_ms: int = 0
    """When it was seen to stand there; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found, and the head as it is then."""

    finding: Finding
    epoch: str
    seq: int
    feed_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A merchant's head as it lies in the store; nothing is decided or taken on by reading it."""

    epoch: str
    """Empty: the store knows no such merchant."""
    seq: int
    feed_seq: int
    clock_ms: int
    """The merchant's clock when something last changed."""
    frozen_until_ms: int
    """By that clock; past or 0: new holds are granted."""
