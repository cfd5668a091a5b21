"""What is held, and from where: the feed vouches for some of it, the rest ages by itself.

``followed`` entries are those the feed has confirmed and will tell changes of; its
``complete_at`` keeps them young. ``aside`` are answers to questions about SKUs that
the feed does not tell of; each is as old as its question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub_client.model import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from synchub_client.model import Item

NEVER: Final = -math.inf
ASIDE_MAX: Final = 10_000
"""Answers kept about SKUs that the feed does not follow."""


@dataclass(slots=True)
class Entry:
    """One SKU."""

    item: Item | None
    """None when it has changed and nobody has said into what."""
    ver: int
    """No item below this version counts."""
    as_of: float = NEVER
    """When the question was asked that this answers."""
    invalidated: int = 0
    """Number of the last invalidation; an answer to an earlier question may be from before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about one SKU that is under way."""

    sku: str
    sent_at: float
    generation: int
    """What was held then is not comparable with what is held after everything was dropped."""
    invalidations: int
    """How many there had been."""


class Held:
    """The entries of one feed."""

    def __init__(self) -> None:
        self._followed: dict[str, Entry] = {}
        self._aside: dict[str, Entry] = {}
        self.invalidations = 0
        """How many there have been."""

    def look(self, sku: str, complete_at: float) -> tuple[Item | None, float]:
        """Return the item and the moment at which it was certainly true."""
        entry = self._followed.get(sku)
        if entry is not None:
            return entry.item, max(entry.as_of, complete_at)
        aside = self._aside.get(sku)
        return (None, NEVER) if aside is None else (aside.item, aside.as_of)

    def awaits(self, sku: str) -> bool:
        """Whether the feed tells of this SKU and its item is not known."""
        return sku in self._followed

    def followed(self) -> dict[str, Item]:
        """Return the items that the feed vouches for."""
        return {sku: entry.item for sku, entry in self._followed.items() if entry.item is not None}

    def put(self, item: Item) -> bool:
        """Take an item from the feed; return whether it is newer than what was held."""
        entry = self._entry(item.sku)
        if entry is None:
            entry = Entry(None, -1)
        self._aside.pop(item.sku, None)
        self._followed[item.sku] = entry
        if item.ver <= entry.ver:
            return False
        entry.item, entry.ver, entry.as_of = item, item.ver, NEVER
        return True

    def invalidate(self, sku: str, ver: int) -> bool:
        """Take note that what was told of a SKU up to a version counts no more; return whether that is news.

        The same version may look different to one agent, after a hold of its own, and
        to all after the merchant has decided something.
        """
        entry = self._entry(sku)
        if entry is None:
            entry = Entry(None, ver)
        self._aside.pop(sku, None)
        self._followed[sku] = entry
        if entry.ver > ver:
            return False
        self.invalidations += 1
        entry.item, entry.ver, entry.as_of, entry.invalidated = None, ver, NEVER, self.invalidations
        return True

    def replace(self, items: Mapping[str, Item]) -> Iterator[tuple[str, ChangeKind]]:
        """Put the full state in place of what was followed, and tell the difference.

        What is newer than the snapshot stays, be it an answer or that there is none.
        """
        before, self._followed = self._followed, {}
        for sku, item in items.items():
            entry = before.pop(sku, None)
            if entry is None:
                entry = self._aside.pop(sku, None)
            if entry is not None and entry.ver >= item.ver:
                self._followed[sku] = entry
                continue
            self._followed[sku] = Entry(item, item.ver)
            yield sku, ChangeKind.UPDATED
        for sku in before:
            yield sku, ChangeKind.REMOVED

    def add_answer(self, item: Item, question: Question, *, is_followed: bool, old_before: float) -> bool:
        """Keep an answer, unless something newer is held.

        ``is_followed`` says whether the feed tells of this SKU although nothing is
        held of it yet.
        """
        as_of = question.sent_at
        entry = self._entry(item.sku)
        if entry is None:
            self._make_room(old_before)
            (self._followed if is_followed else self._aside)[item.sku] = Entry(item, item.ver, as_of)
            return True
        if item.ver < entry.ver or (item.ver == entry.ver and entry.invalidated > question.invalidations):
            return False
        if item.ver == entry.ver:
            as_of = max(as_of, entry.as_of)
        entry.item, entry.ver, entry.as_of = item, item.ver, as_of
        return True

    def drop(self, sku: str) -> bool:
        """Forget one SKU; return whether the feed told of it."""
        self._aside.pop(sku, None)
        return self._followed.pop(sku, None) is not None

    def clear(self) -> list[str]:
        """Forget everything and return what the feed told of."""
        names = list(self._followed)
        self._followed.clear()
        self._aside.clear()
        return names

    def _entry(self, sku: str) -> Entry | None:
        entry = self._followed.get(sku)
        return self._aside.get(sku) if entry is None else entry

    def _make_room(self, old_before: float) -> None:
        if len(self._aside) < ASIDE_MAX:
            return
        self._aside = {sku: entry for sku, entry in self._aside.items() if entry.as_of >= old_before}
        while len(self._aside) >= ASIDE_MAX:
            del self._aside[next(iter(self._aside))]
