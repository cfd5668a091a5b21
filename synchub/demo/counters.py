"""The hub's own counters, read from ``/metrics`` of its processes as a monitoring system would.

A process that was started again counts from zero; what it had counted before is kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE: Final = re.compile(r"^(synchub_\w+_total)(?:\{(.*)\})? ([0-9.e+]+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


class Counters:
    """Sums over processes and restarts."""

    def __init__(self, http: aiohttp.ClientSession, addresses: Sequence[str]) -> None:
        self._http = http
        self._addresses = addresses
        self._last: dict[tuple[str, str, str], float] = {}
        self._sums: defaultdict[tuple[str, frozenset[tuple[str, str]]], float] = defaultdict(float)

    async def refresh(self) -> None:
        """Read all processes that answer."""
        for address in self._addresses:
            try:
                async with self._http.get(f"{address}/metrics") as answer:
                    self._note(address, await answer.text())
            except (aiohttp.ClientError, TimeoutError):
                continue

    def count(self, name: str, **labels: str) -> int:
        """Return the sum of one counter over all its labels but these."""
        wanted = set(labels.items())
        found = (value for (one, told), value in self._sums.items() if one == name and wanted <= told)
        return int(sum(found))

    def _note(self, address: str, text: str) -> None:
        for name, labels, written in _LINE.findall(text):
            value, place = float(written), (address, name, labels)
            before = self._last.get(place, 0.0)
            self._last[place] = value
            told = frozenset(_LABEL.findall(labels))
            self._sums[name, told] += value - before if value >= before else value
