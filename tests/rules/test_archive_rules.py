"""Segments as bytes: what is written is read, what was changed is found, what does not follow is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.archive import rules
from synchub.archive.model import Entry, Extent, Header, Log, Note, Segment
from synchub.kit.hash_chain import GENESIS, ChainBroken, canonical
from tests.support.archive import effect


def an_entry(seq: int, **changes: str) -> Entry:
    flat = [part.encode() for pair in effect(seq, **changes).items() for part in pair]
    return rules.entry_from(seq, flat)


def a_header(first: int = 1, last: int = 3, **changes: Any) -> Header:
    told: dict[str, Any] = {
        "log": Log.LEDGER,
        "merchant": "acme",
        "number": 1,
        "epoch": "one",
        "after_epoch": "",
        "after": first - 1,
        "first": first,
        "last": last,
        "previous": GENESIS,
        "written_at_ms": 7,
    }
    return Header(**(told | changes))


def a_segment(first: int = 1, last: int = 3, **changes: Any) -> Segment:
    entries = [an_entry(seq) for seq in range(first, last + 1)]
    return rules.read_segment(rules.write_segment(a_header(first, last, **changes), entries)[0])


def following(before: Segment, count: int = 2, **changes: Any) -> Header:
    tip = before.header
    told: dict[str, Any] = {
        "number": tip.number + 1,
        "epoch": tip.epoch,
        "after_epoch": tip.epoch,
        "after": tip.last,
        "previous": before.hash,
    }
    return a_header(tip.last + 1, tip.last + count, **(told | changes))


def why(header: Header, before: Segment | None) -> str:
    return rules.why_not_after(header, before, merchant="acme", log=Log.LEDGER)


def test_a_segment_is_read_as_it_was_written() -> None:
    entries = tuple(an_entry(seq) for seq in range(5, 9))
    data, own_hash = rules.write_segment(a_header(5, 8), entries)
    segment = rules.read_segment(data)
    assert segment.header == a_header(5, 8)
    assert segment.hash == own_hash
    assert [rules.fields_of(entry) for entry in segment.entries] == [effect(seq) for seq in range(5, 9)]
    assert rules.read_header(data.split(b"\n")[0]) == segment.header


@given(st.data())
def test_a_segment_with_any_byte_changed_is_broken(data: st.DataObject) -> None:
    whole, _ = rules.write_segment(a_header(), [an_entry(seq) for seq in (1, 2, 3)])
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ChainBroken):
        rules.read_segment(bytes(changed))


@given(st.integers(0, 2000))
def test_a_segment_that_is_cut_off_is_broken(length: int) -> None:
    whole, _ = rules.write_segment(a_header(), [an_entry(seq) for seq in (1, 2, 3)])
    with pytest.raises(ChainBroken):
        rules.read_segment(whole[: min(length, len(whole) - 1)])


def test_a_broken_entry_is_named_by_its_line() -> None:
    whole, _ = rules.write_segment(a_header(), [an_entry(seq) for seq in (1, 2, 3)])
    with pytest.raises(ChainBroken) as broken:
        rules.read_segment(whole.replace(b'"to":"K2"', b'"to":"K9"'))
    assert broken.value.line == 3


@pytest.mark.parametrize(
    ("header", "sequences"),
    [(a_header(1, 3), [1, 3]), (a_header(1, 3), [1, 2]), (a_header(1, 3), []), (a_header(2, 3), [1, 2, 3])],
)
def test_a_segment_whose_entries_are_not_those_promised_is_broken(
    header: Header, sequences: list[int]
) -> None:
    whole, _ = rules.write_segment(header, [an_entry(seq) for seq in sequences])
    with pytest.raises(ChainBroken):
        rules.read_segment(whole)


@pytest.mark.parametrize(
    "contents",
    [
        [b"{}", b"{}"],
        [canonical({"previous": GENESIS}), b'{"entries":0}'],
        [canonical({"previous": GENESIS, "form": 1, "log": "other"}), b'{"entries":0}'],
        [b"[1]", b"[2]"],
    ],
)
def test_a_chain_that_is_no_segment_is_broken(contents: list[bytes]) -> None:
    with pytest.raises(ChainBroken):
        rules.read_segment(rules.write_lines(GENESIS, contents)[0])


def test_a_later_form_is_not_guessed_at() -> None:
    whole, _ = rules.write_segment(a_header(), [an_entry(seq) for seq in (1, 2, 3)])
    contents, _ = rules.read_lines(whole)
    contents[0] = contents[0].replace(b'"form":1', b'"form":2')
    with pytest.raises(ChainBroken, match="form 2"):
        rules.read_segment(rules.write_lines(GENESIS, contents)[0])


def test_a_segment_follows_the_one_it_continues() -> None:
    first = a_segment()
    assert why(first.header, None) == ""
    assert why(following(first), first) == ""


def test_a_segment_may_skip_what_was_lost_and_say_so() -> None:
    first = a_segment()
    header = following(first)
    assert why(replace(header, first=9, last=12), first) == ""
    assert replace(header, first=9, last=12).missing == 5


def test_a_segment_of_another_epoch_may_go_back() -> None:
    first = a_segment()
    assert why(replace(following(first, epoch="two", after=2), first=3, last=4), first) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"merchant": "other"},
        {"log": Log.DECISIONS},
        {"number": 3},
        {"number": 1},
        {"previous": GENESIS},
        {"after_epoch": "zero"},
        {"after": 2},
        {"after": 4},
        {"epoch": "two", "after": 4},
    ],
)
def test_a_segment_that_does_not_follow_is_refused(changes: dict[str, Any]) -> None:
    first = a_segment()
    assert why(replace(following(first), **changes), first) != ""


def test_decisions_may_go_back_without_a_new_epoch() -> None:
    first = a_segment(log=Log.DECISIONS)
    header = replace(following(first, log=Log.DECISIONS), after=2, first=3, last=4)
    assert rules.why_not_after(header, first, merchant="acme", log=Log.DECISIONS) == ""
    ahead = replace(header, after=4, first=5, last=6)
    assert rules.why_not_after(ahead, first, merchant="acme", log=Log.DECISIONS) != ""


def test_the_first_segment_follows_nothing() -> None:
    assert why(a_header(number=2), None) != ""
    assert why(a_header(previous="1" * 64), None) != ""
    assert why(a_header(after_epoch="zero"), None) != ""


def test_a_run_ends_at_the_first_hole_and_at_the_limit() -> None:
    entries = [an_entry(seq) for seq in (4, 5, 6, 8, 9)]
    assert [one.seq for one in rules.run_of(entries, 10)] == [4, 5, 6]
    assert [one.seq for one in rules.run_of(entries, 2)] == [4, 5]
    assert rules.run_of([], 2) == []


def test_what_was_given_up_by_a_branch_does_not_count() -> None:
    one = a_header(1, 10)
    two = a_header(11, 20, number=2)
    back = a_header(6, 8, number=3, epoch="two", after=5)
    on = a_header(9, 12, number=4, epoch="two", after=8)
    assert rules.lineage([one, two]) == [10, 20]
    assert rules.lineage([one, two, back, on]) == [5, 5, 8, 12]


def test_the_last_common_entry_is_the_last_with_the_same_content() -> None:
    ours = [an_entry(seq) for seq in (1, 2, 3, 4)]
    theirs = [an_entry(1), an_entry(2), an_entry(3, to="K77"), an_entry(5)]
    assert rules.last_common(ours, theirs) == 2
    assert rules.last_common(ours, [an_entry(9)]) is None


def test_a_note_is_read_as_it_was_written() -> None:
    note = Note(number=3, epoch="k-7_x", seq=42, hash="a" * 64)
    assert rules.read_note(rules.write_note(note).encode()) == note
    assert rules.read_note(None) is None
    assert rules.read_note(b"\xff|nonsense") is None


@pytest.mark.parametrize(
    ("oldest", "newest", "archived", "waiting"),
    [(0, 0, None, 0), (1, 5, None, 5), (1, 5, 3, 2), (1, 5, 5, 0), (4, 9, 2, 6), (1, 3, 9, 0)],
)
def test_what_waits_is_what_the_store_has_and_the_archive_has_not(
    oldest: int, newest: int, archived: int | None, waiting: int
) -> None:
    note = None if archived is None else Note(number=1, epoch="one", seq=archived, hash="")
    assert Extent(epoch="one", oldest=oldest, newest=newest, note=note).unarchived == waiting


def test_after_a_change_of_epoch_everything_may_wait() -> None:
    note = Note(number=1, epoch="one", seq=5, hash="")
    assert Extent(epoch="two", oldest=2, newest=5, note=note).unarchived == 4


def test_a_segment_is_due_when_it_is_full_or_has_waited() -> None:
    extent = Extent(epoch="one", oldest=1, newest=5, note=None)
    assert rules.is_due(extent, waited_ms=0, wait_ms=10, segment_max=5)
    assert rules.is_due(extent, waited_ms=10, wait_ms=10, segment_max=9)
    assert not rules.is_due(extent, waited_ms=9, wait_ms=10, segment_max=9)
    assert not rules.is_due(replace(extent, newest=0), waited_ms=99, wait_ms=10, segment_max=5)


def test_what_is_no_text_is_archived_all_the_same() -> None:
    entry = rules.entry_from(1, [b"sku", b"\xff\x00"])
    assert rules.fields_of(entry) == {"sku": "\\xff\x00"}
