"""The rules for one source of stock, stated again in plain Python.

Nothing of the hub is imported here: the shipped script and this module are two
independent readings of the same rules, and the tests hold one against the other.
A source is one item of one account at one of the merchant's locations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

CHANGES_MAX: Final = 32
"""Changes kept beside a level; older ones become part of it."""

Ask = Literal["", "now", "later"]


class Report(NamedTuple):
    """One row, with its numbers as numbers; an absent version is ``None``."""

    kind: str
    account: str
    item: str
    location: str
    status: str
    number: int
    scale: str
    version: int | None
    resolution: int
    at: int
    evidence: int
    op: str
    cause: str
    sku: str
    group: str
    extra: str


class Change(NamedTuple):
    """A delta that no level is known to include."""

    version: int | None
    at: int
    amount: int
    since: int | None = None
    """Of several that became one: when the first of them arrived."""


class Regress(NamedTuple):
    """A read that showed a version older than the latest: once may be a slip, twice is a new beginning."""

    version: int
    at: int


class Verdict(NamedTuple):
    """What became of a report, and whether the platform is asked (at once, or later to confirm)."""

    outcome: str
    ask: Ask = ""


TAKEN: Final = "taken"
DUPLICATE: Final = Verdict("duplicate")
SUPERSEDED: Final = Verdict("superseded")
SCALE_MIXED: Final = Verdict("scale_mixed")
REFETCH: Final = Verdict("refetch", "now")


@dataclass(kw_only=True)
class Source:
    """What one source has told. ``status`` is U until it has told anything."""

    status: str = "U"
    level: int = 0
    scale: str = ""
    version: int | None = None
    resolution: int = 0
    read_at: int = 0
    pushed_at: int = 0
    evidence: int = 0
    folded_version: int | None = None
    folded_at: int = 0
    behind: bool = False
    """The level came without a version after levels that had one: versions no longer order it."""
    changes: list[Change] = field(default_factory=list)
    reset_at: int = 0
    """When it was first seen to have begun anew, with lower versions."""
    regress: Regress | None = None
    included: int = 0
    """Units of sales at its place that its level contains."""

    @property
    def effect(self) -> tuple[str, int, int, tuple[Change, ...]]:
        """The part that the ledger rebuilds."""
        changes = tuple(change._replace(since=None) for change in self.changes)
        return self.status, self.level, self.included, changes

    @property
    def contribution(self) -> int:
        """What the source adds to its location."""
        return self.level + sum(change.amount for change in self.changes) if self.status == "K" else 0


def judge_push(source: Source, report: Report, *, is_repeat: bool) -> Verdict:
    """A level that the platform sent by itself. ``is_repeat``: this account's op was seen before."""
    if report.version is None and is_repeat:
        return DUPLICATE
    if report.at < source.read_at:
        return SUPERSEDED
    if report.version is None:
        return _take_if_not_higher(source, report, ask_when_lower="later")
    if _is_other_scale(source, report):
        return SCALE_MIXED
    return _judge_by_version(source, report, report.version)


def judge_read(source: Source, report: Report) -> Verdict:
    """A level that the hub asked for; its time is when it asked."""
    if report.at < source.read_at:
        return SUPERSEDED
    if _is_other_scale(source, report):
        return SCALE_MIXED
    latest = _latest_version(source)
    if report.version is not None and latest is not None:
        if report.version < latest:
            return _judge_regress(source, report, report.version)
        if report.version > latest:
            return _take(source, report)
    if _is_overtaken(source, report):
        return _take_if_not_higher(source, report, ask_when_lower="now")
    return _take(source, report)


def _judge_regress(source: Source, report: Report, version: int) -> Verdict:
    seen = source.regress
    if _is_overtaken(source, report):
        return SUPERSEDED
    if seen is None or report.at <= seen.at or version < seen.version:
        source.regress = Regress(version, report.at)
        return Verdict("superseded", "later")
    source.reset_at, source.folded_version = seen.at, None
    return _take(source, report)


def _is_overtaken(source: Source, report: Report) -> bool:
    """Something was told when this read had begun, or in the same millisecond."""
    return report.at <= max(source.pushed_at, source.folded_at, source.read_at)


