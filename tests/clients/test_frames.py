"""Bytes become frames whatever pieces they come in, and what is no frame is refused."""

from __future__ import annotations

import itertools
import json
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub_client.errors import ProtocolBroken
from synchub_client.frames import (
    Anchored,
    Hello,
    Other,
    SetChanged,
    Upd,
    read_answer,
    read_frame,
    read_message,
)
from synchub_client.links import anchor_request
from synchub_client.model import Item, State
from synchub_client.sse import Event, SseParser

if TYPE_CHECKING:
    from synchub_client.frames import Frame

ITEM = {
    "sku": "TEE",
    "ver": 3,
    "state": "LOW_STOCK",
    "available": 2,
    "as_of": "2026-11-21T10:00:00.123Z",
    "source": "depot",
    "degraded": False,
}
STREAM = (
    b'\xef\xbb\xbfevent: hello\nretry: 900\ndata: {"a":1}\n\n'
    b": a comment\n\n"
    b"event: upd\r\nid: e:7:m\r\ndata: one\r\ndata: two\r\n\r\n"
    b"event: hb\rdata:three\r\r"
    b"data: nameless\n\nevent: reset\nid:\ndata: x\n\nevent: unended\ndata: y\n"
)
EVENTS = [
    Event("hello", b'{"a":1}', ""),
    Event("upd", b"one\ntwo", "e:7:m"),
    Event("hb", b"three", ""),
    Event("message", b"nameless", ""),
    Event("reset", b"x", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_where_the_pieces_are_cut(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(STREAM)]
    parser = SseParser()
    events = [event for start, end in itertools.pairwise(borders) for event in parser.feed(STREAM[start:end])]
    assert events == EVENTS


@pytest.mark.parametrize("piece", [b"x" * 40, b"data: xxxxxxxxxx\n" * 4])
def test_an_event_that_never_ends_is_refused(piece: bytes) -> None:
    parser = SseParser(event_bytes_max=100)
    with pytest.raises(ProtocolBroken, match="100 bytes"):
        deque(chain.from_iterable(map(parser.feed, [piece] * 4)))


def test_an_item_has_its_fields_and_keeps_what_is_new() -> None:
    frame = upd({**ITEM, "colour": "red"})
    assert frame.items == (
        Item(
            sku="TEE",
            ver=3,
            state=State.LOW_STOCK,
            available=2,
            as_of="2026-11-21T10:00:00.123Z",
            source="depot",
        ),
    )
    (item,) = frame.items
    assert item.more == {"colour": "red"}
    assert item.is_orderable
    assert item.reported_at is not None
    assert item.reported_at.isoformat() == "2026-11-21T10:00:00.123000+00:00"


def test_a_state_of_a_later_version_is_not_orderable() -> None:
    assert not upd({**ITEM, "state": "ON_THE_MOON"}).items[0].is_orderable


def test_a_number_that_the_merchant_does_not_tell_is_none() -> None:
    item = upd({**ITEM, "available": None, "as_of": None, "source": None}).items[0]
    assert (item.available, item.reported_at, item.source) == (None, None, None)


def test_a_websocket_message_carries_its_name_and_position() -> None:
    body = {"event": "hb", "id": "e:4:m", "prev": 1, "seq": 4, "asof": 9, "rev": 2, "degraded": True}
    assert read_message(json.dumps(body)) == Upd(prev=1, seq=4, asof=9, rev=2, id="e:4:m", degraded=True)
    assert read_message('{"event": "anchor", "n": 3, "st": 12}') == Anchored(number=3, st=12)


def test_an_anchor_is_asked_for_by_number() -> None:
    assert json.loads(anchor_request(4)) == {"anchor": 4}


def test_frames_and_fields_of_a_later_version_are_ignored() -> None:
    assert read_frame("weather", b'{"rain": true}') == Other(event="weather")
    frame = read_frame("set", b'{"rev": 3, "removed": ["A"], "new": 1}')
    assert frame == SetChanged(rev=3, removed=("A",))


def test_an_answer_has_the_position_at_which_it_was_read() -> None:
    answer = read_answer(json.dumps({**ITEM, "seq": 10, "epoch": "e", "checksum": "c"}).encode())
    assert (answer.seq, answer.epoch, answer.item.sku) == (10, "e", "TEE")
    assert answer.item.more["checksum"] == "c"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("upd", "no JSON"),
        ("upd", "[]"),
        ("upd", '{"prev": 1, "seq": 2, "rev": 1}'),
        ("upd", '{"prev": 1, "seq": 2, "asof": "3", "rev": 1}'),
        ("upd", '{"prev": 1, "seq": true, "asof": 3, "rev": 1}'),
        ("upd", '{"prev": 1, "seq": 2, "asof": 3, "rev": 1, "items": {}}'),
        ("upd", '{"prev": 1, "seq": 2, "asof": 3, "rev": 1, "items": ["TEE"]}'),
        ("upd", '{"prev": 1, "seq": 2, "asof": 3, "rev": 1, "inv": [["TEE"]]}'),
        ("set", '{"rev": 1, "removed": [1]}'),
        ("hello", '{"epoch": 1}'),
    ],
)
def test_what_does_not_fit_is_refused(event: str, data: str) -> None:
    with pytest.raises(ProtocolBroken):
        read_frame(event, data)


def test_a_hello_is_read() -> None:
    told = {
        "epoch": "e",
        "head": 4,
        "st": 9,
        "hb_ms": 333,
        "bound_ms": 1000,
        "resume": "replay",
        "retry_ms": 800,
    }
    frame: Frame = read_frame("hello", json.dumps(told))
    assert isinstance(frame, Hello)
    assert (frame.epoch, frame.st, frame.hb_ms, frame.resume) == ("e", 9, 333, "replay")


def upd(item: dict[str, object]) -> Upd:
    body = {"prev": 1, "seq": 2, "asof": 3, "rev": 1, "items": [item]}
    frame = read_frame("upd", json.dumps(body))
    assert isinstance(frame, Upd)
    return frame
