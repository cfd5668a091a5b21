"""Field paths: where in a JSON answer something stands, as a merchant writes it.

Names with dots between them, ``[2]`` for the third of a list, quotation marks around a name
that holds dots or brackets: ``data.rows``, ``stock[0].qty``, ``"on.hand".total``. No path
means the value itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

CHARS_MAX: Final = 200
STEPS_MAX: Final = 16

FieldPath: TypeAlias = "tuple[str | int, ...]"

_STEP = re.compile(r'"((?:[^"\\]|\\["\\])+)"|\[([0-9]{1,3})\]|\["((?:[^"\\]|\\["\\])+)"\]|([^.\[\]"\\]+)')


class Missing:
    """Nothing stands there; null is something else."""


MISSING: Final = Missing()


def read_path(text: str) -> FieldPath:
    """Return the steps of a path.

    Raises:
        ValueError: no path; the sentence says why and repeats nothing.
    """
    if len(text) > CHARS_MAX:
        msg = f"is longer than {CHARS_MAX} characters"
        raise ValueError(msg)
    steps: list[str | int] = []
    place = 0
    while place < len(text):
        step = _STEP.match(text, place)
        if step is None or (steps and text[place - 1] != "." and text[place] != "["):
            msg = 'is no path such as data.rows, stock[0].qty or "on.hand".total'
            raise ValueError(msg)
        quoted, index, bracketed, bare = step.groups()
        steps.append(int(index) if index else bare or _unquoted(quoted or bracketed))
        place = _after_dot(text, step.end())
    if len(steps) > STEPS_MAX:
        msg = f"has more than {STEPS_MAX} steps"
        raise ValueError(msg)
    return tuple(steps)


def look_up(value: object, path: Sequence[str | int]) -> object:
    """Return what stands at the path; ``MISSING`` where nothing does."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step] if step < len(value) else MISSING
        else:
            return MISSING
    return value


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _after_dot(text: str, place: int) -> int:
    """Return where the next step begins.

    Raises:
        ValueError: a dot with nothing after it.
    """
    if not text.startswith(".", place):
        return place
    if place + 1 == len(text):
        msg = "ends with a dot"
        raise ValueError(msg)
    return place + 1
