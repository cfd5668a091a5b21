"""Holds, stated again in plain Python: granted on all lines or none, and gone at their deadline.

Shares no code with the hub. A commit turns what is held into sales, so that the
number does not move; ``later`` in the rank of grants loses first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.reference_books import What, Why
from tests.support.reference_line import Event, Line
from tests.support.reference_sales import Sales

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.reference_books import Answer

LIVES_MS: Final = {"intent": 5000, "hold": 60_000, "cart": 900_000}
LIVES: Final = 3
"""A hold lives at most so many times the longest deadline of its mode."""
BASIS: Final = 10_000

Units = dict[tuple[str, "str | None"], int]
"""Units by SKU and place, and by SKU alone."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an asker is bound to."""

    buffer_units: int = 0
    buffer_bp: int = 0
    lag_units: int = 0
    allowance_bp: int = 0
    channel_cap: int | None = None
    on_stale: str = "answer"
    on_unknown: str = "assume_out"
    split: bool = True
    confirm_ms: int = 0
    conflict: str = "honour"


class Wish(NamedTuple):
    """One line of a hold: a SKU, units, and a place if it has to be that one."""

    sku: str
    units: int
    place: str = ""


class Decision(NamedTuple):
    """What an asker is told. ``status`` is the present one of the hold; ``first`` what was decided."""

    first: str
    hold: str = ""
    reason: str = ""
    deadline: int = 0
    status: str = ""


@dataclass(kw_only=True)
class Hold:
    """Units set aside until a deadline."""

    name: str
    seq: int
    agent: str
    channel: str
    wishes: list[Wish]
    """What is still held; lines that were sold are gone from it."""
    granted: tuple[Wish, ...]
    deadline: int
    latest: int
    terms: Terms
    status: str = "held"
    lines: list[Line] = field(default_factory=list)
    order: str = ""


