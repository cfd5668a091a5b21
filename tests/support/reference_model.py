"""What the hub must make of any sequence of reports: the rules again, in plain Python.

``ReferenceModel`` takes the same rows as ``lua/apply.lua`` and shares no code with
the hub: it imports nothing of it and was written from the rules, not from the
script. It keeps everything in dictionaries and never forgets, so it is slow and
easy to believe.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.reference_answer import Conclusion, Role, SourceName, conclude
from tests.support.reference_source import (
    DUPLICATE,
    SCALE_MIXED,
    TAKEN,
    Change,
    Report,
    Source,
    Verdict,
    judge_delta,
    judge_push,
    judge_read,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DAY_MS: Final = 86_400_000
PARKED_PER_ITEM_MAX: Final = 256

Row = tuple[str, ...]
ParkedKey = tuple[str, ...]
Effect = tuple[str, int, tuple[Change, ...]]


class Answer(NamedTuple):
    """The answer for one SKU, as readers see it."""

    ver: int = 0
    seq: int = 0
    ats: int = 0
    known: bool = False
    gone: bool = False
    cat: str = "A"
    backorder: bool = False
    by: str = ""
    degraded: bool = False
    cells: tuple[tuple[int, str], ...] = ()


class LedgerEntry(NamedTuple):
    """One effect. ``before`` and ``after`` are a source's effect, or the text of a catalogue."""

    seq: int
    sku: str
    loc: str
    acc: str
    item: str
    field: str
    before: Effect | str | None
    after: Effect | str | None
    version: int | None
    cause: str
    at: int
    ats: int


class FeedEntry(NamedTuple):
    """One changed answer; ``previous`` is the sequence of the entry before."""

    seq: int
    previous: int
    sku: str
    answer: Answer
    as_of: int
    reported_at: int


@dataclass(kw_only=True)
class Catalogue:
    """What is known of a SKU besides its stock."""

    cat: str = "A"
    backorder: bool = False
    substitutes: str = ""
    incoming: str = ""

    @property
    def text(self) -> str:
        """As the ledger has it."""
        return f"{self.cat}{int(self.backorder)}|{self.substitutes}|{self.incoming}"


@dataclass(kw_only=True)
class Sku:
    """Everything about one SKU."""

    sources: dict[SourceName, Source] = field(default_factory=dict)
    catalogue: Catalogue = field(default_factory=Catalogue)
    answer: Answer = field(default_factory=Answer)


