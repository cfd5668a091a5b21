"""What the hub must make of any sequence of reports: the rules again, in plain Python.

``ReferenceModel`` takes the same rows as ``lua/apply.lua`` and shares no code with
the hub: it imports nothing of it and was written from the rules, not from the
script. It keeps everything in dictionaries and never forgets, so it is slow and
easy to believe.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.reference_answer import SourceName
from tests.support.reference_books import DAY_MS, Sku, What, Why, why
from tests.support.reference_holds import Holds
from tests.support.reference_sales import FIELD, LIST, Sold
from tests.support.reference_source import (
    DUPLICATE,
    SCALE_MIXED,
    TAKEN,
    Report,
    Source,
    Verdict,
    judge_delta,
    judge_push,
    judge_read,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARKED_PER_ITEM_MAX: Final = 256

BY_PERSON: Final = 1
"""The number of a catalogue row that a person wrote; a platform's word does not take a kit apart."""

Row = tuple[str, ...]
ParkedKey = tuple[str, ...]
Told = tuple[str, int]
Part = tuple[str, int]
"""A SKU, and how many of its units are in one item."""


class Position(NamedTuple):
    """How often a cursor has moved, when it was last asked at, since when, complete to, in which history."""

    moves: int = 0
    asked: int = 0
    began: int = 0
    complete: int = 0
    epoch: str = ""
    cursor: str = ""


NOT_TAKEN_IN: Final = {"scale_mixed", "parked_full", "nameless"}
"""What would be lost if a cursor moved past it."""
APPLIED, UNCHANGED, SUPERSEDED, HELD_BACK = "applied", "unchanged", "superseded", "held_back"


