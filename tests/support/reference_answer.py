"""How the answer for a SKU follows from its sources, stated again in plain Python.

Shares no code with the hub. Only authorities count. Each of the merchant's
locations is one cell, ruled by one source; the answer is the sum of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.reference_source import Source


class SourceName(NamedTuple):
    """Who reports on what; ``place`` is the merchant's location."""

    account: str
    item: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Role:
    """What an account may do. ``kind``: A authority, C contributor, M mirror."""

    kind: str = "C"
    rank: int = 0
    max_age: int = 0
    own_items: bool = False
    own_places: bool = False
    fetches: bool = False


class Cell(NamedTuple):
    """The number of one location, the source it rests on, and whether that is second best."""

    base: int
    evidence: int
    """The chosen source's own evidence, before the watermark."""
    as_of: int
    by: str
    degraded: bool


class Conclusion(NamedTuple):
    """What follows for the SKU. ``cells`` are (evidence, account) of the sources it rests on."""

    ats: int
    known: bool
    gone: bool
    degraded: bool
    by: str
    as_of: int
    cells: tuple[tuple[int, str], ...]


def conclude(
    sources: Mapping[SourceName, Source],
    *,
    role_of: Callable[[str], Role],
    watermark_of: Callable[[str], int],
    now: int,
) -> Conclusion:
    """Return the answer as it stands at ``now``."""
    places = sorted({name.place for name in sources if role_of(name.account).kind == "A"})
    cells = []
    for place in places:
        rulers = {
            name: source
            for name, source in sources.items()
            if name.place == place and role_of(name.account).kind == "A"
        }
        cell = _rule(rulers, role_of=role_of, watermark_of=watermark_of, now=now)
        if cell is not None:
            cells.append(cell)
    oldest = min(cells, key=lambda cell: cell.as_of, default=None)
    return Conclusion(
        ats=sum(cell.base for cell in cells),
        known=bool(cells),
        gone=bool(sources) and all(source.status == "R" for source in sources.values()),
        degraded=any(cell.degraded for cell in cells),
        by=oldest.by if oldest else "",
        as_of=oldest.as_of if oldest else 0,
        cells=tuple((cell.evidence, cell.by) for cell in cells),
    )


def _rule(
    sources: Mapping[SourceName, Source],
    *,
    role_of: Callable[[str], Role],
    watermark_of: Callable[[str], int],
    now: int,
) -> Cell | None:
    def as_of(name: SourceName) -> int:
        return max(sources[name].evidence, watermark_of(name.account))

    def cell(name: SourceName, base: int, *, degraded: bool) -> Cell:
        return Cell(base, sources[name].evidence, as_of(name), name.account, degraded)

    counted = [name for name, source in sources.items() if source.status == "K"]
    counted.sort(key=lambda name: (role_of(name.account).rank, name.account, name.item))
    if not counted:
        if any(source.status in {"U", "T"} for source in sources.values()):
            return None
        latest = max(sorted(sources), key=as_of)
        return cell(latest, 0, degraded=False)
    best = counted[0]
    fresh = [name for name in counted if now - as_of(name) <= role_of(name.account).max_age]
    if fresh and fresh[0] == best:
        return cell(best, sources[best].contribution, degraded=False)
    if fresh:
        base = min(sources[fresh[0]].contribution, sources[best].contribution)
        return cell(fresh[0], base, degraded=True)
    least = min(counted, key=lambda name: sources[name].contribution)
    return cell(least, sources[least].contribution, degraded=True)
