"""Writes the folder of a new connector: small, working, and saying what only its author knows.

The folder passes the suite for every connector as soon as each ``FILL-IN`` in it has
been answered; until then the suite names file and line.
"""

from __future__ import annotations

import keyword
import re
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.testing.signing import sign_recordings
from synchub.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")
_ENDING: Final = ".tmpl"
_TEMPLATES: Final = {False: "posted", True: "polled"}


def write_connector(name: str, into: Path, *, is_polled: bool = False) -> list[Path]:
    """Write ``into/name`` and return its files; one that is polled posts nothing.

    Raises:
        InvalidRequest: not a name for a connector, or the folder is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        msg = "A connector's name has 2 to 40 small letters, digits and underscores, a letter first."
        raise InvalidRequest(msg)
    folder = into / name
    if folder.exists():
        msg = f"{folder} is there already."
        raise InvalidRequest(msg)
    words = {
        "name": name,
        "header": name.replace("_", "-"),
        "title": name.replace("_", "-").title(),
        "title_case": name.replace("_", " ").title().replace(" ", ""),
    }
    template = resources.files("synchub.connector_kit").joinpath("template", _TEMPLATES[is_polled])
    written = [_write(folder / place, text, words) for place, text in _texts(template, "")]
    if not is_polled:
        sign_recordings(folder)
    return written


def _write(path: Path, text: str, words: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template(text).substitute(words), encoding="utf-8")
    return path


def _texts(home: Traversable, under: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(home.iterdir(), key=lambda found: found.name):
        if entry.is_dir():
            yield from _texts(entry, f"{under}{entry.name}/")
        elif entry.name.endswith(_ENDING):
            yield under + entry.name.removesuffix(_ENDING), entry.read_text(encoding="utf-8")
