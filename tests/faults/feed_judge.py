"""A reader's knowledge, by the rules of ``docs/feed.md`` alone, and every promise that was broken to it.

It believes what the rules let it believe and nothing more, as any agent would; then it
looks into the truth, as no agent can. Clocks are compared directly: the hub's is the
machine's monotonic one, which is the same in every process.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.faults.feed_truth import expected, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.feed_line import Frame
    from tests.faults.feed_truth import Change, Truth

Item = dict[str, Any]

_NS_PER_MS: Final = 1_000_000
_BROKEN_MAX: Final = 20
"""One fault can show in every frame; these are enough to understand it."""


class Judge:
    """One reader; ``follows`` is its filter."""

    def __init__(self, truth: Truth, follows: Callable[[str], bool], *, name: str = "a reader") -> None:
        self.name = name
        self.items: dict[str, Item] = {}
        self.seq: int | None = None
        """Where it stands; None while it has no state."""
        self.cursor = ""
        self.epoch = ""
        self.asof_ms = 0
        """The latest moment, by the hub's clock, at which it certainly knew everything."""
        self.is_degraded = False
        self.may_return = True
        self.retry_s = 0.3
        self.hb_s = 1.0
        self.counts: Counter[str] = Counter()
        """Frames, ways of resumption as ``resume:…``, reasons as ``reset:…`` and ``bye:…``."""
        self.broken: list[str] = []
        self._truth = truth
        self._follows = follows
        self._aside: dict[str, Item] | None = None
        self._parts = 0
        self._highest: dict[str, tuple[int, Any]] = {}
        """The newest version of each SKU in this history, and its number."""
        self._next = 0
        """The first change whose acknowledgement no frame has claimed to know of yet."""
        self._reached = 0
        """The first change that its ``seq`` has not reached yet."""
        truth.listeners.append(self.compare)

    def connect(self) -> None:
        """Begin a connection: half a snapshot of the last one is worth nothing."""
        self._aside, self._parts = None, 0

    def forget(self) -> None:
        """Lose everything, as a program that is started anew; versions are remembered to be compared."""
        self.items, self.seq, self.cursor = {}, None, ""

    def take(self, frame: Frame, *, asked_ms: int, now_ms: int) -> bool:
        """Take a frame in; False when it shows that something is missing, so that one must come back."""
        event, position, data = frame
        self.counts[event] += 1
        if event == "hello":
            self._greeted(data, asked_ms, now_ms)
        elif event == "reset":
            self.counts[f"reset:{data['reason']}"] += 1
            self._start_anew(data["epoch"])
        elif event == "snap":
            self._collect(data)
        elif event == "bye":
            self.counts[f"bye:{data['reason']}"] += 1
            self.may_return, self.retry_s = data["reconnect"], data["retry_ms"] / 1000
        elif not self._moved(event, data, now_ms):
            return False
        if position is not None:
            self.cursor = position
        return True

    def compare(self) -> None:
        """Hold its position against the truth: at any moment, what lies before it must be held."""
        changes = self._truth.acked
        while (
            self.seq is not None and self._reached < len(changes) and changes[self._reached].seq <= self.seq
        ):
            change = changes[self._reached]
            self._reached += 1
            if change.seq and self._lacks(change):
                self._break(
                    f"at {self.seq} it lacks change {change.place} of {change.sku}, made at {change.seq}"
                )

    def disagreement(self) -> str:
        """How what it holds differs from the truth; empty when it does not."""
        held, wanted = shown(self.items), expected(self._truth.levels, self._follows)
        if held == wanted:
            return ""
        wrong = {sku for sku in held.keys() | wanted.keys() if held.get(sku) != wanted.get(sku)}
        sku = min(wrong)
        return (
            f"{self.name} ends with {len(wrong)} wrong numbers: of {sku} it holds {held.get(sku)}, "
            f"there are {wanted.get(sku)}"
        )

    # ------------------------------------------------------------------------------ what a reader does

    def _moved(self, event: str, data: dict[str, Any], now_ms: int) -> bool:
        if event in {"upd", "hb"}:
            if not self._continues(data):
                return False
            self._cover(data)
        elif event == "snap_end":
            if not self._swap(data):
                return False
        else:
            return True  # a kind that it does not know, or not of the state
        self._vouched(data["asof"], now_ms)
        self.compare()
        return True

    def _greeted(self, data: dict[str, Any], asked_ms: int, now_ms: int) -> None:
        resume, epoch = data["resume"], data["epoch"]
        self.counts[f"resume:{resume}"] += 1
        self.retry_s, self.hb_s = data["retry_ms"] / 1000, data["hb_ms"] / 1000
        if not asked_ms <= data["st"] <= now_ms:
            self._break(f"its request of {asked_ms} is said to have been taken at {data['st']}")
        if resume == "replay" and epoch != self.epoch:
            self._break(f"a replay in the history {epoch} from a position of {self.epoch}")
        if resume == "snapshot" and self.cursor:
            self._break("a snapshot instead of a reset, although a position was given")
        if resume != "replay":
            self._start_anew(epoch)

    def _start_anew(self, epoch: str) -> None:
        if epoch != self.epoch:
            self._highest = {}
        self.epoch, self.seq, self.items = epoch, None, {}
        self._aside, self._parts = {}, 0

    def _collect(self, data: dict[str, Any]) -> None:
        if self._aside is None:
            self._break("a part of a snapshot that nobody has announced")
            return
        if data["part"] != self._parts:
            self._break(f"part {data['part']} of a snapshot after {self._parts} parts")
        self._parts += 1
        self._aside.update((item["sku"], item) for item in data["items"])

    def _swap(self, data: dict[str, Any]) -> bool:
        aside, self._aside = self._aside, None
        if aside is None or data["parts"] != self._parts:
            self._break(f"the end of a snapshot of {data['parts']} parts after {self._parts}")
            return False
        for sku, (ver, _) in self._highest.items():
            if sku not in aside:
                self._break(f"{sku}, told before, is in no part of a snapshot")
            elif aside[sku]["ver"] < ver:
                self._break(f"{sku} went back from version {ver} to {aside[sku]['ver']}")
        for item in aside.values():
            self._keep(item)
        # As it is, and not only what is newer: this is what a reader has to believe.
        self.items, self.seq = aside, data["seq"]
        self._next = self._reached = 0
        return True

    def _continues(self, data: dict[str, Any]) -> bool:
        if self.seq is None:
            self._break(f"a change from {data['prev']} before there is a state")
            return False
        if data["prev"] > self.seq:
            self._break(f"a gap without a reset: a change from {data['prev']} where {self.seq} was reached")
            return False
        return True

    def _cover(self, data: dict[str, Any]) -> None:
        self.seq = max(self.seq or 0, data["seq"])
        self.is_degraded = bool(data.get("degraded"))
        for item in data.get("items", ()):
            self._keep(item)

    def _keep(self, item: Item) -> None:
        sku, ver, number = item["sku"], item["ver"], item["available"]
        highest, known = self._highest.get(sku, (-1, None))
        if ver == highest and number != known:
            self._break(f"{sku} has two numbers under version {ver}: {known} and {number}")
        if ver >= highest:
            self._highest[sku] = ver, number
            self.items[sku] = item

    # --------------------------------------------------------------------------- what no reader could see

    def _vouched(self, asof_ms: int, now_ms: int) -> None:
        """Hold a claim against the truth: what was acknowledged before that moment must be held."""
        if asof_ms > now_ms:
            self._break(f"told at {now_ms} that everything up to {asof_ms} is known")
        self.asof_ms = max(self.asof_ms, asof_ms)
        changes = self._truth.acked
        while self._next < len(changes) and changes[self._next].acked_ns <= asof_ms * _NS_PER_MS:
            change = changes[self._next]
            self._next += 1
            if self._lacks(change):
                self._break(
                    f"a state said to be complete at {asof_ms} lacks change {change.place} of {change.sku}, "
                    f"acknowledged {asof_ms - change.acked_ns // _NS_PER_MS} ms before"
                )

    def _lacks(self, change: Change) -> bool:
        if not self._follows(change.sku):
            return False
        item = self.items.get(change.sku)
        return item is None or self._truth.place(change.sku, item["available"]) < change.place

    def _break(self, what: str) -> None:
        if len(self.broken) < _BROKEN_MAX:
            self.broken.append(f"{self.name}: {what}")