class ReferenceModel(Holds):
    """One merchant. Give it rows with :meth:`apply`; everything else is for looking at."""

    def __init__(self, *, parked_max: int = 1000, confirm_after_ms: int = 30_000, seen_days: int = 4) -> None:
        super().__init__()
        self.parked_max = parked_max
        self.confirm_after_ms = confirm_after_ms
        self.seen_days = seen_days
        self.items: dict[tuple[str, str], tuple[Part, ...]] = {}
        self.locations: dict[tuple[str, str], str] = {}
        self.parked: dict[tuple[str, str], dict[ParkedKey, Row]] = {}
        self._parked_since: dict[tuple[str, str], int] = {}
        self._refetch: dict[str, dict[str, int]] = defaultdict(dict)
        self._seen: dict[tuple[str, str], int] = {}
        self.epoch = ""
        self._positions: dict[str, Position] = {}
        self._left: set[str] = set()
        self._troubled: set[str] = set()

    def map_item(self, account: str, item: str, sku: str) -> None:
        """Map as a person does in the console; waiting events wait for the next release."""
        self.items[account, item] = ((sku, 1),)

    def map_kit(self, account: str, item: str, parts: Sequence[Part]) -> None:
        """Map an item that is several units, or several SKUs."""
        self.items[account, item] = tuple(parts)

    def decide(self, account: str, sku: str, place: str, decision: str) -> None:
        """Say what a person has said of an account's sources: add them, the same stock, or one more of it."""
        self.decisions[account, sku, place] = decision

    def map_location(self, account: str, location: str, place: str) -> None:
        """Map a platform's location to the merchant's."""
        self.locations[account, location] = place

    def apply(self, rows: Sequence[Row], now_ms: int, server_ms: int | None = None) -> list[Told]:
        """Return (outcome, sequence of its effect or 0) for each row, in order."""
        self.step(now_ms, server_ms)
        self._left, self._troubled = set(), set()
        return [self._guarded(row) for row in rows]

    def name_history(self, epoch: str) -> None:
        """Give the history a name."""
        self.epoch = epoch

    @property
    def cursors(self) -> dict[str, str]:
        """Where each account's next poll begins, in the store's words."""
        return {
            account: "|".join([*map(str, known[:4]), *known[4:]])
            for account, known in self._positions.items()
        }

    def pass_time(self, now_ms: int, server_ms: int | None = None) -> None:
        """Tell what changes by itself: holds end, sources turn stale or fresh, evidence ages."""
        self.step(now_ms, server_ms)
        self.look_again()
        for sku in self.skus():
            if self.answer(sku).ver:
                self.record(sku, Why(cause="time", at=self.now))
        self.retire()

    def refetch(self, account: str) -> dict[str, int]:
        """Items to fetch, with the time they are due."""
        return dict(self._refetch[account])

    def parked_since(self) -> dict[tuple[str, str], int]:
        """Items whose events wait, with the time of the first."""
        return dict(self._parked_since)

    def parked_keys(self) -> dict[tuple[str, str], set[ParkedKey]]:
        """What waits for each item, without the events themselves."""
        return {name: set(waiting) for name, waiting in self.parked.items()}

    def _guarded(self, row: Row) -> Told:
        """Apply a row, unless it belongs to a page that somebody has gone on from."""
        if row[0] == "P":
            return self._move(self._report_of(row)), 0
        if row[1] in self._left:
            return SUPERSEDED, 0
        told = self._apply(row)
        if told[0] in NOT_TAKEN_IN:
            self._troubled.add(row[1])
        return told

    def _move(self, report: Report) -> str:
        """Judge where a page was asked for (status G), or let the next poll begin after it."""
        known = self._positions.get(report.account, Position())
        claimed, epoch, cursor = report.number, report.sku, report.group
        is_present = (claimed, epoch) == (known.moves, self.epoch) and report.account in self.roles
        if report.status == "G":
            (self._left.discard if is_present else self._left.add)(report.account)
            return UNCHANGED if is_present else SUPERSEDED
        if (known.moves, known.epoch, known.cursor) == (claimed + 1, epoch, cursor):
            return "duplicate"
        if not is_present or report.account in self._troubled:
            return HELD_BACK if is_present else SUPERSEDED
        complete = max(known.complete, report.evidence)
        self._positions[report.account] = Position(
            claimed + 1, report.at, int(report.extra), complete, self.epoch, cursor
        )
        self.watermarks[report.account] = max(self.watermarks.get(report.account, 0), report.evidence)
        return APPLIED

    def _apply(self, row: Row) -> tuple[str, int]:
        report = self._report_of(row)
        verbs: dict[str, Callable[[Report], tuple[str, int]]] = {
            "O": lambda report: self._sale(report, row),
            "A": lambda report: self._sale(report, row),
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

    def _stock(self, report: Report, row: Row) -> Told:
        sku, place = self._sku_of(report.account, report.item), self._place_of(report)
        if self._parts_of(report.account, report.item) and sku is None:
            return "kit_level", 0
        if sku is None or place is None or self._is_contested(report):
            return self._park(report, row)
        name = SourceName(report.account, report.item, place)
        known = self._skus.get(sku, Sku()).sources.get(name)
        before = known.effect if known else None
        source = known or Source()
        reset_at = source.reset_at
        verdict = self._judge(source, report)
        self._ask(report, verdict.ask)
        if verdict == DUPLICATE and known and report.kind == "L":
            self._mark(sku, name)
            seq = self.record(sku, why(report))
            return ("unchanged" if seq else "duplicate"), seq
        if verdict.outcome != TAKEN:
            return verdict.outcome, 0
        self._sku(sku).sources[name] = source
        if source.reset_at != reset_at:
            self.reset(sku, name)
        self._settle_down(sku, name)
        self._mark(sku, name)
        self._include(sku)
        if source.effect == before:
            return "unchanged", self.record(sku, why(report))
        kind = "delta" if report.kind == "D" else "level"
        return "applied", self.record(sku, why(report), What(kind, place, before, source.effect))

    def _sale(self, report: Report, row: Row) -> Told:
        parts = self._parts_of(report.account, report.item)
        place = self._place_of(report) if report.location else None
        if not parts or (report.location and place is None):
            return self._park(report, row)
        if report.kind == "A" or report.version is None:
            if self._was_seen(report):
                return "duplicate", 0
            self._seen[report.account, report.op] = self.now // DAY_MS
        told = [self._sell_part(report, sku, units, place) for sku, units in parts]
        with_effect = [one for one in told if one[1]] or told[:1]
        return with_effect[0][0], max(seq for _, seq in told)

    def _sell_part(self, report: Report, sku: str, units: int, place: str | None) -> Told:
        if report.kind == "A":
            return self.take_ack(report, sku, units, place)
        happened = int(report.sku) if report.sku else None
        return self.take_order(Sold(report, sku, report.number * units, place, happened))

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

    # Whose item, whose location

    def _parts_of(self, account: str, item: str) -> tuple[Part, ...]:
        own = ((item, 1),) if self._role_of(account).own_items and item else ()
        return self.items.get((account, item), own)

    def _sku_of(self, account: str, item: str) -> str | None:
        """The SKU that the item is, one for one."""
        parts = self._parts_of(account, item)
        return parts[0][0] if len(parts) == 1 and parts[0][1] == 1 else None

    def _place_of(self, report: Report) -> str | None:
        own = report.location if self._role_of(report.account).own_places else None
        return self.locations.get((report.account, report.location), own)

    def _is_contested(self, report: Report) -> bool:
        """Whether a person has to say first how two items of one account at one place go together."""
        sku, place = self._sku_of(report.account, report.item), self._place_of(report)
        if sku is None or place is None or self._role_of(report.account).kind != "A":
            return False
        sources = self.sources(sku)
        if SourceName(report.account, report.item, place) in sources:
            return False
        others = [
            name for name, source in sources.items()
            if source.status not in {"R", "C"} and self._role_of(name.account).kind == "A"
        ]  # fmt: skip
        is_second = any((name.account, name.place) == (report.account, place) for name in others)
        if not is_second and not (others and self.asks_first):
            return False
        decision = self._decision_on(report.account, sku, place)
        return not decision or (is_second and decision == "yes")

    # Waiting for a mapping

    def _park(self, report: Report, row: Row) -> tuple[str, int]:
        name = report.account, report.item
        key = _parked_key(report)
        if name not in self.parked and len(self.parked) >= self.parked_max:
            return "parked_full", 0
        waiting = self.parked.setdefault(name, {})
        if key not in waiting and len(waiting) >= PARKED_PER_ITEM_MAX:
            return "parked_full", 0
        self._parked_since.setdefault(name, report.at)
        if key not in waiting or (key[0] in "LO" and _wins(report, self._report_of(waiting[key]))):
            waiting[key] = row
        self._ask(report, "" if report.kind == "R" else "now")
        return "parked", 0

    def _release(self, account: str, item: str) -> None:
        waiting = self.parked.get((account, item), {})
        ready = [
            (self._report_of(row).at, "\x1f".join(key), key)
            for key, row in waiting.items()
            if self._parts_of(account, item) and self._is_placed(self._report_of(row))
        ]
        for _, _, key in sorted(ready):
            if key[0] in "OA" or not self._is_contested(self._report_of(waiting[key])):
                self._apply(waiting.pop(key))
        if not waiting:
            self.parked.pop((account, item), None)
            self._parked_since.pop((account, item), None)

    def _is_placed(self, report: Report) -> bool:
        return self._place_of(report) is not None or (report.kind in "OA" and not report.location)

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
        if not self._parts_of(report.account, report.item):
            return "unchanged", 0
        sku = self._sku_of(report.account, report.item)
        seq = self._describe(report, sku) if sku is not None else 0
        self._release(report.account, report.item)
        if seq:
            return "applied", seq
        return ("released" if report.sku or not report.status else "unchanged"), 0

    def _remap(self, report: Report) -> None:
        before, after = self._parts_of(report.account, report.item), _parts_in(report.sku)
        is_kit = len(before) > 1 or any(units > 1 for _, units in before)
        if before == after or (is_kit and report.number != BY_PERSON):
            return
        self.items[report.account, report.item] = after
        if not before:
            return
        for sku, _ in before:
            for name in self._own_sources(sku, report.account, report.item):
                source = self._skus[sku].sources.pop(name)
                self._skus[sku].is_left = True
                self.record(sku, why(report), What("status", name.place, source.effect))
        self.move_sales(report, before, after)
        self._ask(report, "now")

    def _remove(self, report: Report, item: str) -> int:
        sku, seq = self._sku_of(report.account, item), 0
        about = report._replace(item=item, version=None)
        for name in self._own_sources(sku, report.account, item):
            source = self._skus[sku or ""].sources[name]
            if source.status != "R":
                before = source.effect
                source.status, source.level, source.changes = "R", 0, []
                seq = self.record(sku or "", why(about), What("status", name.place, before, source.effect))
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
        return self.record(sku, why(report), What("catalogue", "", before, catalogue.text))


def _parts_in(text: str) -> tuple[Part, ...]:
    """A SKU; or several, each with its units."""
    pairs = [part.partition(FIELD) for part in text.split(LIST) if part]
    return tuple((sku, int(units or 1)) for sku, _, units in pairs)


def _parked_key(report: Report) -> ParkedKey:
    if report.kind in "DA":
        return report.kind, report.location, report.op
    return ("O", report.group) if report.kind == "O" else ("L", report.location)


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
