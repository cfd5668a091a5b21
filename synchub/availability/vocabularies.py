"""The states in other people's words, and their words as states. Pure.

Other vocabularies are poorer than ours, so something is always lost; it is lost on
the safe side. A state in which nothing may be ordered never becomes a word that
invites an order, and no word becomes a state in which more may be ordered than the
word says. A word that is not in the tables is read as out of stock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub.availability.model import IN_HAND, SELLABLE, State

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA_ORG: Final = ("https://schema.org/", "http://schema.org/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """One table, read in both directions."""

    name: str
    told: Mapping[State, str]
    """The word for each state."""
    read: Mapping[str, State]
    """The state for each word that the vocabulary has."""
    dated: frozenset[str] = frozenset()
    """Words that are not valid without a date."""

    def word(self, state: State, *, has_date: bool = False) -> str:
        """Return the word for a state; ``has_date`` says whether a date will stand beside it."""
        word = self.told[state]
        return self.told[State.OUT_OF_STOCK] if word in self.dated and not has_date else word

    def state(self, word: str) -> State:
        """Return what a word says; out of stock if it is none of the vocabulary's."""
        return self.read.get(word, State.OUT_OF_STOCK)


SCHEMA_ORG: Final = Vocabulary(
    name="schema.org ItemAvailability",
    told={
        State.IN_STOCK: "InStock",
        State.LOW_STOCK: "LimitedAvailability",
        State.BACKORDERED: "BackOrder",
        State.RESERVED: "Reserved",
        State.OUT_OF_STOCK: "OutOfStock",
        State.DISCONTINUED: "Discontinued",
        State.UNKNOWN_SKU: "OutOfStock",
    },
    read={
        "InStock": State.IN_STOCK,
        "OnlineOnly": State.IN_STOCK,
        "LimitedAvailability": State.LOW_STOCK,
        "BackOrder": State.BACKORDERED,
        "PreOrder": State.BACKORDERED,
        "PreSale": State.BACKORDERED,
        "MadeToOrder": State.BACKORDERED,
        "Reserved": State.RESERVED,
        "OutOfStock": State.OUT_OF_STOCK,
        "SoldOut": State.OUT_OF_STOCK,
        "InStoreOnly": State.OUT_OF_STOCK,  # nobody can order it through an agent
        "Discontinued": State.DISCONTINUED,
    },
)

GOOGLE: Final = Vocabulary(
    name="Google Merchant availability",
    told={
        State.IN_STOCK: "in_stock",
        State.LOW_STOCK: "in_stock",
        State.BACKORDERED: "backorder",
        State.RESERVED: "out_of_stock",
        State.OUT_OF_STOCK: "out_of_stock",
        State.DISCONTINUED: "out_of_stock",
        State.UNKNOWN_SKU: "out_of_stock",
    },
    read={
        "in_stock": State.IN_STOCK,
        "limited_availability": State.LOW_STOCK,
        "backorder": State.BACKORDERED,
        "preorder": State.BACKORDERED,
        "out_of_stock": State.OUT_OF_STOCK,
    },
    dated=frozenset({"backorder"}),
)

ACP_FEED: Final = Vocabulary(
    name="ACP feed status",
    told={
        State.IN_STOCK: "in_stock",
        State.LOW_STOCK: "limited_stock",
        State.BACKORDERED: "backorder",
        State.RESERVED: "out_of_stock",
        State.OUT_OF_STOCK: "out_of_stock",
        State.DISCONTINUED: "discontinued",
        State.UNKNOWN_SKU: "out_of_stock",
    },
    read={
        "in_stock": State.IN_STOCK,
        "limited_stock": State.LOW_STOCK,
        "backorder": State.BACKORDERED,
        "preorder": State.BACKORDERED,
        "out_of_stock": State.OUT_OF_STOCK,
        "discontinued": State.DISCONTINUED,
    },
)

ACP_CHECKOUT: Final = Vocabulary(
    name="ACP checkout availability_status",
    told={
        State.IN_STOCK: "in_stock",
        State.LOW_STOCK: "low_stock",
        State.BACKORDERED: "backorder",
        State.RESERVED: "out_of_stock",
        State.OUT_OF_STOCK: "out_of_stock",
        State.DISCONTINUED: "out_of_stock",
        State.UNKNOWN_SKU: "out_of_stock",
    },
    read={
        "in_stock": State.IN_STOCK,
        "low_stock": State.LOW_STOCK,
        "backorder": State.BACKORDERED,
        "pre_order": State.BACKORDERED,
        "out_of_stock": State.OUT_OF_STOCK,
    },
)

UCP: Final = Vocabulary(
    name="UCP availability status",
    told={
        State.IN_STOCK: "in_stock",
        State.LOW_STOCK: "in_stock",  # the only well-known word that says "in stock"
        State.BACKORDERED: "backorder",
        State.RESERVED: "out_of_stock",
        State.OUT_OF_STOCK: "out_of_stock",
        State.DISCONTINUED: "discontinued",
        State.UNKNOWN_SKU: "out_of_stock",
    },
    read={
        "in_stock": State.IN_STOCK,
        "low_stock": State.LOW_STOCK,
        "backorder": State.BACKORDERED,
        "preorder": State.BACKORDERED,
        "out_of_stock": State.OUT_OF_STOCK,
        "discontinued": State.DISCONTINUED,
    },
)

VOCABULARIES: Final = (SCHEMA_ORG, GOOGLE, ACP_FEED, ACP_CHECKOUT, UCP)


def sellability(state: State) -> int:
    """Return how much may be ordered: 0 nothing, 1 for later, 2 from stock."""
    if state in IN_HAND:
        return 2
    return 1 if state in SELLABLE else 0


def to_schema_org(state: State) -> str:
    """Return the address of the ItemAvailability."""
    return _SCHEMA_ORG[0] + SCHEMA_ORG.word(state)


def from_schema_org(text: str) -> State:
    """Read an ItemAvailability, with or without its address before it."""
    for start in _SCHEMA_ORG:
        text = text.removeprefix(start)
    return SCHEMA_ORG.state(text)


def from_google(text: str) -> State:
    """Read an availability as feeds (``in_stock``) or the API (``IN_STOCK``) write it."""
    return GOOGLE.state(text.lower())


def to_flagged(vocabulary: Vocabulary, state: State) -> dict[str, bool | str]:
    """Return the pair of ``available`` and ``status`` that ACP feeds and UCP catalogues carry."""
    return {"available": state in SELLABLE, "status": vocabulary.word(state)}


def from_flagged(vocabulary: Vocabulary, *, available: bool, status: str) -> State:
    """Read such a pair; where its halves contradict each other, the one that sells less counts."""
    state = vocabulary.state(status)
    return state if available or state not in SELLABLE else State.OUT_OF_STOCK