class Holds(Sales):
    """Holds on top of the registry of sales."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = "e"
        self.holds: dict[str, Hold] = {}
        self.taken: dict[tuple[int, str, str], int] = defaultdict(int)
        """Units that a channel holds or has bought on a day, of what it was capped for."""
        self._once: dict[tuple[str, str], tuple[object, Decision]] = {}

    def held(self, sku: str, place: str | None = None) -> int:
        """Units in live holds; with a place, those held there by name."""
        return sum(
            wish.units
            for hold in self.holds.values()
            if hold.status == "held"
            for wish in hold.wishes
            if wish.sku == sku and (place is None or wish.place == place)
        )

    def visible(self, sku: str, terms: Terms) -> int:
        """What an asker may have of a SKU; below zero when more than that is sold."""
        answer = self.answer(sku)
        kept_back = terms.buffer_units - (-answer.ref * terms.buffer_bp // BASIS)
        return answer.ats - kept_back - answer.lag * terms.lag_units + _allowance(answer, terms)

    # The verbs of agents

    def grant(
        self,
        wishes: Sequence[Wish],
        now: int,
        *,
        agent: str = "bot",
        channel: str = "chat",
        mode: str = "hold",
        ttl_ms: int = 15_000,
        terms: Terms | None = None,
        replaces: str = "",
        key: str = "",
    ) -> Decision:
        """Hold every line, or none of them."""
        asked = ("grant", tuple(wishes), mode, ttl_ms, replaces)
        known = self._replay(agent, key, asked)
        if known:
            return known
        self.step(now)
        terms = terms or Terms()
        old = self.holds.get(replaces)
        if replaces and (old is None or old.agent != agent):
            return Decision("unknown")
        if old is not None and old.status in {"committed", "confirming"}:
            return self._over(replaces)
        if old is not None and old.status != "held":
            old = None
        if old is not None:
            old.status = "set aside"
        reason = self._objection(wishes, channel, terms, old)
        if old is not None:
            old.status = "held"
        if reason:
            return self._decided(agent, key, asked, Decision("refused", reason=reason))
        if old is not None:
            self._give_back(old, "released", "replaced")
        seq = len(self.ledger) + 1
        life = LIVES_MS[mode]
        hold = Hold(
            name=f"{self.epoch}.{seq}", seq=seq, agent=agent, channel=channel, wishes=[],
            granted=tuple(wishes), terms=terms,
            deadline=self.now + min(ttl_ms, life), latest=self.now + LIVES * life,
        )  # fmt: skip
        self.holds[hold.name] = hold
        for wish in wishes:
            hold.wishes.append(wish)
            self._count(hold, wish.sku, wish.units)
            self._tell(hold, wish, "", f"held:{wish.units}", f"{mode}:{agent}")
        return self._decided(agent, key, asked, Decision("held", hold.name, "", hold.deadline))

    def renew(self, name: str, ttl_ms: int, now: int, *, agent: str = "bot", key: str = "") -> Decision:
        """Move the deadline, never to an earlier time and never beyond the hold's life."""
        known = self._replay(agent, key, ("renew", name, ttl_ms))
        if known:
            return known
        self.step(now)
        hold = self._live(name)
        if hold is None:
            return self._over(name)
        hold.deadline = max(hold.deadline, min(self.now + ttl_ms, hold.latest))
        told = Decision("done", name, "", hold.deadline)
        return self._decided(agent, key, ("renew", name, ttl_ms), told)

    def release(self, name: str, now: int, *, agent: str = "bot", key: str = "") -> Decision:
        """Give everything back."""
        known = self._replay(agent, key, ("release", name))
        if known:
            return known
        self.step(now)
        hold = self._live(name)
        if hold is None:
            return self._over(name)
        self._give_back(hold, "released", "released")
        return self._decided(agent, key, ("release", name), Decision("done", name))

    def commit(
        self,
        name: str,
        now: int,
        *,
        order: str = "",
        regrants: bool = False,
        lines: Sequence[Wish] = (),
        agent: str = "bot",
        key: str = "",
    ) -> Decision:
        """Make sales of it: what can be sold does not move. Without stock behind it, a conflict.

        With ``regrants`` also after its deadline, where the units can still be had. With ``lines`` less is
        bought than is held, and the rest is anybody's again.
        """
        asked = ("commit", name, order, regrants, tuple(lines))
        known = self._replay(agent, key, asked)
        if known:
            return known
        self.step(now)
        hold = self.holds.get(name)
        if hold is None or not (self._live(name) or (regrants and hold.status == "expired")):
            return self._over(name)
        bought = _bought(hold.granted, lines) if lines else hold.granted
        if bought is None:
            return Decision("not held", name, "", 0, hold.status)
        if hold.status == "expired":
            if not self._revive(hold, bought):
                return self._over(name)
        elif lines:
            self._shorten(hold, bought)
        hold.order = order
        reason = "conflict" if any(self._is_beyond(hold, wish.sku) for wish in hold.wishes) else ""
        if reason and hold.terms.conflict == "void":
            self._give_back(hold, "voided", "conflict")
            return self._decided(agent, key, asked, Decision("conflict", name, reason))
        self._sell(hold, hold.wishes, "commit")
        if hold.terms.confirm_ms and hold.lines:
            hold.status, hold.deadline = "confirming", self.now + hold.terms.confirm_ms
        return self._decided(agent, key, asked, Decision("done", name, reason))

    # What time and orders do

    def lapse(self) -> None:
        """Let holds and confirmations that are due come to their end."""
        due = [hold for hold in self.holds.values() if hold.deadline <= self.now]
        for hold in sorted(due, key=lambda each: (each.deadline, each.name)):
            if hold.status == "held":
                self._give_back(hold, "expired", "deadline")
            elif hold.status == "confirming":
                self._confirm(hold)

    def claim_hold(self, named: Iterable[str], sku: str, reason: Why) -> list[str]:
        """An order names holds: it commits the SKU's lines of a live one; return those that are over."""
        over = []
        for name in named:
            hold = self.holds.get(name)
            if hold is None or hold.status in {"committed", "confirming"}:
                continue
            if hold.status != "held":
                over.append(name)
                continue
            named_here = [wish for wish in hold.wishes if wish.sku == sku]
            self._sell(hold, named_here, reason.cause, is_final=True)
        return over

    # How

    def _objection(self, wishes: Sequence[Wish], channel: str, terms: Terms, old: Hold | None) -> str:
        """Why the first line that cannot be held cannot be."""
        asked = _units(wishes)
        back = _units(old.wishes) if old else {}
        reasons = (
            self._lacks_units(wish.sku, asked[wish.sku, None], terms, back)
            or self._is_over_cap(wish.sku, asked[wish.sku, None], channel, terms, old)
            or self._lies_elsewhere(wish, asked, terms)
            for wish in wishes
        )
        return next(filter(None, reasons), "")

    def _lacks_units(self, sku: str, units: int, terms: Terms, back: Units) -> str:
        answer = self.answer(sku)
        is_assumed = not answer.known or (answer.stale and terms.on_stale == "assume_in")
        is_there = is_assumed or units <= self.visible(sku, terms) + back.get((sku, None), 0)
        return _closed(answer, terms) or ("" if is_there else "insufficient")

    def _is_over_cap(self, sku: str, units: int, channel: str, terms: Terms, old: Hold | None) -> str:
        if terms.channel_cap is None:
            return ""
        is_counted = old and old.channel == channel and old.terms.channel_cap is not None
        credit = _units(old.wishes).get((sku, None), 0) if old and is_counted else 0
        had = self.taken[self._today, channel, sku] - credit
        return "channel_cap" if units > terms.channel_cap - had else ""

    def _lies_elsewhere(self, wish: Wish, asked: Units, terms: Terms) -> str:
        answer = self.answer(wish.sku)
        room = {cell.place: cell.base - self.held(wish.sku, cell.place) for cell in answer.cells}
        if wish.place:
            is_there = asked[wish.sku, wish.place] <= room.get(wish.place, 0)
        else:
            is_whole = terms.split or not answer.known
            is_there = is_whole or asked[wish.sku, None] <= max([*room.values(), 0])
        return "" if is_there else "insufficient"

    def _is_beyond(self, hold: Hold, sku: str) -> bool:
        """Whether there is nothing behind it even if all that was granted later goes without."""
        answer = self.answer(sku)
        if not answer.known or (answer.stale and hold.terms.on_stale == "assume_in"):
            return False  # sold on trust: there is no number that it could lie beyond
        short = -(answer.ats + _allowance(answer, hold.terms))
        later = sum(
            wish.units
            for each in self.holds.values()
            if each.status == "held" and each.seq > hold.seq
            for wish in each.wishes
            if wish.sku == sku
        )
        return short > 0 and short > later

    def _sell(self, hold: Hold, wishes: Sequence[Wish], cause: str, *, is_final: bool = False) -> None:
        confirms = hold.terms.confirm_ms > 0 and not is_final
        status = "confirming" if confirms else "committed"
        for wish in tuple(wishes):
            hold.wishes.remove(wish)
            line = self._sale_of(hold, wish)
            if not line.takes:
                line.status, line.born = ("c" if confirms else "o"), self.now
            elif line.origin:
                self._tell(hold, wish, f"held:{wish.units}", status, cause)
                continue
            line.takes.append(Event(n=wish.units, at=self.now))
            line.is_placed_by_hub = not wish.place
            self.put(line, wish.units, wish.place or None)
            self._follow_acks(line)
            hold.lines.append(line)
            for name in self.sources(wish.sku):
                self._mark(wish.sku, name, [line])
            self._tell(hold, wish, f"held:{wish.units}", status, cause)
        hold.status = hold.status if hold.wishes else "committed"

    def _sale_of(self, hold: Hold, wish: Wish) -> Line:
        """The sale that an order or an ack has already told of, or a new one."""
        names = [("h", hold.name, wish.sku)]
        if hold.order:
            names.append(("c", hold.order, wish.sku))
        for name in names:
            line = self.names.get(name)
            if line is not None and (not line.hold or line.hold == hold.name):
                break
        else:
            line = Line(sku=wish.sku)
            self._sku(wish.sku).lines.append(line)
        for name in names:
            self._give_name(line, name)
        line.hold = hold.name
        return line

    def _confirm(self, hold: Hold) -> None:
        waiting = [line for line in hold.lines if line.status == "c"]
        is_beyond = any(self._is_beyond(hold, line.sku) for line in waiting)
        void = is_beyond and hold.terms.conflict == "void"
        hold.status = "voided" if void else "committed"
        for line in waiting:
            units, line.status = line.q, "o"
            if void:
                self._count(hold, line.sku, -units)
                self._void(line)
            self._tell(hold, Wish(line.sku, units), "confirming", hold.status, "confirmed")

    def _void(self, line: Line) -> None:
        """Only its names are left: an order that still comes is a sale of its own."""
        line.status, line.hold, line.places = "x", "", {}
        line.takes.clear()
        line.gives.clear()

    def _give_back(self, hold: Hold, status: str, cause: str) -> None:
        wishes, hold.wishes, hold.status = list(hold.wishes), [], status
        for number, wish in enumerate(wishes):
            hold.wishes, hold.status = wishes[number + 1 :], "held"
            self._count(hold, wish.sku, -wish.units)
            self._tell(hold, wish, f"held:{wish.units}", status, cause)
        hold.wishes, hold.status = [], status

    def _tell(self, hold: Hold, wish: Wish, before: str, after: str, cause: str) -> None:
        place = wish.place
        reason = Why(item=hold.name, cause=cause, at=self.now)
        self.record(wish.sku, reason, What("hold", place, before or None, after))

    def _count(self, hold: Hold, sku: str, units: int) -> None:
        if hold.terms.channel_cap is not None:
            self.taken[self._today, hold.channel, sku] += units

    @property
    def _today(self) -> int:
        return self.now // 86_400_000

    def _live(self, name: str) -> Hold | None:
        hold = self.holds.get(name)
        return hold if hold is not None and hold.status == "held" and hold.deadline > self.now else None

    def _revive(self, hold: Hold, wanted: Sequence[Wish]) -> bool:
        """Hold again what has lapsed, if it is still there for the same asker."""
        if self._objection(wanted, hold.channel, hold.terms, None):
            return False
        hold.granted, hold.status, hold.wishes = tuple(wanted), "held", []
        for wish in wanted:
            hold.wishes.append(wish)
            self._count(hold, wish.sku, wish.units)
            self._tell(hold, wish, "", f"held:{wish.units}", "regranted")
        return True

    def _shorten(self, hold: Hold, bought: Sequence[Wish]) -> None:
        """Give back what is not bought, line by line."""
        left = {(wish.sku, wish.place): wish.units for wish in bought}
        for position, wish in reversed([*enumerate(hold.wishes)]):
            units = left.get((wish.sku, wish.place), 0)
            if units == wish.units:
                continue
            hold.wishes[position : position + 1] = [wish._replace(units=units)] if units else []
            self._count(hold, wish.sku, units - wish.units)
            self._tell(hold, wish, f"held:{wish.units}", f"held:{units}" if units else "released", "commit")
        hold.granted = tuple(bought)

    def _over(self, name: str) -> Decision:
        hold = self.holds.get(name)
        return Decision("unknown") if hold is None else Decision("over", name, "", 0, hold.status)

    def _replay(self, agent: str, key: str, asked: object) -> Decision | None:
        known = self._once.get((agent, key)) if key else None
        if known is None:
            return None
        before, told = known
        if before != asked:
            return Decision("mismatch")
        return told._replace(status=self.holds[told.hold].status if told.hold else "")

    def _decided(self, agent: str, key: str, asked: object, told: Decision) -> Decision:
        if key:
            self._once[agent, key] = asked, told
        return told._replace(status=self.holds[told.hold].status if told.hold else "")


