"""Orders, acknowledgements and the one registry of sales, stated again in plain Python.

Shares no code with the hub. A sale has one line per SKU, found under any of its
names; an order row is the state of a line, and the line moves by the difference.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.reference_books import DAY_MS, Books, What, Why, why
from tests.support.reference_line import Ack, Event, Line, forget, is_taken_as_contained, pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.support.reference_answer import SourceName
    from tests.support.reference_source import Report

HOUR_MS: Final = 3_600_000
LIST: Final = "\x1e"
FIELD: Final = "\x1f"

Name = tuple[str, ...]
Told = tuple[str, int]
Part = tuple[str, int]


class Sold(NamedTuple):
    """What an order row says of one SKU: so many units, in this state, at this place if it says so."""

    report: Report
    sku: str
    units: int
    place: str | None
    happened: int | None


class Sales(Books):
    """The registry of sales, on top of the books."""

    def __init__(self) -> None:
        super().__init__()
        self.settle_memory_ms = 168 * HOUR_MS
        self.names: dict[Name, Line | None] = {}
        self.late_orders: list[str] = []
        """Holds that an order named when they were over."""
        self.doubted: set[str] = set()
        """Accounts that hear of sales later than was thought."""

    # Orders

    def take_order(self, sold: Sold) -> Told:
        """Bring the line to the state that the row tells."""
        report = sold.report
        over = self.claim_hold(references(report), sold.sku, why(report))
        line = self._line_of(report, sold.sku, at=report.at)
        if line.status in {"h", "s"}:
            return "superseded", 0
        if line.origin not in {"", report.account}:
            return "unchanged", 0
        refused = self._refusal(line, sold)
        if refused:
            self._mark_everywhere(line)  # an older state can still have told a name
            return refused, self.record(line.sku, why(report))
        line.version = report.version if report.version is not None else line.version
        line.scale = report.scale or line.scale
        line.is_cancelled = report.status == "X"
        before = line.present
        if line.status == "x":
            return self._place_first(line, sold, over)
        if not line.origin:
            self._join(line, sold)
        self._follow(line, sold)
        self._settle_place(line, sold)
        return self._told(line, why(report), before)

    def _refusal(self, line: Line, sold: Sold) -> str:
        report = sold.report
        if report.version is None:
            return "superseded" if line.is_cancelled else ""
        if line.version is None or report.version > line.version:
            return "scale_mixed" if line.version is not None and line.scale != report.scale else ""
        if line.scale != report.scale:
            return "scale_mixed"
        return "superseded" if report.version < line.version else _tie(line, sold)

    def _place_first(self, line: Line, sold: Sold, over: list[str]) -> Told:
        report = sold.report
        line.origin = report.account
        if report.status == "X":
            return "unchanged", 0
        reason = why(report)
        since = self._role_of(report.account).connected_at - self.settle_memory_ms
        if 0 < report.evidence < since:
            line.status = "h"
            return "unchanged", 0
        line.status, line.born = "o", report.at
        for dead in over:
            self.late_orders.append(dead)
            reason = reason._replace(cause=f"{reason.cause} dead_hold:{dead}")
        if sold.units:
            line.takes.append(Event(n=sold.units, at=report.at, us=sold.happened))
            self.put(line, sold.units, sold.place)
        line.is_placed_by_hub = sold.place is None
        self._follow_acks(line)
        return self._told(line, reason, 0)

    def _join(self, line: Line, sold: Sold) -> None:
        """The order that a commit of the hub has become: what it says is what sources hear of."""
        report = sold.report
        line.origin, line.status = report.account, "o"
        if report.status == "P" and not line.acks:
            line.take_again(sold.units, at=report.at, us=sold.happened)
        for take in line.takes:
            take.at, take.us = report.at, sold.happened
        own = self._own_places(line)
        if own and sold.place is None and not set(line.places) <= set(own):
            line.places = {}
            self.put(line, line.q, None)

    def _follow(self, line: Line, sold: Sold) -> None:
        target = 0 if sold.report.status == "X" else sold.units
        more = target - line.present
        event = Event(n=abs(more), at=sold.report.at, us=sold.happened)
        if more > 0:
            line.takes.append(event)
            told = None if line.is_placed_by_hub else next(iter(sorted(line.places)), None)
            self.put(line, more, sold.place if sold.place is not None else told)
        elif more < 0:
            line.gives.append(event)
        self._follow_acks(line)

    def _settle_place(self, line: Line, sold: Sold) -> None:
        """An order that says from where takes all of it from there, unless a source has said otherwise."""
        if sold.place is not None and line.q:
            line.is_placed_by_hub = False
            line.places = {sold.place: line.q}
            self._follow_acks(line)

    def _told(self, line: Line, reason: Why, before: int) -> Told:
        self._mark_everywhere(line)
        if before == line.present:
            return "unchanged", self.record(line.sku, reason)
        return "applied", self.record(
            line.sku, reason, What("sale", _place_of(line), str(before), str(line.present))
        )

    def _mark_everywhere(self, line: Line) -> None:
        for name in self.sources(line.sku):
            self._mark(line.sku, name, [line])

    # Acknowledgements

    def take_ack(self, report: Report, sku: str, units: int, place: str | None) -> Told:
        """Note what a source says that its number contains, and where it took it from."""
        line = self._line_of(report, sku, at=report.at)
        if any((ack.account, ack.key) == (report.account, report.op) for ack in line.acks):
            return "duplicate", 0
        place = self._only_place(sku, report.account) if place is None else place
        upper = None if report.version is None else report.version + report.resolution
        line.acks.append(
            Ack(
                n=report.number * units, at=report.at, account=report.account, key=report.op, place=place,
                scale=report.scale, upper=upper, dropped=report.status == "X",
            )
        )  # fmt: skip
        if report.number > 0 and report.status != "X":
            self._learn(line, report)
        self._follow_acks(line)
        self._mark_everywhere(line)
        what = What("ack", place, None, str(report.number * units))
        return "applied", self.record(sku, why(report), what)

    def _learn(self, line: Line, report: Report) -> None:
        """A level that was thought to contain the sale, and by its version does not: the way takes longer."""
        role, lag = self._evidence(report.account, line.origin)
        is_own = role.own and line.origin == report.account
        if lag is None or is_own or role.kind != "A" or not (line.takes and line.origin and line.counts):
            return
        beside = [name for name in self.sources(line.sku) if name.account == report.account]
        for name in beside:
            source = self.sources(line.sku)[name]
            is_older = report.version is not None and source.scale == report.scale and (
                source.version is not None and source.version + source.resolution < report.version
            )  # fmt: skip
            if is_older and is_taken_as_contained(line, name, beside):
                took = max(0, report.at - line.takes[-1].at)
                self.lags[report.account, line.origin] = min(max(lag + 1, took), DAY_MS)
                self.doubted.add(report.account)
                return

    def look_again(self) -> None:
        """What was thought to have come by a way that has proved longer is looked at anew."""
        for sku in self.skus():
            for name in self.sources(sku):
                if name.account in self.doubted:
                    self._mark(sku, name)
        self.doubted.clear()

    def _follow_acks(self, line: Line) -> None:
        """A sale is where it is acknowledged; where more is than was sold, the newest word counts."""
        acks = [
            ack for ack in line.acks
            if ack.place and not ack.dropped and self._role_of(ack.account).kind == "A"
        ]  # fmt: skip
        told: dict[str, int] = {}
        for ack in acks:
            so_far = told.pop(ack.place, 0) if ack.n > 0 else told.get(ack.place, 0)
            told[ack.place] = so_far + ack.n
        for place, units in told.items():
            for is_spared in (True, False):
                for other in sorted(set(line.places) - {place}):
                    there = line.places[other] - (max(0, told.get(other, 0)) if is_spared else 0)
                    missing = min(units, line.q) - line.places.get(place, 0)
                    if min(missing, there) > 0:
                        line.move(min(missing, there), other, place)
        if line.places and all(n <= told.get(place, 0) for place, n in line.places.items()):
            line.is_placed_by_hub = False

    def _only_place(self, sku: str, account: str) -> str:
        places = {name.place for name in self.sources(sku) if name.account == account}
        return places.pop() if len(places) == 1 else ""

    # Names

    def _line_of(self, report: Report, sku: str, *, at: int) -> Line:
        """The line that the row names, under all of its names; a new one if there is none."""
        names = _names(report, sku)
        found: Line | None = None
        for name in names:
            other = self.names.get(name)
            if other is not None and other is not found and _belongs(report, other, name):
                found = other if found is None else self._absorb(found, other, may_turn=name[0] in "hr")
        line = found or Line(sku=sku, born=at)
        if found is None:
            self._sku(sku).lines.append(line)
        if report.kind == "O" and not line.order:
            line.order, line.item = _order_of(report), report.item
        for name in names:
            self._give_name(line, name, _order_of(report))
        return line

    def _give_name(self, line: Line, name: Name, order: tuple[str, ...] = ("", "", "")) -> None:
        known = self.names.setdefault(name, line)
        if known is line:
            line.names.add(name)
            return
        if name[0] in "cl" and known and ((known.order and line.order) or _is_of_another_line(known, order)):
            # Two platforms, or two lines, use one number: it names neither.
            self.names[name] = None
            known.names.discard(name)

    def _absorb(self, line: Line, other: Line, *, may_turn: bool) -> Line:
        """Two names turn out to be one sale: what was only known by name, or only committed, goes into it."""
        is_sale = bool(other.order or other.takes)
        if may_turn and is_sale and not (line.order or line.takes) and not _contradicts(line, other):
            line, other = other, line
        if other.order:
            return line
        line.acks += other.acks
        line.hold = line.hold or other.hold
        for name in other.names:
            self.names[name] = line
        line.names |= other.names
        self._sku(line.sku).lines.remove(other)
        self._follow_acks(line)
        return line

    def move_sales(self, report: Report, before: Sequence[Part], after: Sequence[Part]) -> None:
        """The sales of an item are made anew when it becomes another SKU, a pack or a kit."""
        moved: dict[tuple[str, ...], tuple[Line, int]] = {}
        for sku, units in before:
            for line in self.lines(sku):
                if line.counts and (line.order[:1], line.item) == ((report.account,), report.item):
                    self._take_out(line, report, stays=sku in dict(after))
                    moved.setdefault(line.order, (line, units))
        for line, units in moved.values():
            for part in after:
                if ("o", *line.order, part[0]) not in self.names:
                    self._bring_in(line, units, part, report, is_renamed=len(before) == len(after) == 1)

    def _take_out(self, line: Line, report: Report, *, stays: bool) -> None:
        self._skus[line.sku].lines.remove(line)
        for name in line.names:
            self.names.pop(name)
        if not stays:
            self.record(line.sku, why(report), What("sale", _place_of(line), str(line.present), "0"))

    def _bring_in(self, sale: Line, units: int, part: Part, report: Report, *, is_renamed: bool) -> None:
        sku, share = part[0], Fraction(part[1], units)
        line = replace(
            sale,
            sku=sku,
            places={},
            takes=_in_other_units(sale.takes, share, math.ceil),
            gives=_in_other_units(sale.gives, share, math.floor),
            acks=[
                replace(ack, n=math.floor(ack.n * (share if ack.account == report.account else 1)))
                for ack in sale.acks
                if ack.account == report.account or is_renamed or sku == sale.sku
            ],
            names={(*name[:-1], sku) for name in sale.names},
        )
        for event in line.events():
            event.told_by, event.included = set(), set()
        self._sku(sku).lines.append(line)
        for name in line.names:
            self.names.setdefault(name, line)
        if sale.is_placed_by_hub:
            self.put(line, line.q, None)
        else:
            line.places = _scaled(sale.places, share)
        self._told(line, why(report), 0)

    # Places

    def put(self, line: Line, units: int, place: str | None) -> None:
        """Put units where they are said to be, or else where most is; over several if none has all."""
        if place is not None:
            line.place(units, place)
            return
        own = self._own_places(line)
        cells = [cell for cell in self.conclusion_of(line.sku).cells if not own or cell.place in own]
        room = {cell.place: cell.base - self.held(line.sku, cell.place) for cell in cells}
        order = sorted(room, key=lambda each: (-room[each], each))
        if order and room[order[0]] < units:
            for each in order:
                part = min(units, max(0, room[each]))
                line.place(part, each)
                units -= part
        line.place(units, order[0] if order else "")

    def _own_places(self, line: Line) -> list[str]:
        """Where the account that took the order keeps stock of its own."""
        role = self._role_of(line.origin)
        if not (line.origin and role.own and role.kind == "A"):
            return []
        return sorted(
            name.place
            for name, source in self.sources(line.sku).items()
            if name.account == line.origin and source.status == "K"
        )

    # The end of a sale

    def settle(self, sku: str, line: Line, cause: str = "settled") -> int:
        """A person says that the sale is over: it is subtracted nowhere any more."""
        before, line.status, line.places = line.present, "s", {}
        return self.record(sku, Why(cause=cause, at=self.now), What("settled", "", str(before), "0"))

    def retire(self) -> None:
        """Forget sales that every source contains and that are older than any source that may join."""
        for sku in self.skus():
            for line in self.lines(sku):
                if line.counts and line.born + self.settle_memory_ms <= self.now and self._is_absorbed(line):
                    line.status, line.places = "s", {}

    def _is_absorbed(self, line: Line) -> bool:
        names = [name for name in self.sources(line.sku) if self._role_of(name.account).kind == "A"]
        covered = {name.place for name in names}
        return set(line.places) <= covered and not any(pending(line, name, names) for name in names)

    def reset(self, sku: str, name: SourceName) -> None:
        """The source has begun anew."""
        for line in self.lines(sku):
            forget(line, name)

    def claim_hold(self, named: Iterable[str], sku: str, reason: Why) -> list[str]:
        """An order names holds: it commits the SKU's lines of a live one; return those that are over."""
        raise NotImplementedError


