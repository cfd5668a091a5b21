"""Our states in other people's words and back: what is lost is lost on the safe side."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.availability.model import SELLABLE, State
from synchub.availability.vocabularies import (
    ACP_CHECKOUT,
    ACP_FEED,
    GOOGLE,
    SCHEMA_ORG,
    UCP,
    VOCABULARIES,
    Vocabulary,
    from_flagged,
    from_google,
    from_schema_org,
    sellability,
    to_flagged,
    to_schema_org,
)

# Columns: schema.org, Google Merchant, ACP feed, ACP checkout, UCP.
WORDS = {
    State.IN_STOCK: ("InStock", "in_stock", "in_stock", "in_stock", "in_stock"),
    State.LOW_STOCK: ("LimitedAvailability", "in_stock", "limited_stock", "low_stock", "in_stock"),
    State.OUT_OF_STOCK: ("OutOfStock", "out_of_stock", "out_of_stock", "out_of_stock", "out_of_stock"),
    State.BACKORDERED: ("BackOrder", "backorder", "backorder", "backorder", "backorder"),
    State.RESERVED: ("Reserved", "out_of_stock", "out_of_stock", "out_of_stock", "out_of_stock"),
    State.DISCONTINUED: ("Discontinued", "out_of_stock", "discontinued", "out_of_stock", "discontinued"),
    State.UNKNOWN_SKU: ("OutOfStock", "out_of_stock", "out_of_stock", "out_of_stock", "out_of_stock"),
}
# All the words that each of them has.
WHOLE = {
    SCHEMA_ORG.name: "BackOrder Discontinued InStock InStoreOnly LimitedAvailability MadeToOrder OnlineOnly "
    "OutOfStock PreOrder PreSale Reserved SoldOut",
    GOOGLE.name: "in_stock out_of_stock preorder backorder limited_availability",
    ACP_FEED.name: "in_stock limited_stock backorder preorder out_of_stock discontinued",
    ACP_CHECKOUT.name: "in_stock low_stock out_of_stock backorder pre_order",
    UCP.name: "in_stock low_stock backorder preorder out_of_stock discontinued",
}
ORDERABLE = {
    "InStock", "OnlineOnly", "LimitedAvailability", "BackOrder", "PreOrder", "PreSale", "MadeToOrder",
    "in_stock", "limited_availability", "limited_stock", "low_stock", "backorder", "preorder", "pre_order",
}  # fmt: skip

vocabularies = st.sampled_from(VOCABULARIES)
states = st.sampled_from(State)


@pytest.mark.parametrize("state", State)
def test_each_state_has_its_word_in_each_vocabulary(state: State) -> None:
    assert tuple(vocabulary.word(state, has_date=True) for vocabulary in VOCABULARIES) == WORDS[state]


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda one: one.name)
def test_every_word_of_a_vocabulary_is_known(vocabulary: Vocabulary) -> None:
    assert set(vocabulary.read) == set(WHOLE[vocabulary.name].split())


@given(vocabularies, states, st.booleans())
def test_a_word_never_says_more_than_the_state(vocabulary: Vocabulary, state: State, has_date: bool) -> None:
    word = vocabulary.word(state, has_date=has_date)
    assert sellability(vocabulary.state(word)) <= sellability(state)
    assert (word in ORDERABLE) <= (state in SELLABLE)


@pytest.mark.parametrize(
    ("vocabulary", "word"), [(one, word) for one in VOCABULARIES for word in sorted(one.read)]
)
def test_a_word_that_is_read_and_told_again_never_says_more(vocabulary: Vocabulary, word: str) -> None:
    state = vocabulary.state(word)
    again = vocabulary.state(vocabulary.word(state, has_date=True))
    assert sellability(again) == sellability(state)
    assert (state in SELLABLE) == (word in ORDERABLE)


@given(vocabularies, vocabularies, states)
def test_no_chain_of_vocabularies_makes_anything_sellable(
    one: Vocabulary, other: Vocabulary, state: State
) -> None:
    passed_on = other.state(other.word(one.state(one.word(state))))
    assert sellability(passed_on) <= sellability(state)


@given(vocabularies, st.text())
def test_an_unknown_word_sells_nothing(vocabulary: Vocabulary, word: str) -> None:
    if word not in vocabulary.read:
        assert vocabulary.state(word) is State.OUT_OF_STOCK


def test_google_is_told_of_a_backorder_only_with_its_date() -> None:
    assert GOOGLE.word(State.BACKORDERED) == "out_of_stock"
    assert GOOGLE.word(State.BACKORDERED, has_date=True) == "backorder"


def test_google_writes_its_words_in_two_ways() -> None:
    assert from_google("BACKORDER") is from_google("backorder") is State.BACKORDERED
    assert from_google("AVAILABILITY_UNSPECIFIED") is State.OUT_OF_STOCK


@pytest.mark.parametrize("start", ["https://schema.org/", "http://schema.org/", ""])
def test_a_word_of_schema_org_may_stand_with_its_address(start: str) -> None:
    assert from_schema_org(start + "LimitedAvailability") is State.LOW_STOCK
    assert from_schema_org("https://example.com/InStock") is State.OUT_OF_STOCK


@pytest.mark.parametrize("state", State)
def test_schema_org_is_told_addresses_that_it_reads(state: State) -> None:
    assert sellability(from_schema_org(to_schema_org(state))) == sellability(state)


@pytest.mark.parametrize(("vocabulary", "state"), list(product((UCP, ACP_FEED), State)))
def test_a_flag_says_the_same_as_its_word(vocabulary: Vocabulary, state: State) -> None:
    pair = to_flagged(vocabulary, state)
    assert pair["available"] == (state in SELLABLE)
    assert sellability(
        from_flagged(vocabulary, available=bool(pair["available"]), status=str(pair["status"]))
    ) == sellability(state)


@pytest.mark.parametrize(
    ("vocabulary", "status"), list(product((UCP, ACP_FEED), [*sorted(ORDERABLE), "nonsense"]))
)
def test_of_a_flag_and_a_word_that_disagree_the_one_that_sells_less_counts(
    vocabulary: Vocabulary, status: str
) -> None:
    assert from_flagged(vocabulary, available=False, status=status) is State.OUT_OF_STOCK
    assert from_flagged(vocabulary, available=True, status="out_of_stock") is State.OUT_OF_STOCK
    assert from_flagged(vocabulary, available=False, status="discontinued") is State.DISCONTINUED
