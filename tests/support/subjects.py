"""The two things that apply rows, seen through one face: the shipped script and the reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.reference_answer import Role, SourceName
    from tests.support.reference_books import Answer, FeedEntry, LedgerEntry
    from tests.support.reference_source import Source

Row = tuple[str, ...]


class Subject(Protocol):
    """One merchant's stock."""

    @property
    def now(self) -> int: ...
    @property
    def head(self) -> tuple[int, int]: ...
    @property
    def ledger(self) -> list[LedgerEntry]: ...
    @property
    def feed(self) -> list[FeedEntry]: ...
    @property
    def watermarks(self) -> dict[str, int]: ...
    @property
    def cursors(self) -> dict[str, str]: ...

    def name_history(self, epoch: str) -> None: ...
    def set_role(self, account: str, role: Role) -> None: ...
    def map_item(self, account: str, item: str, sku: str) -> None: ...
    def map_location(self, account: str, location: str, place: str) -> None: ...
    def decide(self, account: str, sku: str, place: str, decision: str) -> None: ...
    def apply(self, rows: Sequence[Row], now_ms: int) -> list[tuple[str, int]]: ...
    def answer(self, sku: str) -> Answer: ...
    def as_of(self, sku: str) -> int: ...
    def skus(self) -> list[str]: ...
    def sources(self, sku: str) -> dict[SourceName, Source]: ...
    def refetch(self, account: str) -> dict[str, int]: ...
    def parked_since(self) -> dict[tuple[str, str], int]: ...
    def parked_keys(self) -> dict[tuple[str, str], set[tuple[str, ...]]]: ...


class Observed(NamedTuple):
    """All that can be seen of a merchant after a step."""

    now: int
    head: tuple[int, int]
    answers: dict[str, Answer]
    as_of: dict[str, int]
    sources: dict[str, dict[SourceName, Source]]
    ledger: list[LedgerEntry]
    feed: list[FeedEntry]
    refetch: dict[str, dict[str, int]]
    watermarks: dict[str, int]
    cursors: dict[str, str]
    parked_since: dict[tuple[str, str], int]
    parked_keys: dict[tuple[str, str], set[tuple[str, ...]]]


def observe(subject: Subject, accounts: Iterable[str]) -> Observed:
    """Look at everything."""
    skus = subject.skus()
    return Observed(
        now=subject.now,
        head=subject.head,
        answers={sku: subject.answer(sku) for sku in skus},
        as_of={sku: subject.as_of(sku) for sku in skus},
        sources={sku: subject.sources(sku) for sku in skus},
        ledger=list(subject.ledger),
        feed=list(subject.feed),
        refetch={account: subject.refetch(account) for account in accounts},
        watermarks={account: at for account, at in subject.watermarks.items() if at},
        cursors=subject.cursors,
        parked_since=subject.parked_since(),
        parked_keys=subject.parked_keys(),
    )


def differences(script: Observed, model: Observed) -> str:
    """Say where two observations part, field by field; empty when they agree."""
    return "\n".join(
        f"{name}:\n  script {found}\n  model  {expected}"
        for name, found, expected in zip(Observed._fields, script, model, strict=True)
        if found != expected
    )
