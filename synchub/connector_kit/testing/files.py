"""What the files of a connector's ``fixtures/`` are called, and how they are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

HEADERS: Final = ".headers.json"
EXPECTED: Final = ".expected.json"
SECRETS: Final = "secrets.json"
PAGE: Final = "page__"
"""How the names of recorded pages begin; what is recorded of a delivery begins with its topic."""
FILL_IN: Final = "FILL" + "-IN"
"""What a freshly written folder says where only its author knows the answer."""

_FURTHER = re.compile(r"\.[0-9]+\.json$")


class Shortcoming(AssertionError):
    """One way in which a connector does not keep the contract; the sentence says what to do."""


def demand(condition: object, sentence: str) -> None:
    """Raise the sentence as a shortcoming unless the condition holds."""
    if not condition:
        raise Shortcoming(sentence)


def recorded_bodies(folder: Path) -> list[Path]:
    """Return the paths of the recorded deliveries' bodies, in a fixed order."""
    return [path for path in _bodies(folder) if not path.name.startswith(PAGE)]


def page_bodies(folder: Path) -> list[Path]:
    """Return the paths of the recorded pages' first answers, in a fixed order."""
    pages = [path for path in _bodies(folder) if path.name.startswith(PAGE)]
    return [path for path in pages if not _FURTHER.search(path.name)]


def further_bodies(first: Path) -> list[Path]:
    """Return the paths of the answers that follow a page's first one, in their order."""
    stem = first.name.removesuffix(".json")
    found: list[Path] = []
    while (path := first.with_name(f"{stem}.{len(found) + 2}.json")).is_file():
        found.append(path)
    return found


def beside(body: Path, ending: str) -> Path:
    """Return the file that belongs to a recorded body."""
    return body.with_name(body.name.removesuffix(".json") + ending)


def file_prefix(topic: str) -> str:
    """Return how the names of a topic's recordings begin."""
    return topic.replace("/", "__").replace(" ", "_") + "__"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        Shortcoming: there is none.
    """
    value = read(path)
    demand(isinstance(value, dict), f"{path} is not a JSON object.")
    return dict(value)


def read(path: Path) -> Any:
    """Read a JSON value.

    Raises:
        Shortcoming: there is none.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as problem:
        msg = f"{path} is missing."
        raise Shortcoming(msg) from problem
    except ValueError as problem:
        msg = f"{path} is not JSON: {problem}."
        raise Shortcoming(msg) from problem


def _bodies(folder: Path) -> list[Path]:
    notes = (HEADERS, EXPECTED, SECRETS)
    return [path for path in sorted((folder / "fixtures").glob("*.json")) if not path.name.endswith(notes)]
