"""A connector's folder with its recordings read in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.discovery import load_connector
from synchub.connector_kit.testing.files import (
    EXPECTED,
    HEADERS,
    SECRETS,
    Shortcoming,
    beside,
    demand,
    file_prefix,
    read,
    read_object,
    recorded_bodies,
)
from synchub.connector_kit.testing.pages import PageRecording, read_pages
from synchub.errors import SynchubError

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Connector


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded delivery."""

    name: str
    topic: str
    body: bytes
    headers: Mapping[str, str] = field(repr=False)
    """With lower-case names, as the hub keeps them."""
    document: str
    now_ms: int
    expected: tuple[Mapping[str, Any], ...]

    @property
    def delivery(self) -> Delivery:
        """The recording as it would arrive."""
        return Delivery(
            account="acc_test", headers=self.headers, body=self.body, arrived_at_us=self.now_ms * 1000
        )

    @property
    def refused(self) -> str | None:
        """Part of the sentence with which ``normalize`` refuses it, if it does."""
        return next((str(row["refused"]) for row in self.expected if "refused" in row), None)

    def with_body(self, body: bytes) -> Delivery:
        """Return the delivery with other bytes under the same headers."""
        return replace(self.delivery, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the checks look at."""

    folder: Path
    connector: Connector
    recordings: tuple[Recording, ...]
    pages: tuple[PageRecording, ...]
    secrets: tuple[str, ...] = field(repr=False)
    other: str = field(repr=False)
    credentials: Mapping[str, str] = field(repr=False)
    items: tuple[str, ...]

    @property
    def readable(self) -> list[Recording]:
        """The recordings that ``normalize`` turns into events."""
        return [recording for recording in self.recordings if recording.refused is None]


def load_subject(folder: Path) -> Subject:
    """Read a connector's folder.

    Raises:
        Shortcoming: the connector cannot be loaded, or its fixtures are not of the form
            that this package's docstring describes.
    """
    try:
        connector = load_connector(folder)
    except SynchubError as problem:
        raise Shortcoming(problem.detail) from problem
    shared = read_object(folder / "fixtures" / SECRETS)
    recordings = tuple(_read_recording(path, connector) for path in recorded_bodies(folder))
    pages = read_pages(folder)
    told = [row for one in recordings for row in one.expected]
    told += [row for page in pages for record in page.expected.get("records", ()) for row in record["events"]]
    levels = [row["item"] for row in told if row.get("kind") == "level"]
    return Subject(
        folder=folder,
        connector=connector,
        recordings=recordings,
        pages=pages,
        secrets=tuple(_texts(shared.get("secrets"), folder)) if connector.manifest.topics else (),
        other=str(shared.get("other", "")),
        credentials=shared.get("credentials", {}),
        items=tuple(dict.fromkeys(shared.get("items") or levels)),
    )


def _read_recording(path: Path, connector: Connector) -> Recording:
    topics = [topic for topic in connector.manifest.topics if path.name.startswith(file_prefix(topic))]
    demand(topics, f"{path.name} belongs to no topic of the manifest; its name is TOPIC__CASE.json.")
    headers = read_object(beside(path, HEADERS))
    expected = read(beside(path, EXPECTED))
    demand(isinstance(expected, list), f"{beside(path, EXPECTED).name} is a list of events.")
    now_ms = headers.get("_now_ms")
    demand(
        isinstance(now_ms, int), f'{beside(path, HEADERS).name} needs "_now_ms", the clock at its arrival.'
    )
    return Recording(
        name=path.name.removesuffix(".json"),
        topic=max(topics, key=len),
        body=path.read_bytes(),
        headers={name.lower(): value for name, value in headers.items() if not name.startswith("_")},
        document=str(headers.get("_document", "")),
        now_ms=int(now_ms or 0),
        expected=tuple(expected),
    )


def _texts(value: object, folder: Path) -> Sequence[str]:
    fits = isinstance(value, list) and len(value) > 0 and all(isinstance(text, str) for text in value)
    demand(fits, f'{folder / "fixtures" / SECRETS} needs "secrets", a list of the secrets that sign.')
    return value if isinstance(value, list) else []
