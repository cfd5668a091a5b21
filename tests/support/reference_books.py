"""What the reference model keeps of one merchant, and how an effect is told.

Shares no code with the hub. Everything is in dictionaries and nothing is forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.reference_answer import Conclusion, Role, SourceName, View, conclude
from tests.support.reference_line import Evidence, Line, mark, pending

if TYPE_CHECKING:
    from tests.support.reference_source import Change, Report, Source

DAY_MS: Final = 86_400_000
LAG_MAX: Final = 100
EVERYTHING: Final = "*"
"""In evidence: sales of any origin."""

Effect = tuple[str, int, int, "tuple[Change, ...]"]


class Cell(NamedTuple):
    """One location that counts: its number, the units held there by name, and what it rests on."""

    place: str
    account: str
    base: int
    held: int
    evidence: int


class Answer(NamedTuple):
    """The answer for one SKU, as readers see it."""

    ver: int = 0
    seq: int = 0
    ats: int = 0
    held: int = 0
    known: bool = False
    gone: bool = False
    cat: str = "A"
    backorder: bool = False
    degraded: bool = False
    stale: bool = False
    lag: int = 0
    ref: int = 0
    """Units that shares are taken of."""
    by: str = ""
    cells: tuple[Cell, ...] = ()

    @property
    def told(self) -> tuple[object, ...]:
        """What makes it another answer: whose evidence is the oldest may alternate without that."""
        return self._replace(ver=0, seq=0, by="", cells=())


class LedgerEntry(NamedTuple):
    """One effect. ``before`` and ``after`` are a source's effect, or text."""

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


class Why(NamedTuple):
    """On whose word, and when, something changed."""

    account: str = ""
    item: str = ""
    version: int | None = None
    cause: str = ""
    at: int = 0
    is_stock_report: bool = False


class What(NamedTuple):
    """What changed besides the answer."""

    kind: str
    place: str = ""
    before: Effect | str | None = None
    after: Effect | str | None = None


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
    lines: list[Line] = field(default_factory=list)
    catalogue: Catalogue = field(default_factory=Catalogue)
    answer: Answer = field(default_factory=Answer)
    is_left: bool = False
    noted_on: int = -1
    """Day on which the units were noted that shares are taken of."""


