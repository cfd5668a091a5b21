"""One sale of one SKU, and which of its units a source's own number counts already.

Shares no code with the hub. A line knows nothing but events: units taken, units
given back, and what sources have acknowledged. Each event remembers the sources
whose number is known to contain it; what is pending follows from these marks alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.reference_answer import Role, SourceName
    from tests.support.reference_source import Source

SUBTRACTED: Final = {"o", "c"}
"""Status of lines that lower the number: open, and confirming."""


@dataclass(kw_only=True)
class Event:
    """Units of a line that were taken, or given back. ``us``: latest time at which it may have happened."""

    n: int
    at: int
    us: int | None = None
    told_by: set[SourceName] = field(default_factory=set)
    """Sources that would contain it, if it happened at their place."""
    included: set[SourceName] = field(default_factory=set)


@dataclass(kw_only=True)
class Ack(Event):
    """Units that an account says its number contains (n > 0), or contains no longer (n < 0)."""

    account: str
    key: str
    place: str = ""
    scale: str = ""
    upper: int | None = None
    """Its version, at the latest."""
    dropped: bool = False
    """Cancelled units that never were in the number."""


@dataclass(kw_only=True)
class Line:
    """One sale of one SKU under all its names."""

    sku: str
    origin: str = ""
    """Account that told the order; empty while only the hub knows of it."""
    order: tuple[str, ...] = ()
    """Account, order and line by which it was told first."""
    item: str = ""
    status: str = "x"
    """o open, c confirming, h historical, s settled, x known by name only."""
    places: dict[str, int] = field(default_factory=dict)
    is_placed_by_hub: bool = True
    """The place was chosen; nobody has told it."""
    takes: list[Event] = field(default_factory=list)
    gives: list[Event] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    scale: str = ""
    version: int | None = None
    is_cancelled: bool = False
    names: set[tuple[str, ...]] = field(default_factory=set)
    hold: str = ""
    born: int = 0

    @property
    def q(self) -> int:
        """Units taken: what is subtracted somewhere, as pending or by the sources."""
        return sum(take.n for take in self.takes)

    @property
    def present(self) -> int:
        """Units that are still sold."""
        return self.q - sum(give.n for give in self.gives)

    @property
    def counts(self) -> bool:
        """Whether it lowers the number."""
        return self.status in SUBTRACTED

    def place(self, units: int, where: str) -> None:
        """Put units somewhere; fewer than none takes them away, from the last place first."""
        if units > 0:
            self.places[where] = self.places.get(where, 0) + units
        for place in sorted(self.places, reverse=True):
            gone = min(self.places[place], max(0, -units))
            self.places[place] -= gone
            units += gone
        self.places = {place: n for place, n in self.places.items() if n}

    def move(self, units: int, origin: str, to: str) -> None:
        """Move units from one place to another."""
        self.places[origin] -= units
        self.places[to] = self.places.get(to, 0) + units
        self.places = {place: n for place, n in self.places.items() if n}

    def take_again(self, units: int, *, at: int, us: int | None) -> None:
        """An order says what a commit of the hub has become: no source has heard of it in any other way."""
        self.place(units - self.q, next(iter(sorted(self.places)), ""))
        self.takes = [Event(n=units, at=at, us=us)] if units else []

    def events(self) -> Iterable[Event]:
        """Everything that a number may contain."""
        return (*self.takes, *self.gives, *self.acks)


class Evidence(NamedTuple):
    """How an account's numbers come to contain the sales of one origin."""

    role: Role
    lag: int | None = None


def mark(line: Line, name: SourceName, sources: Mapping[SourceName, Source], evidence: Evidence) -> None:
    """Note which events of the line the source's latest report contains."""
    source = sources[name]
    for event in line.events():
        if _contains(line, event, name, source, evidence):
            event.told_by.add(name)
        else:
            event.told_by.discard(name)
        own = {each for each in sources if each.account == name.account}
        counted = {each for each in own if sources[each].status == "K"}
        is_told = not line.is_placed_by_hub or (isinstance(event, Ack) and event.place)
        event.included -= own
        if is_told or not counted:
            event.included |= event.told_by & own
        elif counted <= event.told_by:
            event.included |= own


