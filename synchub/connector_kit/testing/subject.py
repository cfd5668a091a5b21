"""A connector's folder with its recordings read in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.discovery import load_connector
from synchub.errors import SynchubError

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Connector

HEADERS: Final = ".headers.json"
EXPECTED: Final = ".expected.json"
SECRETS: Final = "secrets.json"
FILL_IN: Final = "FILL" + "-IN"
"""What a freshly written folder says where only its author knows the answer."""


class Shortcoming(AssertionError):
    """One way in which a connector does not keep the contract; the sentence says what to do."""


def demand(condition: object, sentence: str) -> None:
    """Raise the sentence as a shortcoming unless the condition holds."""
    if not condition:
        raise Shortcoming(sentence)


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
    shared = _read_object(folder / "fixtures" / SECRETS)
    recordings = tuple(_read_recording(path, connector) for path in recorded_bodies(folder))
    levels = [row["item"] for one in recordings for row in one.expected if row.get("kind") == "level"]
    return Subject(
        folder=folder,
        connector=connector,
        recordings=recordings,
        secrets=tuple(_texts(shared.get("secrets"), folder)),
        other=str(shared.get("other", "")),
        credentials=shared.get("credentials", {}),
        items=tuple(dict.fromkeys(shared.get("items") or levels)),
    )


def recorded_bodies(folder: Path) -> list[Path]:
    """Return the paths of the recorded bodies, in a fixed order."""
    notes = (HEADERS, EXPECTED, SECRETS)
    return [path for path in sorted((folder / "fixtures").glob("*.json")) if not path.name.endswith(notes)]


def beside(body: Path, ending: str) -> Path:
    """Return the file that belongs to a recorded body."""
    return body.with_name(body.name.removesuffix(".json") + ending)


def file_prefix(topic: str) -> str:
    """Return how the names of a topic's recordings begin."""
    return topic.replace("/", "__").replace(" ", "_") + "__"


def _read_recording(path: Path, connector: Connector) -> Recording:
    topics = [topic for topic in connector.manifest.topics if path.name.startswith(file_prefix(topic))]
    demand(topics, f"{path.name} belongs to no topic of the manifest; its name is TOPIC__CASE.json.")
    headers = _read_object(beside(path, HEADERS))
    expected = _read(beside(path, EXPECTED))
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


def _read_object(path: Path) -> dict[str, Any]:
    value = _read(path)
    demand(isinstance(value, dict), f"{path} is not a JSON object.")
    return dict(value)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as problem:
        msg = f"{path} is missing."
        raise Shortcoming(msg) from problem
    except ValueError as problem:
        msg = f"{path} is not JSON: {problem}."
        raise Shortcoming(msg) from problem
