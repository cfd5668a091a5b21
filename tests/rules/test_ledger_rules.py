"""Folding the ledger: the state is the last value of each thing, wherever the fold begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.archive.checkpoints import state_lines
from synchub.ledger.rules import document, entry_of, fold, sentence
from tests.support.archive import effect

if TYPE_CHECKING:
    from synchub.ledger.model import LedgerEntry

fields = st.fixed_dictionaries(
    {
        "sku": st.sampled_from(["TEE", "MUG", "Größe"]),
        "loc": st.sampled_from(["WH1", "WH2", ""]),
        "acc": st.sampled_from(["wms", "shop", ""]),
        "item": st.sampled_from(["1", "2", ""]),
        "field": st.sampled_from(
            ["level", "delta", "status", "catalogue", "answer", "sale", "settled", "moved", "hold", "other"]
        ),
        "from": st.just(""),
        "to": st.sampled_from(["", "0", "2", "K5", "held:2", "released:2", "committed:1", "é"]),
        "ats": st.integers(-5, 5).map(str),
    }
)
ledgers = st.lists(fields, max_size=40).map(
    lambda found: [entry_of(seq, one) for seq, one in enumerate(found, 1)]
)


def an_entry(seq: int = 1, **changes: str) -> LedgerEntry:
    return entry_of(seq, effect(seq, **changes))


@given(ledgers, st.data())
def test_folding_from_a_checkpoint_gives_the_bytes_of_folding_from_the_start(
    entries: list[LedgerEntry], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(entries)))
    checkpoint = fold({}, entries[:cut])
    assert state_lines(fold(checkpoint, entries[cut:])) == state_lines(fold({}, entries))


@given(ledgers)
def test_folding_twice_is_folding_once(entries: list[LedgerEntry]) -> None:
    once = fold({}, entries)
    assert fold(once, entries[-1:]) == once


def test_the_state_given_stays_as_it_is() -> None:
    before = fold({}, [an_entry(1)])
    fold(before, [an_entry(4, to="K9")])
    assert before == fold({}, [an_entry(1)])


def test_levels_changes_and_removal_of_one_source_are_one_thing() -> None:
    same = {"sku": "TEE", "item": "1"}
    entries = [an_entry(1, **same), an_entry(2, **same, field="delta", to="K2+,5,1")]
    key = ("source", "TEE", "wms", "1", "WH1")
    assert fold({}, entries) == {key: "K2+,5,1", ("ats", "TEE"): "2"}
    assert key not in fold({}, [*entries, an_entry(3, **same, field="status", to="")])


def test_a_sale_keeps_its_name_whoever_speaks_of_it() -> None:
    told = {"sku": "TEE", "item": "sale-1", "field": "sale"}
    entries = [an_entry(1, **told, acc="", to="2"), an_entry(2, **told, acc="shop", loc="WH2", to="3")]
    assert fold({}, entries)["sale", "TEE", "sale-1"] == "3"
    assert ("sale", "TEE", "sale-1") not in fold({}, [*entries, an_entry(3, **told, to="0")])
    settled = an_entry(3, **(told | {"field": "settled"}), to="3")
    assert ("sale", "TEE", "sale-1") not in fold({}, [*entries, settled])


def test_a_sale_is_known_by_its_own_name_before_the_items() -> None:
    entry = an_entry(1, sku="TEE", item="1", field="sale", to="2", ref="line-7")
    assert fold({}, [entry])["sale", "TEE", "line-7"] == "2"


def test_a_hold_is_folded_while_it_lives() -> None:
    told = {"sku": "TEE", "item": "e.1", "field": "hold"}
    held = fold({}, [an_entry(1, **told, to="held:2")])
    assert held["hold", "TEE", "e.1"] == "held:2"
    assert ("hold", "TEE", "e.1") not in fold(held, [an_entry(2, **told, to="expired:2")])


@pytest.mark.parametrize("field", ["answer", "ack"])
def test_what_only_happens_changes_the_number_alone(field: str) -> None:
    entry = an_entry(1, sku="TEE", field=field, to="3", ats="7")
    assert fold({}, [entry]) == {("ats", "TEE"): "7"}


def test_fields_of_a_later_version_are_kept_and_told() -> None:
    entry = an_entry(1, due="99", asker="agent")
    assert entry.more == (("asker", "agent"), ("due", "99"))
    assert document(entry)["due"] == "99"


def test_an_entry_with_missing_fields_is_read_all_the_same() -> None:
    assert entry_of(3, {"sku": "TEE", "at": "soon"}).at_ms == 0


def test_an_entry_is_told_in_one_line() -> None:
    entry = an_entry(4, sku="TEE", item="1")
    assert sentence(entry) == "4  TEE at WH1  level K3 > K4 by wms  ats 4  delivery:4"
