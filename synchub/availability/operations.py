"""What can be asked about availability: how it stands, and whether what was shown still holds.

One script reads every SKU of a question at one position. Only for SKUs of which
nothing is in hand the store is asked once more, for what the catalogue offers instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from synchub.availability import checksums, store
from synchub.availability.bodies import Told
from synchub.availability.model import State
from synchub.availability.rules import TTL_MAX_MS, restock, view
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from synchub.availability.model import Outlook, View
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer, Position, Reading

FALLBACKS_MAX: Final = 3
"""Substitutes that one answer names."""
SUBSTITUTES_TRIED: Final = 8
"""Substitutes of one SKU that are looked at, in the catalogue's order."""
SUBSTITUTES_READ: Final = 400
"""Substitutes that are read for one question; SKUs that come late in a long question may get none."""
SHOWN_KEPT: Final = 4096
"""Views that a process remembers: many ask for the same few SKUs."""

_REMEMBERED: Final[dict[tuple[int, int, str, str, int], tuple[Answer, Terms, View, str]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Everything about who asks that decides what is told."""

    keys: MerchantKeys
    terms_of: Callable[[str], Terms]
    """The terms for a SKU."""
    max_age_of: Callable[[str], int]
    """The age in ms at which an account's reports are stale."""
    checksum_key: bytes = field(repr=False)
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is told, in the order of the question, and the position it belongs to."""

    position: Position
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A SKU with the checksum of the answer that somebody was shown."""

    sku: str
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One verdict per presented checksum, in order: None when it is current, else the new answer."""

    position: Position
    changed: tuple[Told | None, ...]


async def answer(
    redis: Executes,
    asker: Asker,
    wanted: Mapping[str, int | None],
    reading: Reading,
    *,
    lacks: Collection[str] = (),
) -> Answers:
    """Answer for the SKUs that were read, each with the quantity that is wanted of it, at one position.

    Of those in ``lacks`` it is told what can be had instead even where a few are left: they are not enough.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store does not answer; nothing was changed.
    """
    told = [_tell(answer, reading.position, asker, wanted[answer.sku]) for answer in reading.answers]
    return Answers(position=reading.position, told=await _with_outlook(redis, asker, told, lacks))


async def verify(redis: Executes, asker: Asker, presented: Sequence[Presented], reading: Reading) -> Verified:
    """Say of each checksum whether it is that of the present answer, which was read, for this asker.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store does not answer; nothing was changed.
    """
    present = {answer.sku: _tell(answer, reading.position, asker) for answer in reading.answers}
    holds = [checksums.check(one.checksum, present[one.sku].checksum) for one in presented]
    moved = {one.sku for one, is_current in zip(presented, holds, strict=True) if not is_current}
    told = await _with_outlook(redis, asker, [one for sku, one in present.items() if sku in moved])
    renewed = {one.answer.sku: one for one in told}
    return Verified(
        position=reading.position,
        changed=tuple(
            None if is_current else renewed[one.sku] for one, is_current in zip(presented, holds, strict=True)
        ),
    )


def _tell(answer: Answer, position: Position, asker: Asker, wanted: int | None = None) -> Told:
    terms = asker.terms_of(answer.sku)
    shown, checksum = _shown(answer, terms, position.epoch, asker)
    return Told(
        answer=answer,
        shown=shown,
        terms=terms,
        position=position,
        checksum=checksum,
        asked_at_ms=asker.now_ms,
        wanted=wanted,
    )


def _shown(answer: Answer, terms: Terms, epoch: str, asker: Asker) -> tuple[View, str]:
    """Return the view and its checksum, from memory where the same was shown under the same terms before.

    What is remembered is told from the rest by the very objects: they are kept with it, so that no others can
    take their places.
    """
    max_age_ms = min(map(asker.max_age_of, {cell.account for cell in answer.cells} or (answer.by,)))
    left_ms = max(0, min(TTL_MAX_MS, answer.as_of_ms + max_age_ms - asker.now_ms))
    known_as = id(answer), id(terms), asker.keys.merchant, epoch, left_ms
    known = _REMEMBERED.get(known_as)
    if known is None:
        shown = view(answer, terms, now_ms=asker.now_ms, max_age_ms=max_age_ms)
        checksum = checksums.checksum(asker.checksum_key, answer, shown, terms=terms, epoch=epoch)
        if len(_REMEMBERED) >= SHOWN_KEPT:
            _REMEMBERED.clear()
        known = _REMEMBERED[known_as] = answer, terms, shown, checksum
    return known[2:]


async def _with_outlook(
    redis: Executes, asker: Asker, told: Sequence[Told], lacks: Collection[str] = ()
) -> tuple[Told, ...]:
    """Add what can be had instead, and when, to the answers that have nothing in hand or not enough."""
    lacking = [
        one.answer.sku
        for one in told
        if one.shown.state is not State.UNKNOWN_SKU and (not one.shown.is_in_hand or one.answer.sku in lacks)
    ]
    if not lacking:
        return tuple(told)
    outlooks = dict(zip(lacking, await store.read_outlooks(redis, asker.keys, lacking), strict=True))
    available = await _available(redis, asker, _substitutes(outlooks.values()))
    return tuple(
        _extended(one, outlooks[one.answer.sku], available, asker) if one.answer.sku in outlooks else one
        for one in told
    )


def _substitutes(outlooks: Iterable[Outlook]) -> list[str]:
    tried = (sku for outlook in outlooks for sku in outlook.substitutes[:SUBSTITUTES_TRIED])
    return list(islice(dict.fromkeys(tried), SUBSTITUTES_READ))


async def _available(redis: Executes, asker: Asker, skus: Sequence[str]) -> dict[str, Told]:
    """Read substitutes and keep those of which there are units to sell now."""
    if not skus:
        return {}
    reading: Reading = await stock.read(redis, asker.keys, skus)
    told = (_tell(answer, reading.position, asker) for answer in reading.answers)
    return {one.answer.sku: one for one in told if one.shown.is_in_hand}


def _extended(told: Told, outlook: Outlook, available: Mapping[str, Told], asker: Asker) -> Told:
    fallbacks = [
        available[sku]
        for sku in outlook.substitutes[:SUBSTITUTES_TRIED]
        if sku in available and sku != told.answer.sku
    ]
    fallbacks.sort(
        key=lambda one: not one.shown.covers(told.wanted or 1)
    )  # in the catalogue's order otherwise
    expected = None
    if not told.shown.is_in_hand and told.shown.state is not State.DISCONTINUED:
        expected = restock(told.answer, told.terms, outlook.incoming, now_ms=asker.now_ms)
    return replace(told, fallbacks=tuple(fallbacks[:FALLBACKS_MAX]), restock=expected)