class ReferenceModel:
    """One merchant. Give it rows with :meth:`apply`; everything else is for looking at."""

    def __init__(self, *, parked_max: int = 1000, confirm_after_ms: int = 30_000, seen_days: int = 4) -> None:
        self.parked_max = parked_max
        self.confirm_after_ms = confirm_after_ms
        self.seen_days = seen_days
        self.now = 0
        self._skus: dict[str, Sku] = {}
        self.ledger: list[LedgerEntry] = []
        self.feed: list[FeedEntry] = []
        self.roles: dict[str, Role] = {}
        self.items: dict[tuple[str, str], str] = {}
        self.locations: dict[tuple[str, str], str] = {}
        self.groups: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.watermarks: dict[str, int] = {}
        self.parked: dict[tuple[str, str], dict[ParkedKey, Row]] = {}
        self._parked_since: dict[tuple[str, str], int] = {}
        self._refetch: dict[str, dict[str, int]] = defaultdict(dict)
        self._seen: dict[tuple[str, str], int] = {}

    def set_role(self, account: str, role: Role) -> None:
        """Say what an account may do."""
        self.roles[account] = role

    def map_item(self, account: str, item: str, sku: str) -> None:
        """Map as a person does in the console; waiting events wait for the next release."""
        self.items[account, item] = sku

    def map_location(self, account: str, location: str, place: str) -> None:
        """Map a platform's location to the merchant's."""
        self.locations[account, location] = place

    def apply(self, rows: Sequence[Row], now_ms: int) -> list[tuple[str, int]]:
        """Return (outcome, sequence of its effect or 0) for each row, in order."""
        self.now = max(self.now, now_ms)
        return [self._apply(row) for row in rows]

    def answer(self, sku: str) -> Answer:
        """Return the stored answer; ``ver`` is 0 for a SKU nobody has reported."""
        return self._skus[sku].answer if sku in self._skus else Answer()

    def as_of(self, sku: str) -> int:
        """The oldest evidence among the locations counted, as fresh as the accounts are complete."""
        cells = self.answer(sku).cells
        return min((max(at, self.watermarks.get(account, 0)) for at, account in cells), default=0)

    def skus(self) -> list[str]:
        """Every SKU anybody has reported."""
        return sorted(self._skus)

    def sources(self, sku: str) -> dict[SourceName, Source]:
        """What each source of the SKU has told."""
        return dict(self._skus[sku].sources) if sku in self._skus else {}

    @property
    def head(self) -> tuple[int, int]:
        """Head of the ledger, and of the feed."""
        return len(self.ledger), self.feed[-1].seq if self.feed else 0

    def refetch(self, account: str) -> dict[str, int]:
        """Items to fetch, with the time they are due."""
        return dict(self._refetch[account])

    def parked_since(self) -> dict[tuple[str, str], int]:
        """Items whose events wait, with the time of the first."""
        return dict(self._parked_since)

    def parked_keys(self) -> dict[tuple[str, str], set[ParkedKey]]:
        """What waits for each item, without the events themselves."""
        return {name: set(waiting) for name, waiting in self.parked.items()}

    def _apply(self, row: Row) -> tuple[str, int]:
        report = self._report_of(row)
        verbs: dict[str, Callable[[Report], tuple[str, int]]] = {
            "T": self._tickle,
            "C": self._catalogue,
            "W": self._watermark,
        }
        return verbs[report.kind](report) if report.kind in verbs else self._stock(report, row)

    def _report_of(self, row: Row) -> Report:
        (kind, account, item, location, status, number, scale, version, resolution, at, evidence, *rest) = row
        at_ms = min(int(at), self.now)
        return Report(
            kind, account, item, location, status, int(number), scale, int(version) if version else None,
            int(resolution), at_ms, min(int(evidence), at_ms), *rest,
        )  # fmt: skip

    # What reports do to stock

    def _stock(self, report: Report, row: Row) -> tuple[str, int]:
        sku, place = (
            self._sku_of(report.account, report.item),
            self._place_of(report.account, report.location),
        )
        if sku is None or place is None:
            return self._park(report, row)
        name = SourceName(report.account, report.item, place)
        known = self._skus.get(sku, Sku()).sources.get(name)
        before = known.effect if known else None
        source = known or Source()
        verdict = self._judge(source, report)
        self._ask(report, verdict.ask)
        if verdict.outcome != TAKEN:
            return verdict.outcome, 0
        self._sku(sku).sources[name] = source
        if source.effect == before:
            return "unchanged", self._record(sku, report)
        kind = "delta" if report.kind == "D" else "level"
        return "applied", self._record(sku, report, kind, place, before, source.effect)

    def _judge(self, source: Source, report: Report) -> Verdict:
        if report.kind == "D":
            return self._judge_delta(source, report)
        if report.kind == "R":
            if self._refetch[report.account].get(report.item, report.at + 1) <= report.at:
                del self._refetch[report.account][report.item]
            return Verdict("refetch") if report.status == "U" else judge_read(source, report)
        if report.status == "U":
            return Verdict("refetch", "now")
        verdict = judge_push(source, report, is_repeat=self._was_seen(report))
        if report.version is None and verdict != DUPLICATE:
            self._seen[report.account, report.op] = self.now // DAY_MS
        return verdict

    def _judge_delta(self, source: Source, report: Report) -> Verdict:
        if self._was_seen(report):
            return DUPLICATE
        verdict = judge_delta(source, report)
        if verdict != SCALE_MIXED:
            self._seen[report.account, report.op] = self.now // DAY_MS
        return verdict

    def _was_seen(self, report: Report) -> bool:
        day = self._seen.get((report.account, report.op))
        return day is not None and day >= self.now // DAY_MS - self.seen_days

    def _record(
        self,
        sku: str,
        report: Report,
        kind: str = "",
        place: str = "",
        before: Effect | str | None = None,
        after: Effect | str | None = None,
    ) -> int:
        """Draw the conclusion; an effect or a changed answer takes a sequence."""
        state, conclusion = self._sku(sku), self._conclude(sku)
        answer = _answer(state, conclusion)
        # Whose evidence is the oldest may alternate without another answer.
        told, before_told = (each._replace(cells=(), by="") for each in (answer, state.answer))
        unlike = told != before_told or state.answer.ver == 0
        state.answer = answer
        if not kind and not unlike:
            return 0
        seq = len(self.ledger) + 1
        self.ledger.append(
            LedgerEntry(
                seq,
                sku,
                place,
                report.account,
                report.item,
                kind or "answer",
                before,
                after,
                report.version,
                report.cause,
                self.now,
                conclusion.ats,
            )
        )
        if unlike:
            previous = self.feed[-1].seq if self.feed else 0
            state.answer = answer._replace(ver=answer.ver + 1, seq=seq)
            self.feed.append(FeedEntry(seq, previous, sku, state.answer, conclusion.as_of, report.at))
        return seq

    def _conclude(self, sku: str) -> Conclusion:
        return conclude(
            self._skus[sku].sources,
            role_of=self._role_of,
            watermark_of=lambda account: self.watermarks.get(account, 0),
            now=self.now,
        )

    def _sku(self, sku: str) -> Sku:
        return self._skus.setdefault(sku, Sku())

    def _role_of(self, account: str) -> Role:
        return self.roles.get(account, Role())

    # Whose item, whose location

    def _sku_of(self, account: str, item: str) -> str | None:
        return self.items.get((account, item), item if self._role_of(account).own_items else None)

    def _place_of(self, account: str, location: str) -> str | None:
        own = location if self._role_of(account).own_places else None
        return self.locations.get((account, location), own)

    # Waiting for a mapping

    def _park(self, report: Report, row: Row) -> tuple[str, int]:
        name = report.account, report.item
        key = ("D", report.location, report.op) if report.kind == "D" else ("L", report.location)
        if name not in self.parked and len(self.parked) >= self.parked_max:
            return "parked_full", 0
        waiting = self.parked.setdefault(name, {})
        if key not in waiting and len(waiting) >= PARKED_PER_ITEM_MAX:
            return "parked_full", 0
        self._parked_since.setdefault(name, report.at)
        if key not in waiting or (report.kind != "D" and _wins(report, self._report_of(waiting[key]))):
            waiting[key] = row
        self._ask(report, "" if report.kind == "R" else "now")
        return "parked", 0

    def _release(self, account: str, item: str) -> None:
        waiting = self.parked.get((account, item), {})
        ready = [
            (self._report_of(row).at, "\x1f".join(key), key)
            for key, row in waiting.items()
            if self._sku_of(account, item) and self._place_of(account, self._report_of(row).location)
        ]
        for _, _, key in sorted(ready):
            row = waiting.pop(key)
            self._stock(self._report_of(row), row)
        if not waiting:
            self.parked.pop((account, item), None)
            self._parked_since.pop((account, item), None)

    # Asking the platform

    def _ask(self, report: Report, ask: str) -> None:
        if not ask or not self._role_of(report.account).fetches:
            return
        due = self._refetch[report.account]
        if ask == "now":
            due[report.item] = self.now
        else:
            due.setdefault(report.item, self.now + self.confirm_after_ms)

    def _tickle(self, report: Report) -> tuple[str, int]:
        self._ask(report, "now")
        return "refetch", 0

    def _watermark(self, report: Report) -> tuple[str, int]:
        self.watermarks[report.account] = max(self.watermarks.get(report.account, 0), report.at)
        return "unchanged", 0

    # What an item is

    def _catalogue(self, report: Report) -> tuple[str, int]:
        if report.op and self._was_seen(report):
            return "duplicate", 0
        if report.op:
            self._seen[report.account, report.op] = self.now // DAY_MS
        return self._one_item(report) if report.item else self._group(report)

    def _group(self, report: Report) -> tuple[str, int]:
        group = report.account, report.group
        if report.status != "R":
            return "unchanged", 0
        members = sorted(self.groups.pop(group, set()))
        seqs = [self._remove(report, item) for item in members]
        return ("applied", max(seqs)) if any(seqs) else ("unchanged", 0)

    def _one_item(self, report: Report) -> tuple[str, int]:
        if report.group:
            self.groups[report.account, report.group].add(report.item)
        if report.status == "R":
            seq = self._remove(report, report.item)
            return ("applied" if seq else "unchanged"), seq
        if report.sku:
            self._remap(report)
        sku = self._sku_of(report.account, report.item)
        if sku is None:
            return "unchanged", 0
        seq = self._describe(report, sku)
        self._release(report.account, report.item)
        if seq:
            return "applied", seq
        return ("released" if report.sku or not report.status else "unchanged"), 0

    def _remap(self, report: Report) -> None:
        before = self._sku_of(report.account, report.item)
        if before == report.sku:
            return
        self.items[report.account, report.item] = report.sku
        if before is None:
            return
        for name in self._own_sources(before, report.account, report.item):
            source = self._skus[before].sources.pop(name)
            self._record(before, report, "status", name.place, source.effect, None)
        self._ask(report, "now")

    def _remove(self, report: Report, item: str) -> int:
        sku, seq = self._sku_of(report.account, item), 0
        about = report._replace(item=item, version=None)
        for name in self._own_sources(sku, report.account, item):
            source = self._skus[sku or ""].sources[name]
            if source.status != "R":
                before = source.effect
                source.status, source.level, source.changes = "R", 0, []
                seq = self._record(sku or "", about, "status", name.place, before, source.effect)
        if not self._role_of(report.account).own_items:
            self.items.pop((report.account, item), None)
        return seq

    def _own_sources(self, sku: str | None, account: str, item: str) -> list[SourceName]:
        sources = self._skus[sku].sources if sku in self._skus else {}
        return sorted(name for name in sources if name[:2] == (account, item))

    def _describe(self, report: Report, sku: str) -> int:
        catalogue = self._skus.get(sku, Sku()).catalogue
        before = catalogue.text
        if report.status in {"A", "D"}:
            catalogue.cat = report.status
        extra = json.loads(report.extra) if report.extra else {}
        catalogue.backorder = extra.get("backorder", catalogue.backorder)
        catalogue.substitutes = extra.get("substitutes", catalogue.substitutes)
        catalogue.incoming = extra.get("incoming", catalogue.incoming)
        if catalogue.text == before:
            return 0
        self._sku(sku).catalogue = catalogue
        return self._record(sku, report, "catalogue", "", before, catalogue.text)


def _answer(state: Sku, conclusion: Conclusion) -> Answer:
    return state.answer._replace(
        ats=conclusion.ats,
        known=conclusion.known,
        gone=conclusion.gone,
        cat=state.catalogue.cat,
        backorder=state.catalogue.backorder,
        by=conclusion.by,
        degraded=conclusion.degraded,
        cells=conclusion.cells,
    )


def _wins(report: Report, other: Report) -> bool:
    """Which of two waiting levels is worth keeping: a number before none, then the newer, then the lower."""
    if "U" in {report.status, other.status}:
        return other.status == "U"
    if report.version is None or report.scale != other.scale:
        return report.at > other.at
    if report.version != other.version:
        return other.version is None or report.version > other.version
    return _offer(report) < _offer(other)


def _offer(report: Report) -> float:
    return {"K": float(report.number), "C": 0.0}.get(report.status, float("-inf"))
