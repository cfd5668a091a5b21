"""The rules of the feed: which frames count, what is held, and whether it may still be told.

Nothing here reads a clock or a socket. Times are seconds of one clock of ours and come
in as arguments, so the same rules run under a simulator through years of faults.

That a frame arrives proves nothing: only its ``asof``, taken by the hub before it asked
its store, says up to when our knowledge is complete.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from synchub_client.anchor import Anchor, anchor_life_s
from synchub_client.errors import NotServed, Stale, Unknown
from synchub_client.frames import (
    Anchored,
    Answer,
    Bye,
    Frame,
    Hello,
    Reset,
    SetChanged,
    Snap,
    SnapEnd,
    SourceTold,
    Upd,
)
from synchub_client.held import NEVER, Held, Question
from synchub_client.model import Change, ChangeKind, Item, Mode, Source, Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES_MAX: Final = 1000
"""Accounts whose state is remembered."""
_DRIFTED: Final = "the clocks have drifted further apart than they may"


class Verdict(Enum):
    """What to do after a frame."""

    GO_ON = "go on"
    RECONNECT = "reconnect"
    """Something is missing or makes no sense: come back from our position."""
    LEAVE = "leave"
    """The hub ends the connection; come back when it says."""
    END = "end"
    """The hub ends the connection, and coming back is no use."""


class Link:
    """One connection, from the moment its request is sent."""

    __slots__ = (
        "additions",
        "anchor",
        "bye",
        "cursor",
        "fault",
        "hello",
        "parts",
        "rev",
        "sent_at",
        "shadow",
    )

    def __init__(self, sent_at: float, cursor: str) -> None:
        self.sent_at = sent_at
        self.cursor = cursor
        """Where it asked to go on; empty when it asked for everything."""
        self.anchor: Anchor | None = None
        self.hello: Hello | None = None
        self.rev: int | None = None
        """Revision of the filter that its frames cover."""
        self.shadow: dict[str, Item] | None = None
        """The full state as far as it has come, until ``snap_end`` swaps it in."""
        self.additions: dict[str, Item] | None = None
        """The same for SKUs that a changed set has gained."""
        self.parts = 0
        self.bye: Bye | None = None
        self.fault = ""
        """Why it is to be made anew."""

    @property
    def is_settled(self) -> bool:
        """Whether it has brought us up to date; before that the hub may be busy and sends no heartbeats."""
        return self.rev is not None


class FeedCore:
    """What one feed knows, over all its connections."""

    def __init__(self, *, bound_s: float, watch: Watch) -> None:
        self.bound_s = bound_s
        self.watch = watch
        self.epoch = ""
        """Name of the history that everything held belongs to."""
        self.seq = -1
        """Everything followed is held as of this position; -1 before the first snapshot."""
        self.cursor = ""
        """The position as the hub wrote it, for the next connection."""
        self.complete_at = NEVER
        """Moment of our clock up to which we have certainly been told everything."""
        self.is_degraded = False
        """The hub says that it has not been able to verify anything for a while."""
        self.sources: dict[str, Source] = {}
        self._expected: dict[int, frozenset[str]] = {}
        self._confirmed: frozenset[str] = frozenset()
        self._held = Held()
        self._changed: dict[str, ChangeKind] = {}
        self._generation = 0
        self._link: Link | None = None

    # ------------------------------------------------------------------------------------- connections

    def open(self, sent_at: float) -> Link:
        """Begin a connection; ``sent_at`` is read before its request leaves.

        The one before goes on counting until the new one has said hello.
        """
        return Link(sent_at, self.cursor)

    def anchor_due_at(self, link: Link) -> float:
        """Return when the link's anchor is to be replaced."""
        sent_at = link.sent_at if link.anchor is None else link.anchor.sent_at
        return sent_at + anchor_life_s(self.bound_s)

    def accept(self, link: Link, frame: Frame, now: float) -> Verdict:
        """Take one frame of a connection.

        Frames of a connection that another one has replaced change nothing.
        """
        if isinstance(frame, Hello):
            return self._greeted(link, frame)
        if isinstance(frame, Bye):
            link.bye = frame
            return Verdict.LEAVE if frame.reconnect else Verdict.END
        if link.anchor is None:
            return self._broken(link, "the first frame was no hello")
        if link is not self._link:
            return Verdict.GO_ON
        return self._followed(link, link.anchor, frame, now)

    def expect(self, skus: frozenset[str], rev: int) -> None:
        """Know that a revision of the filter is these SKUs; what is told under it confirms them."""
        self._expected[rev] = skus
        link = self._link
        if link is not None and link.rev == rev and link.additions is None and self.is_complete:
            self._confirm(rev)

    def forget_expectations(self) -> None:
        """Begin a filter whose revisions have nothing to do with those before."""
        self._expected.clear()

    def renew_anchor(self, link: Link, *, sent_at: float, st_ms: int) -> None:
        """Relate the clocks anew, if that is nearer the truth than what the drift has left of the old one."""
        if link.anchor is None or sent_at > link.anchor.moment(st_ms):
            link.anchor = Anchor(sent_at, st_ms)

    # ------------------------------------------------------------------------------------------ answers

    @property
    def is_complete(self) -> bool:
        """Whether a snapshot of the present history has come in."""
        return self.seq >= 0

    def get(self, sku: str, now: float) -> Item:
        """Return what is held of a SKU.

        Raises:
            Stale: it may be older than the bound.
            Unknown: nothing is held, and that is known within the bound.
        """
        item, known_at = self._held.look(sku, self.complete_at)
        if item is None:
            raise self._why_nothing(sku, now)
        if now - known_at > self.bound_s:
            raise Stale(sku, now - known_at)
        return item

    def age_s(self, sku: str, now: float) -> float:
        """Return how long ago the SKU's item was certainly true.

        Raises:
            NotServed: nothing is held of it.
        """
        item, known_at = self._held.look(sku, self.complete_at)
        if item is None:
            raise self._why_nothing(sku, now)
        return max(0.0, now - known_at)

    def items(self, now: float) -> Mapping[str, Item]:
        """Return everything held that the feed follows; empty when it is older than the bound."""
        return self._held.followed() if now - self.complete_at <= self.bound_s else {}

    def is_fresh(self, now: float) -> bool:
        """Whether everything followed is known within the bound."""
        return self.is_complete and now - self.complete_at <= self.bound_s

    def take_changes(self) -> list[Change]:
        """Return what has changed since the last call, each SKU once."""
        if not self._changed:
            return []
        changed, self._changed = self._changed, {}
        return [self._change(sku, kind) for sku, kind in changed.items()]

    # ------------------------------------------------------------------------------------- read-through

    def ask(self, sku: str, sent_at: float) -> Question:
        """Begin a question; ``sent_at`` is read before its request leaves."""
        return Question(
            sku=sku,
            sent_at=sent_at,
            generation=self._generation,
            invalidations=self._held.invalidations,
        )

    def settle(self, question: Question, answer: Answer, now: float) -> Item | None:
        """Keep an answer and return its item; None when it may be out of date already.

        It counts from when it was asked. It is dropped when it took longer than the
        bound, belongs to another history, lies behind our position, or when something
        newer was told meanwhile.
        """
        item = answer.item
        if now - question.sent_at > self.bound_s or question.generation != self._generation:
            return None
        if self.epoch and (answer.epoch != self.epoch or answer.seq < self.seq):
            return None
        names = self._confirmed if self.watch.is_named else None
        is_followed = self.is_complete and (
            self.watch.matches(item.sku) if names is None else item.sku in names
        )
        kept = self._held.add_answer(item, question, is_followed=is_followed, old_before=now - self.bound_s)
        return item if kept else None

    # ------------------------------------------------------------------------------------------- frames

    def _greeted(self, link: Link, hello: Hello) -> Verdict:
        if link.anchor is not None:
            return self._broken(link, "a second hello")
        link.hello, link.anchor, self._link = hello, Anchor(link.sent_at, hello.st), link
        if hello.epoch != self.epoch:
            self._drop_all(hello.epoch)
        if hello.resume != "replay":
            link.shadow, self.cursor = {}, ""
        elif not link.cursor or not self.is_complete:
            return self._broken(link, "a replay of nothing")
        return Verdict.GO_ON

    def _followed(self, link: Link, anchor: Anchor, frame: Frame, now: float) -> Verdict:
        match frame:
            case Upd():
                return self._updated(link, anchor, frame, now)
            case Snap():
                return self._collected(link, frame)
            case SnapEnd(scope="all"):
                return self._swapped(link, anchor, frame, now)
            case SnapEnd():
                return self._added(link, frame)
            case SetChanged():
                return self._set_changed(link, frame)
            case Reset():
                self._drop_all(frame.epoch)
                link.shadow, link.additions, link.parts, link.rev = {}, None, 0, None
            case SourceTold():
                self._note_source(frame.source)
            case Anchored():
                pass  # the transport knows when it asked
            case _:
                pass  # of a later version
        return Verdict.GO_ON

    def _updated(self, link: Link, anchor: Anchor, frame: Upd, now: float) -> Verdict:
        if link.shadow is not None:
            return self._broken(link, "changes before the snapshot was complete")
        if not self._is_of(frame.id, self.epoch):
            return self._broken(link, "a frame of another history", forget=True)
        if link.rev is None:
            link.rev = frame.rev
        if frame.rev < link.rev:
            return Verdict.GO_ON  # an old one again; it says nothing of what was added since
        if frame.rev > link.rev or not self._continues(frame):
            return self._broken(link, f"something before {frame.seq} is missing")
        told_at = self._moment(anchor, frame.asof, now)
        if not self._is_possible(told_at, now):
            return self._broken(link, _DRIFTED)
        self._apply(frame)
        self._advance(link, frame)
        self.is_degraded = frame.degraded
        self.complete_at = max(self.complete_at, told_at)
        return Verdict.GO_ON

    def _apply(self, frame: Upd) -> None:
        for item in frame.items:
            if self._held.put(item):
                self._changed[item.sku] = ChangeKind.UPDATED
        # After the items: of a SKU that stands in both the item is not what this agent would be shown.
        for sku, ver in frame.inv:
            if self._held.invalidate(sku, ver):
                self._changed[sku] = ChangeKind.INVALIDATED

    def _advance(self, link: Link, frame: Upd) -> None:
        """Move our position; while additions are under way the hub's word for it would leave them out."""
        if frame.seq >= self.seq:
            self.seq = frame.seq
            if link.additions is None and frame.id:
                self.cursor = frame.id

    def _collected(self, link: Link, frame: Snap) -> Verdict:
        aside = link.shadow if link.shadow is not None else link.additions
        if aside is None:
            return self._broken(link, "a snapshot that nobody announced", forget=True)
        if frame.part != link.parts:
            return self._broken(link, f"part {link.parts} of a snapshot is missing")
        link.parts += 1
        aside.update((item.sku, item) for item in frame.items)
        return Verdict.GO_ON

    def _swapped(self, link: Link, anchor: Anchor, frame: SnapEnd, now: float) -> Verdict:
        if link.shadow is None:
            return self._broken(link, "the end of a snapshot that never began", forget=True)
        if frame.parts is not None and frame.parts != link.parts:
            return self._broken(link, f"{frame.parts - link.parts} parts of a snapshot are missing")
        if not self._is_of(frame.id, self.epoch):
            return self._broken(link, "a snapshot of another history", forget=True)
        told_at = self._moment(anchor, frame.asof, now)
        if not self._is_possible(told_at, now):
            return self._broken(link, _DRIFTED)
        for sku, kind in self._held.replace(link.shadow):
            self._changed[sku] = kind
        link.shadow, link.rev, link.parts = None, frame.rev, 0
        self._confirmed = frozenset()
        self._confirm(frame.rev)
        self.seq, self.cursor = frame.seq, frame.id
        # Not the later of the two: what was held before is gone.
        self.complete_at = told_at
        return Verdict.GO_ON

    def _set_changed(self, link: Link, frame: SetChanged) -> Verdict:
        if link.shadow is not None or link.rev is None:
            return self._broken(link, "a changed set before its first state")
        if frame.rev <= link.rev:
            return Verdict.GO_ON
        if frame.prev_rev not in {None, link.rev}:
            return self._broken(link, "a change of the set is missing")
        link.rev, link.additions, link.parts = frame.rev, {}, 0
        self._leave_out(frame.removed)
        return Verdict.GO_ON

    def _added(self, link: Link, frame: SnapEnd) -> Verdict:
        if link.additions is None or frame.rev != link.rev:
            return self._broken(link, "additions to a set that has not changed")
        if frame.parts is not None and frame.parts != link.parts:
            return self._broken(link, f"{frame.parts - link.parts} parts of the additions are missing")
        for item in link.additions.values():
            if self._held.put(item):
                self._changed[item.sku] = ChangeKind.UPDATED
        link.additions, link.parts = None, 0
        self._confirm(frame.rev)
        # Its position is that of the additions; ours may be behind it, and then is what counts.
        if frame.id and frame.seq <= self.seq:
            self.cursor = frame.id
        return Verdict.GO_ON

    # ------------------------------------------------------------------------------------------ details

    def _continues(self, frame: Upd) -> bool:
        """A frame covers ``(prev, seq]``; one that begins after our position leaves a hole."""
        return self.is_complete and frame.prev <= self.seq

    def _moment(self, anchor: Anchor, asof_ms: int, now: float) -> float:
        """When, on our clock, the hub's ``asof`` was at the earliest; ``now`` must not matter."""
        del now
        return anchor.moment(asof_ms)

    def _is_possible(self, told_at: float, now: float) -> bool:
        """A word about the future proves that a clock was stopped or is worse than clocks may be."""
        return told_at <= now

    def _leave_out(self, skus: tuple[str, ...]) -> None:
        """Forget what is not followed any more: nobody would tell us when it changes."""
        self._confirmed -= frozenset(skus)
        for sku in skus:
            if self._held.drop(sku):
                self._changed[sku] = ChangeKind.REMOVED

    def _drop_all(self, epoch: str) -> None:
        """Forget everything, and whatever is being asked at this moment."""
        for sku in self._held.clear():
            self._changed[sku] = ChangeKind.REMOVED
        self.epoch, self.seq, self.cursor, self.complete_at = epoch, -1, "", NEVER
        self._confirmed = frozenset()
        self._generation += 1

    def _confirm(self, rev: int) -> None:
        """Take note that the feed tells of the SKUs of this revision, if we know which those are."""
        self._confirmed = self._expected.get(rev, self._confirmed)
        self._expected = {number: skus for number, skus in self._expected.items() if number >= rev}

    def _note_source(self, source: Source) -> None:
        if source.account in self.sources or len(self.sources) < SOURCES_MAX:
            self.sources[source.account] = source

    def _broken(self, link: Link, why: str, *, forget: bool = False) -> Verdict:
        link.fault = why
        if forget:
            self.cursor = ""
        return Verdict.RECONNECT

    def _why_nothing(self, sku: str, now: float) -> NotServed:
        is_awaited = self.watch.is_named and self.watch.matches(sku)
        if self._held.awaits(sku) or is_awaited or not self.is_fresh(now):
            return Stale(sku)
        is_thin = self.watch.mode is Mode.INV and self.watch.matches(sku)
        return Stale(sku) if is_thin else Unknown(sku)

    def _change(self, sku: str, kind: ChangeKind) -> Change:
        item, _ = self._held.look(sku, self.complete_at)
        if kind is ChangeKind.UPDATED and item is None:
            kind = ChangeKind.INVALIDATED
        return Change(sku=sku, kind=kind, item=item if kind is ChangeKind.UPDATED else None)

    @staticmethod
    def _is_of(position: str, epoch: str) -> bool:
        """Whether a position is one of this history; a hub that gives none is believed."""
        return not position or position.partition(":")[0] == epoch
