"""What the feed's faults are tried with: the judge finds each fault that is planted, the line each frame."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.feed_judge import Judge
from tests.faults.feed_line import Frame, Line
from tests.faults.feed_truth import Truth

EPOCH = "one"
MS = 1_000_000


class Stub:
    """A hub of two SKUs that tells one reader what it is made to tell; its clock goes on with each act."""

    def __init__(self, kind: type[Judge] = Judge) -> None:
        self.truth = Truth()
        self.judge = kind(self.truth, lambda _sku: True, name="it")
        self.now = 1_000
        self.seq = 0
        self.vers: dict[str, int] = {}
        self.taken = True
        self.change(A=10, B=20)

    @property
    def broken(self) -> list[str]:
        return self.judge.broken

    def change(self, **levels: int) -> Frame:
        """Change levels, and return the frame that tells of it."""
        before = self.seq
        self.truth.plan(levels)
        self.seq += len(levels)
        for sku in levels:
            self.vers[sku] = self.vers.get(sku, 0) + 1
        self.now += 1
        self.truth.acknowledge(levels, range(before + 1, self.seq + 1), self.now * MS)
        self.now += 1
        return self.upd(before, *(self.item(sku) for sku in levels))

    def item(self, sku: str, **other: Any) -> dict[str, Any]:
        return {"sku": sku, "ver": self.vers[sku], "available": self.truth.levels[sku]} | other

    def upd(self, prev: int, *items: dict[str, Any], asof: int | None = None) -> Frame:
        data = {"prev": prev, "seq": self.seq, "asof": self.now if asof is None else asof}
        return Frame("upd", f"{EPOCH}:{self.seq}:x", {**data, "items": items})

    def hello(self, resume: str = "snapshot", *, epoch: str = EPOCH, st: int | None = None) -> Frame:
        told = {"epoch": epoch, "st": self.now if st is None else st, "hb_ms": 300, "retry_ms": 1000}
        return Frame("hello", None, {**told, "resume": resume})

    def snapshot(self, **other: dict[str, Any]) -> list[Frame]:
        items = [other.get(sku, self.item(sku)) for sku in self.vers]
        parts = [Frame("snap", None, {"part": n, "items": [item]}) for n, item in enumerate(items) if item]
        end = {"seq": self.seq, "asof": self.now, "parts": len(parts)}
        return [*parts, Frame("snap_end", f"{EPOCH}:{self.seq}:x", end)]

    def tell(self, *frames: Frame) -> None:
        """Have the reader take frames a moment later."""
        for frame in frames:
            self.now += 1
            self.taken = self.judge.take(frame, asked_ms=self.now - 50, now_ms=self.now)

    def follow(self) -> None:
        self.judge.connect()
        self.tell(self.hello(), *self.snapshot())


class Careless(Judge):
    """Takes every frame, whatever it continues."""

    def _continues(self, data: dict[str, Any]) -> bool:
        return True


def following(kind: type[Judge] = Judge) -> Stub:
    stub = Stub(kind)
    stub.follow()
    assert stub.judge.items.keys() == {"A", "B"}
    return stub


def test_an_honest_hub_breaks_nothing() -> None:
    stub = following()
    stub.tell(stub.change(A=7), stub.change(B=3, A=5), Frame("source", None, {"account": "depot"}))
    stub.judge.connect()
    missed = stub.change(A=1)
    stub.tell(stub.hello("replay"), missed, missed)
    stub.judge.connect()
    stub.tell(stub.hello("reset"), Frame("reset", "", {"epoch": EPOCH, "reason": "filter"}))
    stub.tell(*stub.snapshot())
    assert stub.broken == []
    assert stub.judge.disagreement() == ""


def test_an_entry_left_out_is_a_gap() -> None:
    stub = following()
    stub.change(A=7)
    stub.tell(stub.change(B=3))
    assert not stub.taken
    assert "gap without a reset" in stub.broken[0]
    assert stub.judge.cursor == f"{EPOCH}:2:x"


def test_a_reader_that_overlooks_a_gap_is_found_out() -> None:
    stub = following(Careless)
    stub.change(A=7)
    stub.tell(stub.change(B=3))
    assert "lacks change 2 of A" in stub.broken[0]
    assert "of A it holds 10, there are 7" in stub.judge.disagreement()


def test_an_entry_left_out_under_a_whole_chain_is_found_out() -> None:
    stub = following()
    before = stub.seq
    stub.change(A=7)
    stub.change(B=3)
    stub.tell(stub.upd(before, stub.item("B")))
    assert "lacks change 2 of A" in stub.broken[0]


def test_a_heartbeat_with_a_later_asof_than_its_state_is_found_out() -> None:
    stub = following()
    reached, then = stub.seq, stub.now
    stub.change(A=7)
    stub.seq = reached
    stub.tell(stub.upd(reached, asof=then))
    assert stub.broken == []
    stub.tell(stub.upd(reached))
    assert "lacks change 2 of A" in stub.broken[0]


def test_a_position_beyond_its_state_is_found_out() -> None:
    stub = following()
    reached, then = stub.seq, stub.now
    stub.seq += 3
    stub.tell(stub.upd(reached, asof=then))
    assert stub.broken == []
    stub.seq = reached
    stub.change(A=7)
    assert "at 5 it lacks change 2 of A, made at 3" in stub.broken[0]


def test_an_asof_of_the_future_is_found_out() -> None:
    stub = following()
    stub.tell(stub.upd(stub.seq, asof=stub.now + 10))
    assert "told at" in stub.broken[0]


def test_a_start_outside_of_the_request_is_found_out() -> None:
    for st in (0, 10_000):
        stub = Stub()
        stub.tell(stub.hello(st=st))
        assert "is said to have been taken" in stub.broken[0]


def test_a_version_that_goes_back_is_found_out() -> None:
    stub = following()
    old = stub.item("A")
    stub.tell(stub.change(A=7))
    stub.judge.connect()
    stub.tell(stub.hello("reset"), *stub.snapshot(A=old))
    assert "went back from version 2 to 1" in stub.broken[0]
    assert "lacks change 2 of A" in stub.broken[1]


def test_a_version_that_went_back_while_a_reader_began_anew_is_found_out() -> None:
    stub = following()
    old = stub.item("A")
    stub.tell(stub.change(A=7))
    stub.judge.forget()
    stub.judge.connect()
    stub.tell(stub.hello(), *stub.snapshot(A=old))
    assert "went back from version 2 to 1" in stub.broken[0]


def test_a_version_may_go_back_in_another_history() -> None:
    stub = following()
    stub.tell(stub.change(A=7))
    stub.judge.connect()
    stub.vers["A"] = 1
    stub.tell(stub.hello("reset", epoch="two"), *stub.snapshot())
    assert stub.broken == []


def test_a_replay_in_another_history_is_found_out() -> None:
    stub = following()
    stub.judge.connect()
    stub.tell(stub.hello("replay", epoch="two"))
    assert "a replay in the history two" in stub.broken[0]


def test_two_numbers_under_one_version_are_found_out() -> None:
    stub = following()
    stub.tell(stub.upd(stub.seq, stub.item("A", available=11)))
    assert "two numbers under version 1" in stub.broken[0]


def test_a_number_that_nobody_set_is_found_out() -> None:
    stub = following()
    stub.change(A=7)
    stub.tell(stub.upd(2, stub.item("A", available=8)))
    assert "lacks change 2 of A" in stub.broken[0]


def test_a_lost_part_of_a_snapshot_is_found_out() -> None:
    stub = Stub()
    first, _, end = stub.snapshot()
    stub.tell(stub.hello(), first, end)
    assert not stub.taken
    assert "2 parts after 1" in stub.broken[0]


def test_a_sku_that_a_snapshot_left_out_is_found_out() -> None:
    stub = following()
    stub.judge.connect()
    stub.tell(stub.hello("reset"), *stub.snapshot(B={}))
    assert "in no part of a snapshot" in stub.broken[0]


def test_a_snapshot_instead_of_a_reset_is_found_out() -> None:
    stub = following()
    stub.follow()
    assert "instead of a reset" in stub.broken[0]


def test_a_change_before_the_snapshot_is_found_out() -> None:
    stub = Stub()
    stub.tell(stub.hello(), stub.change(A=7))
    assert not stub.taken
    assert "before there is a state" in stub.broken[0]


def test_half_a_snapshot_of_an_earlier_connection_is_no_state() -> None:
    stub = Stub()
    first, second, end = stub.snapshot()
    stub.tell(stub.hello(), first)
    stub.judge.connect()
    stub.tell(second, end)
    assert "nobody has announced" in stub.broken[0]


FRAMES = [Frame("hb", "one:1:x", {"prev": 1, "seq": 1}), Frame("upd", None, {"items": ["y" * 70_000]})]


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


LARGE = b'{"event":"upd","items":["' + b"y" * 70_000 + b'"]}'
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    [
        chunk(b'event: hb\nid: one:1:x\ndata: {"prev":1,"seq"'),
        chunk(b":1}\n\nevent: upd\n"),
        chunk(b'data: {"items":["' + b"y" * 70_000 + b'"]}\n\n'),
    ]
)
MESSAGES = b"".join(
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b'\x81\x30{"event":"hb","id":"one:1:x","prev":1,"seq":1  }',
        b"\x81\x7f" + len(LARGE).to_bytes(8) + LARGE,
    ]
)


@pytest.mark.parametrize(("sent", "is_socket"), [(STREAM, False), (MESSAGES, True)])
@pytest.mark.parametrize("size", [1_000, 7, 100_000])
async def test_frames_are_the_same_however_their_bytes_arrive(
    sent: bytes, size: int, *, is_socket: bool
) -> None:
    told: list[Frame] = []
    line = Line(b"", told.append, is_socket=is_socket)
    for start in range(0, len(sent), size):
        line.data_received(sent[start : start + size])
    assert (line.fault, told) == ("", FRAMES)


@pytest.mark.parametrize(
    ("sent", "is_socket"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nno chunk\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n8\r\nno: ev\n\n\r\n", False),
        (b"HTTP/1.1 101 OK\r\n\r\n\x82\x01x", True),
        (b"HTTP/1.1 101 OK\r\n\r\n\x81\x01x", True),
    ],
)
async def test_what_is_no_frame_is_told(sent: bytes, *, is_socket: bool) -> None:
    line = Line(b"", lambda _frame: None, is_socket=is_socket)
    line.data_received(sent)
    assert line.fault
