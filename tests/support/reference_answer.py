"""How the answer for a SKU follows from its sources and sales, stated again in plain Python.

Shares no code with the hub. Only authorities count. Each of the merchant's
locations is one cell, ruled by one source; the answer is the sum of the cells,
less sales at places that nobody reports on. A sale is subtracted where the source
that rules does not contain it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    own: bool = False
    """Its levels contain the orders it took itself."""
    ref: bool = False
    """It acknowledges what its levels contain."""
    connected_at: int = 0


class Ruling(NamedTuple):
    """The number of one location, the source it rests on, and whether that is second best."""

    place: str
    base: int
    evidence: int
    """The chosen source's own evidence, before the watermark."""
    as_of: int
    by: str
    degraded: bool = False
    stale: bool = False


class Conclusion(NamedTuple):
    """What follows for the SKU, before holds."""

    ats: int
    known: bool
    gone: bool
    degraded: bool
    stale: bool
    by: str
    as_of: int
    cells: tuple[Ruling, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """What the answer depends on besides the sources themselves."""

    role_of: Callable[[str], Role]
    watermark_of: Callable[[str], int]
    now: int
    pending_of: Callable[[SourceName], int] = lambda _: 0
    """Units sold at the source's place that its number does not contain yet."""
    open_at: Callable[[str], int] = lambda _: 0
    """Units sold at a place."""
    sold_at: tuple[str, ...] = ()
    """Places of sales."""
    is_left: bool = False
    """An item that reported on it has become another SKU."""
    adds: Callable[[str, str], bool] = lambda _account, _place: False
    """Whether the items of an account at a place count as one source, their sum."""
    trusts: bool = False
    """Whether a second best source may raise what the best last said."""


def conclude(sources: Mapping[SourceName, Source], view: View) -> Conclusion:
    """Return the answer as it stands."""
    rulers: dict[str, dict[SourceName, Source]] = {place: {} for place in view.sold_at}
    for name, source in sources.items():
        if view.role_of(name.account).kind == "A":
            rulers.setdefault(name.place, {})[name] = source
    cells, elsewhere = [], 0
    for place in sorted(rulers):
        cell = _rule(rulers[place], view)
        if cell is not None:
            cells.append(cell)
        else:
            elsewhere += max(map(view.pending_of, rulers[place]), default=view.open_at(place))
    oldest = min(cells, key=lambda cell: cell.as_of, default=None)
    return Conclusion(
        ats=sum(cell.base for cell in cells) - elsewhere,
        known=bool(cells),
        gone=bool(sources or view.is_left) and all(source.status == "R" for source in sources.values()),
        degraded=any(cell.degraded for cell in cells),
        stale=any(cell.stale for cell in cells),
        by=oldest.by if oldest else "",
        as_of=oldest.as_of if oldest else 0,
        cells=tuple(cells),
    )


class _Candidate(NamedTuple):
    """A source, or several that count as one."""

    name: SourceName
    """The first of them."""
    status: str
    offer: int
    evidence: int
    as_of: int


def _rule(sources: Mapping[SourceName, Source], view: View) -> Ruling | None:
    """Choose who rules a place; ``None`` where nobody knows a number."""

    def is_fresh(each: _Candidate) -> bool:
        return view.now - each.as_of <= view.role_of(each.name.account).max_age

    def cell(each: _Candidate, base: int, *, degraded: bool = False, stale: bool = False) -> Ruling:
        account, _, place = each.name
        return Ruling(place, base, each.evidence, each.as_of, account, degraded, stale)

    candidates = _candidates(sources, view)
    counted = [each for each in candidates if each.status == "K"]
    counted.sort(key=lambda each: (view.role_of(each.name.account).rank, *each.name))
    if not counted:
        if not sources or any(each.status in {"U", "T"} for each in candidates):
            return None
        latest = max(sorted(candidates), key=lambda each: each.as_of)
        return cell(latest, latest.offer)
    best = counted[0]
    fresh = next(filter(is_fresh, counted), None)
    if fresh is None:
        least = min(counted, key=lambda each: each.offer)
        return cell(least, least.offer, degraded=True, stale=True)
    if fresh is best:
        return cell(best, best.offer)
    raised = fresh.offer if view.trusts else min(fresh.offer, best.offer)
    return cell(fresh, raised, degraded=True)


def _candidates(sources: Mapping[SourceName, Source], view: View) -> list[_Candidate]:
    """Who may rule a place: each source, and items whose numbers are added as one."""
    added: dict[str, list[SourceName]] = {}
    apart = []
    for name, source in sorted(sources.items()):
        if source.status in {"K", "C", "R"} and view.adds(name.account, name.place):
            added.setdefault(name.account, []).append(name)
        else:
            apart.append([name])
    return [_candidate(names, sources, view) for names in (*apart, *added.values())]


def _candidate(names: Sequence[SourceName], sources: Mapping[SourceName, Source], view: View) -> _Candidate:
    counting = [name for name in names if sources[name].status == "K"] or names
    evidence = min(sources[name].evidence for name in counting)
    return _Candidate(
        name=names[0],
        status=sources[counting[0]].status,
        offer=sum(sources[name].contribution - view.pending_of(name) for name in names),
        evidence=evidence,
        as_of=max(evidence, view.watermark_of(names[0].account)),
    )