def references(report: Report) -> list[str]:
    """The names that the hub, or another system, gave the sale."""
    return [each for each in report.extra.split(LIST) if each]


def _order_of(report: Report) -> tuple[str, str, str]:
    order, _, part = report.group.partition(FIELD)
    return report.account, order, part


def _names(report: Report, sku: str) -> list[Name]:
    """Every name that a row gives its sale, the surest first; an ack names an order of another platform."""
    account, order, part = _order_of(report)
    names: list[Name] = [("o", account, order, part, sku)] if report.kind == "O" else []
    if part:
        names.append(("l", order, part, sku))
    for reference in references(report):
        names += [("h", reference, sku), ("r", reference, sku)]
    return [*names, ("c", order, sku)] if order else names


def _belongs(report: Report, line: Line, name: Name) -> bool:
    """Whether the row speaks of this line, and not of another one that has the name as well."""
    account, order, part = _order_of(report)
    if name[0] == "o":
        return True
    if not line.order:
        return name[0] == "l" or not _is_of_another_line(line, (account, order, part))
    if report.kind == "A":
        return not part or order != line.order[1] or part == line.order[2]
    return name[0] in "hr" and account != line.order[0]


def _is_of_another_line(line: Line, order: tuple[str, ...]) -> bool:
    """Whether all that is known of a line is that it is another one of the same order."""
    _, name, part = order
    others = {each[2] for each in line.names if each[:2] == ("l", name)} - {part}
    return bool(part and others)


