"""A merchant's stock, a hub and a network that all go wrong, in simulated time.

What is true is kept by :class:`Truth` alone, which knows of every value until when it
was true. The hub tells of it as the feed's rules demand; the classes' small methods are
the rules, so that a test can break one by overriding it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from synchub_client.frames import Answer, Frame, Hello, Reset, SetChanged, Snap, SnapEnd, Upd
from synchub_client.model import Item

SKUS: Final = tuple(f"SKU-{number}" for number in range(8))
HEARTBEAT_S: Final = 0.333
POLL_S: Final = 0.1
COUNT: Final = 4
"""Most entries of one read."""
SOON_S: Final = 0.002
CUT_THEN_STALLED: Final = 0.2
"""Share of reads that were cut after which the store does not answer for a while."""
RETAINED: Final = 400
DRIFT: Final = 1e-4


class Agenda:
    """What happens when; ``now`` is the true time that nobody in the simulation can read."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._due, (max(when, self.now), next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen in a while."""
        self.at(self.now + seconds, what)

    def run(self, until: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen in its order."""
        while self._due and self._due[0][0] <= until and not stop():
            self.now, _, what = heapq.heappop(self._due)
            what()


@dataclass(frozen=True)
class ClockFace:
    """A clock that started somewhere and goes a little wrong."""

    start: float
    drift: float

    def at(self, true_time: float) -> float:
        """What it shows."""
        return self.start + true_time * (1 + self.drift)

    def ms(self, true_time: float) -> int:
        """What it shows in whole milliseconds."""
        return math.floor(self.at(true_time) * 1000)


def any_clock(chance: random.Random) -> ClockFace:
    """A clock as bad as it may be, or somewhere in between."""
    drift = chance.choice((-DRIFT, DRIFT, chance.uniform(-DRIFT, DRIFT)))
    return ClockFace(start=chance.uniform(1e3, 1e6), drift=drift)


@dataclass(frozen=True)
class Entry:
    """One change as the store keeps it; ``units`` is another for every change there ever was."""

    seq: int
    sku: str
    ver: int
    units: int


class Truth:
    """The primary store, and until when each of its values was true."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.epoch = "history-0"
        self.generation = 0
        """Which machine is the primary."""
        self.log: list[Entry] = []
        self.levels: dict[str, Entry] = {}
        self.true_until: dict[int, float] = {}
        self._units = itertools.count(1)
        for sku in SKUS:
            self.change(sku)

    @property
    def seq(self) -> int:
        """Of the last change."""
        return self.log[-1].seq if self.log else 0

    def change(self, sku: str) -> None:
        """Give a SKU another value."""
        old = self.levels.get(sku)
        if old is not None:
            self.true_until[old.units] = self._agenda.now
        entry = Entry(self.seq + 1, sku, 1 if old is None else old.ver + 1, next(self._units))
        self.log.append(entry)
        self.levels[sku] = entry
        self.true_until[entry.units] = math.inf

    def fail_over(self, lost: int, epoch: str) -> None:
        """Go on as a machine that has not seen the last changes."""
        kept = self.log[: max(len(SKUS), len(self.log) - lost)]
        levels = {entry.sku: entry for entry in kept}
        for sku in SKUS:
            if levels[sku] != self.levels[sku]:
                self.true_until[self.levels[sku].units] = self._agenda.now
                self.true_until[levels[sku].units] = math.inf
        self.log, self.levels = kept, levels
        self.epoch, self.generation = epoch, self.generation + 1

    def after(self, seq: int) -> list[Entry]:
        """Entries later than a position."""
        # The log has no holes, so a sequence is a place in it.
        return self.log[seq:]


@dataclass
class Weather:
    """What is broken at this moment."""

    store_stalled_until: float = 0.0
    link_stalled_until: float = 0.0
    loss: float = 0.0
    """Share of frames that a link loses without ending."""
    repeat: float = 0.0


@dataclass
class Session:
    """The hub's end of one connection."""

    process: Process
    deliver: Callable[[Frame], None]
    follows: frozenset[str]
    """Nothing is everything."""
    rev: int = 1
    thin: bool = False
    is_open: bool = True
    is_live: bool = False
    """Whether it has its first state and gets what everyone gets."""
    is_owed: bool = False
    """Whether what changed during its snapshot is still to be told, before anything else."""
    covered: int = 0
    extending: int = 0
    """How many additions of its set are under way."""
    beat_due: float = 0.0
    last_delivery: float = 0.0
    generation: int = 0

    def sees(self, sku: str) -> bool:
        """Whether the filter lets a SKU through."""
        return not self.follows or sku in self.follows

    @property
    def mark(self) -> str:
        """Names the filter in positions."""
        return f"{self.rev}/{','.join(sorted(self.follows))}"


class Process:
    """One process of the hub, as far as it has read the store."""

    def __init__(self, world: World, clock: ClockFace) -> None:
        self.world = world
        self.clock = clock
        self.position = 0
        self.epoch = ""
        self.generation = 0
        self.asof = 0
        self.sessions: list[Session] = []
        self._is_reading = False

    def join(self, session: Session) -> None:
        """Begin to read, if nobody was followed before."""
        self.sessions.append(session)
        if not self._is_reading:
            self._is_reading = True
            self.restart()
            self.world.agenda.after(POLL_S, lambda: self.poll(self.world.agenda.now))

    def restart(self) -> None:
        """Begin at the store's present."""
        truth = self.world.truth
        self.position, self.epoch, self.generation = truth.seq, truth.epoch, truth.generation
        self.asof = self.clock.ms(self.world.agenda.now)

    def poll(self, sent: float) -> None:
        """Read what is new; ``sent`` is when the read was sent, which may have been long ago."""
        world, now = self.world, self.world.agenda.now
        self.sessions = [one for one in self.sessions if one.is_open]
        if not self.sessions:
            self._is_reading = False
            return
        if now < world.weather.store_stalled_until:
            self.while_stalled()
            self._beat()
            again = min(now + HEARTBEAT_S / 4, world.weather.store_stalled_until)
            world.agenda.at(again, lambda: self.poll(sent))
            return
        if self.is_other_history():
            self.restart()
            for session in self.sessions:
                world.begin_anew(session)
        new = world.truth.after(self.position)[:COUNT]
        is_cut = len(new) == COUNT
        if new:
            self.position = new[-1].seq
        if not is_cut or self.counts_when_cut():
            self.asof = self.clock.ms(sent)
        if new:
            self._publish(new)
        self._pay()
        self._beat()
        if is_cut and world.chance.random() < CUT_THEN_STALLED:
            world.weather.store_stalled_until = now + 3.0
        pause = SOON_S if is_cut else POLL_S
        world.agenda.after(pause, lambda: self.poll(world.agenda.now))

    # The rules of a hub, one by one.

    def is_other_history(self) -> bool:
        """Notice that the store is another than before, whatever its sequence says."""
        return self.world.truth.generation != self.generation

    def counts_when_cut(self) -> bool:
        """Whether a reply that may not be all moves ``asof``."""
        return False

    def while_stalled(self) -> None:
        """Do nothing to ``asof`` while the store does not answer, though it may still say PONG."""

    def snapshot_asof(self, began: float, ended: float) -> int:
        """A snapshot is as old as the reading of its position."""
        del ended
        return self.clock.ms(began)

    def _publish(self, new: list[Entry]) -> None:
        for session in self.sessions:
            if not session.is_live:
                continue
            seen = {entry.sku: entry for entry in new if session.sees(entry.sku)}
            if seen:
                self.tell(session, seen)

    def _pay(self) -> None:
        for session in self.sessions:
            if session.is_owed:
                session.is_owed, session.is_live = False, True
                self.tell(session, self.world.changed(session, session.covered))

    def tell(self, session: Session, seen: dict[str, Entry], *, since: int | None = None) -> None:
        """Send what has changed up to the present position."""
        prev = session.covered if since is None else since
        self.world.send(session, self._upd(session, prev, seen))
        session.covered = self.position
        session.beat_due = self.world.agenda.now + HEARTBEAT_S

    def _upd(self, session: Session, prev: int, seen: dict[str, Entry]) -> Upd:
        return Upd(
            prev=prev,
            seq=self.position,
            asof=self.asof,
            rev=session.rev,
            items=() if session.thin else tuple(item_of(entry) for entry in seen.values()),
            inv=tuple((entry.sku, entry.ver) for entry in seen.values()) if session.thin else (),
            id="" if session.extending else position_of(self.epoch, self.position, session),
        )

    def _beat(self) -> None:
        for session in self.sessions:
            if session.is_live and self.world.agenda.now >= session.beat_due:
                self.tell(session, {})


@dataclass
class World:
    """Everything outside the client."""

    chance: random.Random
    process_class: type[Process] = Process
    truth_class: type[Truth] = Truth
    weather: Weather = field(default_factory=Weather)
    agenda: Agenda = field(default_factory=Agenda)
    answers_lag: float = 0.0
    """How far the store behind answers is behind the primary; a hub has none."""

    def __post_init__(self) -> None:
        self.truth = self.truth_class(self.agenda)
        self.processes = [self.process_class(self, any_clock(self.chance)) for _ in range(3)]
        self._past: list[tuple[float, str, int, dict[str, Entry]]] = []

    def connect(self, session: Session, cursor: str) -> None:
        """Take a request: say hello, then whatever brings the client up to date."""
        process, now = session.process, self.agenda.now
        process.join(session)
        session.generation = process.generation
        parts = cursor.split(":", 2)
        seq = int(parts[1]) if cursor else 0
        fits = bool(cursor) and (parts[0], parts[2]) == (process.epoch, session.mark)
        if fits and self.truth.generation == process.generation:
            fits = self.truth.seq - RETAINED <= seq <= self.truth.seq
        else:
            fits = False
        resume = "replay" if fits else "reset" if cursor else "snapshot"
        hello = Hello(
            epoch=process.epoch,
            st=process.clock.ms(now),
            hb_ms=int(HEARTBEAT_S * 1000),
            bound_ms=1000,
            resume=resume,
            retry_ms=1000,
        )
        self.send(session, hello, safely=True)
        if fits:
            self._replay(session, seq)
            return
        if cursor:
            self.send(session, Reset(epoch=process.epoch, reason="cursor"), safely=True)
        self.snapshot(session)

    def begin_anew(self, session: Session) -> None:
        """Tell that history is another one."""
        session.is_live = session.is_owed = False
        session.generation, session.extending = session.process.generation, 0
        self.send(session, Reset(epoch=session.process.epoch, reason="epoch"), safely=True)
        self.snapshot(session)

    def _replay(self, session: Session, seq: int) -> None:
        process = session.process
        if not session.is_open or session.generation != process.generation:
            return
        if process.position < seq:
            # A process behind the client's position waits until it has got there.
            self.agenda.after(POLL_S, lambda: self._replay(session, seq))
            return
        process.tell(session, self.changed(session, seq), since=seq)
        session.is_live = True

    def changed(self, session: Session, seq: int) -> dict[str, Entry]:
        """Latest entries that a session sees between a position and its process's."""
        new = self.truth.log[seq : session.process.position]
        return {entry.sku: entry for entry in new if session.sees(entry.sku)}

    def snapshot(self, session: Session) -> None:
        """Read everything, part after part, while things go on changing."""
        generation = session.generation
        if self._cannot_read(session):
            retry = partial(self._snapshot_again, session, generation)
            self.agenda.after(POLL_S, retry)
            return
        began, at = self.agenda.now, self.truth.seq
        names = [] if session.thin else [sku for sku in SKUS if session.sees(sku)]
        parts = [names[:3], names[3:]]

        def read(part: int) -> None:
            if not session.is_open or session.generation != generation:
                return
            if self._cannot_read(session):
                self.agenda.after(POLL_S, lambda: read(part))
                return
            if part < len(parts):
                self.send(session, Snap(part=part, items=self._items(parts[part])))
                self.agenda.after(self.chance.choice((0.001, 0.3, 1.5)), lambda: read(part + 1))
                return
            self._finish(
                session,
                SnapEnd(
                    seq=at,
                    asof=session.process.snapshot_asof(began, self.agenda.now),
                    rev=session.rev,
                    parts=len(parts),
                    id=position_of(session.process.epoch, at, session),
                ),
            )

        read(0)

    def _snapshot_again(self, session: Session, generation: int) -> None:
        if session.is_open and session.generation == generation:
            self.snapshot(session)

    def _finish(self, session: Session, end: SnapEnd) -> None:
        self.send(session, end, safely=True)
        session.covered, session.is_owed = end.seq, True
        session.beat_due = self.agenda.now + HEARTBEAT_S

    def change_set(self, session: Session, follows: frozenset[str]) -> None:
        """Let a live session follow other SKUs."""
        if not session.is_live or not session.is_open or session.extending:
            return
        before, session.follows = session.follows, follows
        session.rev += 1
        session.extending += 1
        rev, generation = session.rev, session.generation
        removed = tuple(sorted(before - follows))
        self.send(session, SetChanged(rev=rev, removed=removed, prev_rev=rev - 1))
        added = sorted(follows - before)

        def read() -> None:
            if not session.is_open or session.generation != generation:
                return
            if self._cannot_read(session):
                self.agenda.after(POLL_S, read)
                return
            # Only what the hub itself has read may be behind the position it vouches for.
            self.send(session, Snap(part=0, items=self._items(added)))
            session.extending -= 1
            process = session.process
            self.send(
                session,
                SnapEnd(
                    seq=session.covered,
                    asof=process.asof,
                    rev=rev,
                    scope="added",
                    parts=1,
                    id=position_of(process.epoch, session.covered, session),
                ),
            )

        self.agenda.after(self.chance.choice((0.002, 0.3, 2.0)), read)

    def answer(self, sku: str) -> Answer | None:
        """Answer a question about one SKU; None when the store does not answer."""
        if self.agenda.now < self.weather.store_stalled_until:
            return None
        entry = self.truth.levels[sku]
        epoch, seq = self.truth.epoch, self.truth.seq
        if self.answers_lag:
            entry, epoch, seq = self._as_of(self.agenda.now - self.answers_lag, sku)
        return Answer(item=item_of(entry), epoch=epoch, seq=seq)

    def note_past(self) -> None:
        """Remember the present for a replica that will be behind."""
        self._past.append((self.agenda.now, self.truth.epoch, self.truth.seq, dict(self.truth.levels)))
        del self._past[:-200]

    def send(self, session: Session, frame: Frame, *, safely: bool = False) -> None:
        """Put a frame on the wire: late, twice, or never, but in order."""
        weather, now = self.weather, self.agenda.now
        if not session.is_open or (not safely and self.chance.random() < weather.loss):
            return
        late = self.chance.choice((0.0002, 0.005, 0.05))
        for _ in range(2 if not safely and self.chance.random() < weather.repeat else 1):
            due = max(session.last_delivery, now + late, weather.link_stalled_until)
            session.last_delivery = due
            self.agenda.at(due, lambda: session.deliver(frame))

    def _cannot_read(self, session: Session) -> bool:
        """Whether a read of everything would fail, or be of another history than announced."""
        is_stalled = self.agenda.now < self.weather.store_stalled_until
        return is_stalled or session.process.is_other_history()

    def _items(self, names: list[str]) -> tuple[Item, ...]:
        return tuple(item_of(self.truth.levels[sku]) for sku in names)

    def _as_of(self, when: float, sku: str) -> tuple[Entry, str, int]:
        past = next((one for one in reversed(self._past) if one[0] <= when), None)
        if past is None:
            return self.truth.levels[sku], self.truth.epoch, self.truth.seq
        return past[3][sku], past[1], past[2]


def item_of(entry: Entry) -> Item:
    """What the feed shows of an entry."""
    return Item(sku=entry.sku, ver=entry.ver, state="IN_STOCK", available=entry.units)


def position_of(epoch: str, seq: int, session: Session) -> str:
    """Write a position."""
    return f"{epoch}:{seq}:{session.mark}"