def forget(line: Line, name: SourceName) -> None:
    """The source has begun anew: nothing is known to be in its number."""
    for event in line.events():
        event.told_by.discard(name)
        event.included.discard(name)


def pending(line: Line, name: SourceName, beside: Iterable[SourceName] = ()) -> int:
    """Units of the line, at the source's place, that its number does not contain yet.

    ``beside`` are all sources of its account: what they acknowledge belongs together.
    """
    here = line.places.get(name.place, 0) if line.counts else 0
    return min(here, _pending_by_time(line, name), _pending_by_acks(line, name, sorted({*beside, name})))


def is_taken_as_contained(line: Line, name: SourceName, beside: Iterable[SourceName]) -> bool:
    """Whether time alone makes all of it contained, and so much of it is counted as that."""
    is_counted = pending(line, name, beside) < line.places.get(name.place, 0)
    return is_counted and max(0, _pending_by_time(line, name)) == 0


def _contains(line: Line, event: Event, name: SourceName, source: Source, evidence: Evidence) -> bool:
    if isinstance(event, Ack):
        return evidence.role.ref and event.account == name.account and _contains_ack(event, source)
    if evidence.role.own and line.origin == name.account:
        by_version = event.us is not None and source.scale == "T" and source.version is not None
        if event.at < source.read_at or (by_version and _is_before(event.us, source)):
            return True
    if evidence.lag is None or not line.origin:
        return False
    return max(event.at, source.reset_at) + evidence.lag <= source.read_at


def _is_before(us: int | None, source: Source) -> bool:
    return us is not None and us + 1 <= (source.version or 0) - source.resolution


def _contains_ack(ack: Ack, source: Source) -> bool:
    if ack.at < source.reset_at:
        return False
    has_version = ack.upper is not None and ack.scale == source.scale and source.version is not None
    by_version = has_version and (ack.upper or 0) <= (source.version or 0) - source.resolution
    return by_version or ack.at < source.read_at


def _pending_by_time(line: Line, name: SourceName) -> int:
    taken = sum(take.n for take in line.takes if name in take.included)
    given = sum(give.n for give in line.gives if name in give.included)
    return line.q - max(taken, given)


def _pending_by_acks(line: Line, name: SourceName, beside: Sequence[SourceName]) -> int:
    """What the account owes of the line, less what its numbers contain and have not let go again.

    What it owes in all lies where it has acknowledged least.
    """
    places = {each.place for each in beside}
    sold = {place: units for place, units in sorted(line.places.items()) if place in places}
    acks = [ack for ack in line.acks if ack.account == name.account]
    counted = [ack for ack in acks if _is_counted(line, ack, name, beside)]
    inside = {place: max(0, _units(counted, place)) for place in places}
    unplaced = max(0, _units(counted, ""))
    given = sum(give.n for give in line.gives)
    elsewhere = [ack for ack in line.acks if ack.account != name.account and ack.place not in places]
    done = max(0, min(_cancelled(counted), given - _cancelled(elsewhere)))
    owed = max(0, sum(sold.values()) - done - sum(inside.values()) - unplaced)
    for place, units in sold.items():
        lacking = min(owed, max(0, units - inside[place]))
        if place == name.place:
            return lacking
        owed -= lacking
    return 0


def _is_counted(line: Line, ack: Ack, name: SourceName, beside: Sequence[SourceName]) -> bool:
    """Whether the numbers that it speaks of contain it: that of its place, or all at the places of the line.

    Of several sources at a place the first speaks for it, and at its own place the one that is looked at.
    """
    speakers = {each.place: each for each in reversed(beside)} | {name.place: name}
    if ack.place:
        return speakers.get(ack.place, name) in ack.included
    return all(speakers[place] in ack.included for place in line.places if place in speakers)


def _units(acks: Iterable[Ack], place: str) -> int:
    return sum(ack.n for ack in acks if ack.place == place and not ack.dropped)


def _cancelled(acks: Iterable[Ack]) -> int:
    """Cancelled units that were let go, and those that never were in the number."""
    return sum(abs(ack.n) for ack in acks if ack.dropped or ack.n < 0)