def _tie(line: Line, sold: Sold) -> str:
    """Two states of one version, by a clock too coarse: the one that takes more, and a cancel is final."""
    if sold.report.status == "X":
        return "duplicate" if line.is_cancelled else ""
    if line.is_cancelled or sold.units < line.present:
        return "superseded"
    return "duplicate" if sold.units == line.present else ""


def _contradicts(stub: Line, line: Line) -> bool:
    """Whether a name of the stub is that of another order than the line's."""
    return any(name[0] in "cl" and name[1] != line.order[1] for name in stub.names if line.order)


def _place_of(line: Line) -> str:
    return next(iter(line.places)) if len(line.places) == 1 else ""


def _in_other_units(
    events: Iterable[Event], share: Fraction, rounded: Callable[[Fraction], int]
) -> list[Event]:
    """The same events in another unit; their sum is rounded once, and not each of them."""
    moved, before, after = [], 0, 0
    for event in events:
        before += event.n
        moved.append(replace(event, n=rounded(before * share) - after))
        after += moved[-1].n
    return moved


def _scaled(places: Mapping[str, int], share: Fraction) -> dict[str, int]:
    events = [Event(n=units, at=0) for _, units in sorted(places.items())]
    moved = _in_other_units(events, share, math.ceil)
    return {place: event.n for place, event in zip(sorted(places), moved, strict=True) if event.n}