class Books:
    """One merchant's books: the clock, who may say what, every SKU, ledger and feed."""

    def __init__(self) -> None:
        self.now = 0
        self.clock_lead_max_ms = 0
        self.lag_step_ms = 0
        self.lag_grace_ms = 0
        self._server_at: int | None = None
        self._skus: dict[str, Sku] = {}
        self.ledger: list[LedgerEntry] = []
        self.feed: list[FeedEntry] = []
        self.roles: dict[str, Role] = {}
        self.lags: dict[tuple[str, str], int] = {}
        self.watermarks: dict[str, int] = {}
        self.decisions: dict[tuple[str, str, str], str] = {}
        """What a person has said of an account's sources of a SKU at a place, or of all of them."""
        self.asks_first = False
        """A person is asked before a second authority or location counts."""
        self.trusts = False
        """A source that takes over may raise what the better one last said."""
        self.groups: dict[tuple[str, str], set[str]] = defaultdict(set)

    def set_role(self, account: str, role: Role) -> None:
        """Say what an account may do."""
        self.roles[account] = role

    def set_lag(self, account: str, origin: str, lag_ms: int) -> None:
        """Say that reads of an account contain sales of an origin once they began this much later."""
        self.lags[account, origin] = lag_ms

    def answer(self, sku: str) -> Answer:
        """Return the stored answer; ``ver`` is 0 for a SKU nobody has reported."""
        return self._skus[sku].answer if sku in self._skus else Answer()

    def as_of(self, sku: str) -> int:
        """The oldest evidence among the locations counted, as fresh as the accounts are complete."""
        cells = self.answer(sku).cells
        return min((max(cell.evidence, self.watermarks.get(cell.account, 0)) for cell in cells), default=0)

    def skus(self) -> list[str]:
        """Every SKU anybody has reported or sold."""
        return sorted(self._skus)

    def sources(self, sku: str) -> dict[SourceName, Source]:
        """What each source of the SKU has told."""
        return dict(self._skus[sku].sources) if sku in self._skus else {}

    def lines(self, sku: str) -> list[Line]:
        """The sales of a SKU."""
        return list(self._skus[sku].lines) if sku in self._skus else []

    def pending(self, sku: str) -> dict[SourceName, int]:
        """Units that each source's number does not contain yet."""
        return {name: self._pending(sku, name) for name in self.sources(sku)}

    def open(self, sku: str) -> dict[str, int]:
        """Units sold at each place."""
        sold: dict[str, int] = defaultdict(int)
        for line in self.lines(sku):
            for place, units in line.places.items() if line.counts else ():
                sold[place] += units
        return dict(sold)

    @property
    def head(self) -> tuple[int, int]:
        """Head of the ledger, and of the feed."""
        return len(self.ledger), self.feed[-1].seq if self.feed else 0

    def held(self, sku: str, place: str | None = None) -> int:
        """Units in live holds; with a place, those held there by name."""
        raise NotImplementedError

    def lapse(self) -> None:
        """Let holds and confirmations that are due come to their end."""
        raise NotImplementedError

    def step(self, proposed: int, server: int | None = None) -> None:
        """Move the clock: never back, and no faster than the server's own by more than a lead."""
        if self._server_at is not None and server is not None:
            furthest = self.now + server - self._server_at + self.clock_lead_max_ms
            proposed = min(proposed, furthest)
        self.now = max(self.now, proposed)
        self._server_at = server if server is not None else self._server_at
        self.lapse()

    def record(self, sku: str, why: Why, what: What | None = None) -> int:
        """Draw the conclusion; an effect or a changed answer takes a sequence."""
        state = self._sku(sku)
        self._include(sku)
        conclusion = self._conclude(sku)
        answer = self._answer(sku, conclusion)
        if what is None and state.answer.ver == 0:
            return 0
        if answer.known and self._is_reference(state, answer, why):
            answer = answer._replace(ref=max(0, answer.ats + answer.held))
            state.noted_on = self.now // DAY_MS
        unlike = answer.told != state.answer.told or state.answer.ver == 0
        state.answer = answer
        if what is None and not unlike:
            return 0
        seq, what = len(self.ledger) + 1, what or What("answer")
        self.ledger.append(
            LedgerEntry(
                seq, sku, what.place, why.account, why.item, what.kind, what.before, what.after, why.version,
                why.cause, self.now, answer.ats,
            )
        )  # fmt: skip
        if unlike:
            previous = self.feed[-1].seq if self.feed else 0
            state.answer = answer._replace(ver=answer.ver + 1, seq=seq)
            self.feed.append(FeedEntry(seq, previous, sku, state.answer, conclusion.as_of, why.at))
        return seq

    def conclusion_of(self, sku: str) -> Conclusion:
        """What follows from the sources and sales of a SKU now, before holds."""
        return self._conclude(sku)

    def _conclude(self, sku: str) -> Conclusion:
        sold = self.open(sku)
        view = View(
            role_of=self._role_of,
            watermark_of=lambda account: self.watermarks.get(account, 0),
            now=self.now,
            pending_of=lambda name: self._pending(sku, name),
            open_at=lambda place: sold.get(place, 0),
            sold_at=tuple(sold),
            is_left=self._sku(sku).is_left,
            adds=lambda account, place: self._adds(account, sku, place),
            trusts=self.trusts,
        )
        return conclude(self._sku(sku).sources, view)

    def _pending(self, sku: str, name: SourceName) -> int:
        beside = [each for each in self._sku(sku).sources if each.account == name.account]
        return sum(
            pending(line, name, beside)
            for line in self._sku(sku).lines
            if not self._is_of_another_item(line, sku, name)
        )

    def _is_of_another_item(self, line: Line, sku: str, name: SourceName) -> bool:
        """Of items that add up, an account's own order is taken from the one that it sold alone."""
        is_own = line.order[:1] == (name.account,) and line.item != name.item
        return is_own and self._adds(name.account, sku, name.place)

    def _adds(self, account: str, sku: str, place: str) -> bool:
        """Whether the account's items at a place are to be added."""
        return self._decision_on(account, sku, place) == "sum"

    def _decision_on(self, account: str, sku: str, place: str) -> str:
        for_all = self.decisions.get((account, "", ""), "")
        return self.decisions.get((account, sku, place), for_all)

    def _answer(self, sku: str, conclusion: Conclusion) -> Answer:
        state, held = self._sku(sku), self.held(sku)
        return state.answer._replace(
            ats=conclusion.ats - held,
            held=held,
            known=conclusion.known,
            gone=conclusion.gone,
            cat=state.catalogue.cat,
            backorder=state.catalogue.backorder,
            degraded=conclusion.degraded,
            stale=conclusion.stale,
            lag=self._lag(conclusion.as_of) if conclusion.known else 0,
            by=conclusion.by,
            cells=tuple(
                Cell(cell.place, cell.by, cell.base, self.held(sku, cell.place), cell.evidence)
                for cell in conclusion.cells
            ),
        )

    def _lag(self, as_of: int) -> int:
        if not self.lag_step_ms:
            return 0
        return min(LAG_MAX, max(0, self.now - as_of - self.lag_grace_ms) // self.lag_step_ms)

    def _is_reference(self, state: Sku, after: Answer, why: Why) -> bool:
        """Shares are taken of what was there after the last receipt, or as the day began."""
        before = state.answer
        is_receipt = why.is_stock_report and after.ats + after.held > before.ats + before.held
        return is_receipt or not before.known or state.noted_on != self.now // DAY_MS

    def _settle_down(self, sku: str, name: SourceName) -> None:
        """Sales without a place go to the first that is known."""
        for line in self._sku(sku).lines if self._role_of(name.account).kind == "A" else ():
            if "" in line.places:
                line.move(line.places[""], "", name.place)

    def _mark(self, sku: str, name: SourceName, lines: list[Line] | None = None) -> None:
        """Note what the latest report of a source contains."""
        state = self._sku(sku)
        for line in state.lines if lines is None else lines:
            if line.counts:
                mark(line, name, state.sources, self._evidence(name.account, line.origin))

    def _include(self, sku: str) -> None:
        """Count what each authority contains of the sales at its place."""
        sold = self.open(sku)
        for name, source in self._sku(sku).sources.items():
            rules = self._role_of(name.account).kind == "A"
            source.included = sold.get(name.place, 0) - self._pending(sku, name) if rules else 0

    def _evidence(self, account: str, origin: str) -> Evidence:
        lag = self.lags.get((account, origin), self.lags.get((account, EVERYTHING)))
        return Evidence(self._role_of(account), lag)

    def _sku(self, sku: str) -> Sku:
        return self._skus.setdefault(sku, Sku())

    def _role_of(self, account: str) -> Role:
        return self.roles.get(account, Role())


def why(report: Report) -> Why:
    """On whose word: that of a row."""
    return Why(
        report.account, report.item, report.version, report.cause, report.at, report.kind in {"L", "R", "D"}
    )