def _closed(answer: Answer, terms: Terms) -> str:
    if answer.ver == 0:
        return "unknown_sku"
    if answer.cat == "D" or answer.gone:
        return "discontinued"
    if not answer.known:
        return "" if terms.on_unknown == "assume_in" else "unknown_level"
    return "stale" if answer.stale and terms.on_stale in {"assume_out", "escalate"} else ""


def _bought(granted: Sequence[Wish], lines: Sequence[Wish]) -> tuple[Wish, ...] | None:
    """What is left of a hold that has each place once; None where more is bought than was granted."""
    left = {(wish.sku, wish.place): wish.units for wish in granted}
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for sku, units, place in lines:
        places = [at for of, at in left if of == sku]
        where = places[0] if not place and "" not in places and len(places) == 1 else place
        taken[sku, where] += units
    if any(units > left.get(where, 0) for where, units in taken.items()):
        return None
    return tuple(wish._replace(units=taken[wish[0], wish[2]]) for wish in granted if taken[wish[0], wish[2]])


def _allowance(answer: Answer, terms: Terms) -> int:
    return answer.ref * terms.allowance_bp // BASIS


def _units(wishes: Iterable[Wish]) -> Units:
    """Units by SKU and place, and by SKU alone."""
    units: dict[tuple[str, str | None], int] = defaultdict(int)
    for wish in wishes:
        units[wish.sku, None] += wish.units
        units[wish.sku, wish.place] += wish.units
    return units