def judge_delta(source: Source, report: Report) -> Verdict:
    """A change by an amount, seen for the first time."""
    if _is_other_scale(source, report):
        return SCALE_MIXED
    if report.version is not None and source.version is not None:
        if report.version <= source.version - source.resolution:
            return SUPERSEDED
        if report.version <= source.version and report.number >= 0:
            return Verdict("superseded", "now")
    if report.at < source.read_at:
        return SUPERSEDED
    may_be_counted = report.at == source.read_at or (report.version is None and report.at <= source.pushed_at)
    if may_be_counted and report.number >= 0:
        return Verdict("superseded", "now")
    source.changes = sorted(
        [*source.changes, Change(report.version, report.at, report.number)], key=_oldest_first
    )
    if report.version is not None:
        source.scale = report.scale
    source.evidence = max(source.evidence, report.evidence)
    while len(source.changes) > CHANGES_MAX:
        _fold(source, source.changes.pop(0))
    return Verdict(TAKEN)


def _is_other_scale(source: Source, report: Report) -> bool:
    return report.version is not None and source.scale not in {"", report.scale}


def _latest_version(source: Source) -> int | None:
    """The newest version that the level includes, by itself or through a change folded into it."""
    known = [version for version in (source.version, source.folded_version) if version is not None]
    return max(known, default=None)


def _judge_by_version(source: Source, report: Report, version: int) -> Verdict:
    if source.folded_version is not None and version < source.folded_version:
        return SUPERSEDED
    if source.version is not None and version < source.version:
        return SUPERSEDED
    if version == source.version:
        return _judge_tie(source, report)
    if any(_is_torn(change, report) for change in source.changes):
        return _take_if_not_higher(source, report, ask_when_lower="now", ask_when_same="now")
    was_told_without_version = source.version is None and (source.read_at > 0 or source.pushed_at > 0)
    is_unordered = was_told_without_version or source.behind
    return _take_if_not_higher(source, report) if is_unordered else _take(source, report)


def _is_torn(change: Change, report: Report) -> bool:
    """The level arrived in the midst of changes that have become one, and includes some of them."""
    is_several = change.since is not None and change.version is None
    return is_several and (change.since or 0) <= report.at < change.at


def _judge_tie(source: Source, report: Report) -> Verdict:
    """Two levels with one version: the same again, or a clock too coarse to tell them apart."""
    if report.status == source.status and (report.status != "K" or report.number == source.level):
        return DUPLICATE
    if source.status != "U" and _offer_after(source, report) < _offer(source):
        return _take(source, report, ask="now")
    return REFETCH


def _take_if_not_higher(
    source: Source, report: Report, *, ask_when_lower: Ask = "", ask_when_same: Ask = ""
) -> Verdict:
    """Nobody knows whether this report is the newest: it may lower the number and never raise it."""
    if source.status == "U":
        return REFETCH
    before, after = _offer(source), _offer_after(source, report)
    if after < before:
        return _take(source, report, ask=ask_when_lower)
    if after == before and report.status == source.status:
        return _take(source, report, ask=ask_when_same)
    return REFETCH


def _take(source: Source, report: Report, ask: Ask = "") -> Verdict:
    source.changes = [change for change in source.changes if not _includes(report, change)]
    source.status = report.status
    source.level = report.number if report.status == "K" else 0
    source.evidence = max(source.evidence, report.evidence)
    source.behind = report.version is None and source.version is not None
    source.regress = None
    if report.version is not None:
        source.scale, source.version, source.resolution = report.scale, report.version, report.resolution
    if report.kind == "R":
        source.read_at = report.at
    else:
        source.pushed_at = max(source.pushed_at, report.at)
    return Verdict(TAKEN, ask)


def _includes(report: Report, change: Change) -> bool:
    """Whether a level has counted a change already."""
    if report.kind == "R" and change.at < report.at:
        return True
    if change.version is not None:
        return report.version is not None and change.version <= report.version - report.resolution
    return report.kind == "L" and change.at <= report.at


def _offer_after(source: Source, report: Report) -> float:
    rest = [change for change in source.changes if not _includes(report, change)]
    return _offer(Source(status=report.status, level=report.number, changes=rest))


def _offer(source: Source) -> float:
    """In the order of safety: a number nobody knows offers less than any."""
    return -math.inf if source.status in {"U", "T"} else source.contribution


def _fold(source: Source, oldest: Change) -> None:
    """The two oldest become one, as late as the later of them."""
    other = source.changes[0]
    versions = [one.version for one in (oldest, other) if one.version is not None]
    began = [one.at if one.since is None else one.since for one in (oldest, other)]
    source.changes[0] = Change(
        max(versions, default=None), max(oldest.at, other.at), oldest.amount + other.amount, min(began)
    )
    if oldest.version is not None:
        source.folded_version = max(oldest.version, source.folded_version or 0)
    source.folded_at = max(source.folded_at, oldest.at)


def _oldest_first(change: Change) -> tuple[int, int, int]:
    return (-1 if change.version is None else change.version, change.at, change.amount)
