"""What the pages tell a reader to type or to save, so that tests can do exactly that."""

from __future__ import annotations

import re
from typing import Final

from tests.support.source import ROOT

_MARKED: Final = re.compile(
    r"^<!-- (?P<what>run|file): (?P<name>[\w.]+) -->\n```\w*\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


def commands(page: str) -> dict[str, str]:
    """The commands of a page by their marks: ``<!-- run: NAME -->`` above a block."""
    return _marked(page, "run")


def saved_files(page: str) -> dict[str, str]:
    """The files that a page has its reader save: ``<!-- file: NAME -->`` above a block."""
    return _marked(page, "file")


def _marked(page: str, what: str) -> dict[str, str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return {block["name"]: block["text"] for block in _MARKED.finditer(text) if block["what"] == what}
