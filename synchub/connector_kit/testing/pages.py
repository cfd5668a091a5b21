"""Recorded pages: what a platform answered to ``fetch_page``, and the page it became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from synchub.connector_kit.contract import Record
from synchub.connector_kit.testing.expectations import event_from
from synchub.connector_kit.testing.files import (
    EXPECTED,
    HEADERS,
    beside,
    demand,
    further_bodies,
    page_bodies,
    read_object,
)

if TYPE_CHECKING:
    from pathlib import Path

_EXPECTED_KEYS: Final = frozenset({"records", "is_last", "cursor", "refused"})
_FAILURE_KEYS: Final = frozenset({"raises", "detail"})
_RECORD_KEYS: Final = frozenset({"key", "events", "changed_at_us", "topic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a platform."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_broken: bool = False
    """No answer at all: the connection cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRecording:
    """One recorded page."""

    name: str
    answers: tuple[Answer, ...]
    cursor: str
    after: str
    """The recorded page whose end is this one's beginning; empty: ``cursor`` says where it begins."""
    credentials: Mapping[str, str | None] = field(repr=False)
    asks: tuple[str, ...]
    document: str
    expected: Mapping[str, Any]

    @property
    def is_readable(self) -> bool:
        """Whether a page came of it, rather than a failure."""
        return "raises" not in self.expected

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that were written down; an empty key is one that was not.

        Raises:
            Shortcoming: one of them is none.
        """
        where = f"{self.name}{EXPECTED}"
        return tuple(_record(row, where) for row in self.expected.get("records", ()))


def read_pages(folder: Path) -> tuple[PageRecording, ...]:
    """Read the recorded pages of a connector's folder.

    Raises:
        Shortcoming: one of them is not of the form that this package's docstring describes.
    """
    pages = tuple(_read_page(path) for path in page_bodies(folder))
    names = {page.name for page in pages}
    for page in pages:
        demand(not page.after or page.after in names, f'{page.name}{HEADERS}: "_after" names no recording.')
    return pages


def _read_page(path: Path) -> PageRecording:
    name = path.name.removesuffix(".json")
    headers, expected = read_object(beside(path, HEADERS)), read_object(beside(path, EXPECTED))
    _check_expected(expected, f"{name}{EXPECTED}")
    sent = {key: str(value) for key, value in headers.items() if not key.startswith("_")}
    answers = [Answer(status=headers.get("_status", 200), body=path.read_bytes(), headers=sent)]
    answers += [Answer(body=further.read_bytes(), headers=sent) for further in further_bodies(path)]
    return PageRecording(
        name=name,
        answers=tuple(answers),
        cursor=str(headers.get("_cursor", "")),
        after=str(headers.get("_after", "")),
        credentials=headers.get("_credentials", {}),
        asks=tuple(headers.get("_asks", ())),
        document=str(headers.get("_document", "")),
        expected=expected,
    )


def _check_expected(expected: Mapping[str, Any], where: str) -> None:
    keys = set(expected)
    is_page = {"records", "is_last"} <= keys <= _EXPECTED_KEYS
    is_failure = "raises" in keys and keys <= _FAILURE_KEYS
    demand(is_page or is_failure, f'{where} has "records" and "is_last", or it has "raises".')


def _record(row: Mapping[str, Any], where: str) -> Record:
    known = "events" in row and set(row) <= _RECORD_KEYS
    demand(known, f"{where}: a record has events, and may have {', '.join(sorted(_RECORD_KEYS))}.")
    return Record(
        key=str(row.get("key", "")),
        events=tuple(event_from(event, where) for event in row["events"]),
        changed_at_us=row.get("changed_at_us"),
        topic=str(row.get("topic", "")),
    )
