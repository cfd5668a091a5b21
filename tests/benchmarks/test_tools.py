from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from standardwebhooks import Webhook

from benchmarks.coverage import Coverage, Pattern
from benchmarks.figures import Figure, as_json, latency_of, median_run, percentile, table
from benchmarks.http1 import answer_is_whole
from benchmarks.load import LoadReport, Plan, is_accepted, run_closed, run_open
from benchmarks.loops import OpenLoop
from benchmarks.prepared import Target, prepare
from benchmarks.sse import Frame, FrameDecoder, StreamRefusedError, read_state
from benchmarks.subscribers import Reader, ReadPlan, ReadReport, open_readers, report, settle
from tests.benchmarks.fake_hub import FakeHub

SECRET = "whsec_YmVuY2htYXJrcyBiZW5jaG1hcmtzIGJlbmNo"
PATTERN = Pattern(skus=10)


# Numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.0, 1), (0.991, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected


def test_the_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.99))
    assert math.isnan(median_run([]))


def test_latencies_are_summarised_in_milliseconds_whatever_their_order() -> None:
    summary = latency_of([3_000_000, 1_000_000, 2_000_000])
    assert (summary.count, summary.p50_ms, summary.p99_ms, summary.max_ms) == (3, 2.0, 3.0, 3.0)


def figure(**changes: Any) -> Figure:
    return Figure(**{"name": "f", "value": 8.0, "unit": "ms", "limit": 10.0, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "ok"),
        ({"value": 10.5}, "MISS"),
        ({"value": math.nan}, "MISS"),
        ({"limit": None}, "-"),
        ({"floor": 2.0, "limit": 4.0, "of_floor": True}, "ok"),
        ({"floor": 1.0, "limit": 4.0, "of_floor": True}, "MISS"),
        ({"floor": None, "limit": 4.0, "of_floor": True}, "MISS"),
        ({"floor": 10.0, "limit": 0.6, "of_floor": True, "at_least": True}, "ok"),
        ({"floor": 20.0, "limit": 0.6, "of_floor": True, "at_least": True}, "MISS"),
        ({"value": 0.0, "limit": 0}, "ok"),
    ],
)
def test_a_target_is_met_or_missed(changes: dict[str, Any], verdict: str) -> None:
    assert figure(**changes).verdict == verdict


def test_the_table_shows_value_floor_ratio_target_and_verdict() -> None:
    row = table([figure(floor=4.0, limit=4.0, of_floor=True, notes={"p50 ms": 1.5})]).splitlines()
    assert row[2].split() == ["f", "8", "ms", "4", "ms", "2.00", "x", "<=", "4", "x", "floor", "ok"]
    assert row[3].strip() == "p50 ms 1.5"


def test_what_could_not_be_measured_is_null_in_json() -> None:
    assert as_json(figure(value=math.nan))["value"] is None


# Frames -------------------------------------------------------------------------------------------------

FRAMES = (
    b'event: upd\nid: e1:5\ndata: {"prev":4,"seq":5,"items":[{"sku":"A","available":3}]}\n\n'
    b": a comment\n\n"
    b'event: hb\nid: e1:5\ndata: {"prev":5,"seq":5}\n\n'
)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def answer(
    body: bytes, *, coding: bytes = b"Transfer-Encoding: chunked\r\n", status: bytes = b"200 OK"
) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Type: text/event-stream\r\n" + coding + b"\r\n" + body


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_frames_are_the_same_however_the_bytes_were_cut(piece: int, chunk: int) -> None:
    stream, decoder = answer(chunked(FRAMES, chunk)), FrameDecoder()
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    frames = [frame for data in pieces for frame in decoder.feed(data)]
    assert [(frame.event, frame.id) for frame in frames] == [("upd", "e1:5"), ("hb", "e1:5")]


def test_a_stream_without_chunks_is_read_as_well() -> None:
    assert len(FrameDecoder().feed(answer(FRAMES, coding=b"Connection: close\r\n"))) == 2


def test_a_frame_belongs_to_the_piece_that_completes_it() -> None:
    decoder, stream = FrameDecoder(), answer(FRAMES, coding=b"")
    end = stream.index(b"\n\n") + 2
    assert decoder.feed(stream[: end - 1]) == []
    assert [frame.event for frame in decoder.feed(stream[end - 1 : end])] == ["upd"]


def test_an_answer_that_is_no_stream_is_refused() -> None:
    with pytest.raises(StreamRefusedError, match="401"):
        FrameDecoder().feed(answer(b"", status=b"401 Unauthorized"))


def test_a_frame_says_what_it_covers_and_shows() -> None:
    frame: Frame = FrameDecoder().feed(answer(FRAMES, coding=b""))[0]
    state = read_state(frame.data)
    assert (state.prev, state.seq, state.items) == (4, 5, (("A", 3),))


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\no", False),
        (b"HTTP/1.1 202 Accepted\r\nContent-Len", False),
        (b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
    ],
)
def test_an_answer_counts_when_it_is_whole(raw: bytes, whole: bool) -> None:
    assert answer_is_whole(raw) is whole


# What was seen ------------------------------------------------------------------------------------------


def seen(*indexes: int, first: int = 10, last: int = 30) -> Coverage:
    coverage = Coverage(PATTERN, first, last)
    for at, index in enumerate(indexes):
        coverage.see([(PATTERN.sku(index), PATTERN.quantity(index))], at + 1)
    return coverage


def test_sku_and_quantity_name_the_change() -> None:
    assert [PATTERN.index(PATTERN.sku(n), PATTERN.quantity(n)) for n in range(35)] == list(range(35))


def test_all_changes_seen_is_complete() -> None:
    coverage = seen(*range(10, 30))
    assert coverage.is_complete()
    assert (coverage.account().exact, coverage.account().missing, coverage.account().wrong_final) == (
        20,
        0,
        0,
    )


def test_a_change_that_never_came_is_missing_and_leaves_a_wrong_level() -> None:
    account = seen(*range(10, 29)).account()
    assert (account.missing, account.wrong_final) == (1, 1)


def test_a_later_state_of_the_sku_stands_for_an_earlier_one() -> None:
    account = seen(*range(11, 30)).account()
    assert (account.missing, account.superseded, account.wrong_final) == (0, 1, 0)


def test_a_change_seen_only_in_a_later_state_is_charged_until_that_came() -> None:
    coverage = seen(*range(11, 21), first=10, last=21)
    assert coverage.latencies_ns(0, 0)[0] == 10


def test_a_state_that_goes_back_is_a_fault() -> None:
    assert seen(20, 10).account().backwards == 1
    assert seen(20, 20).account().backwards == 0


def test_latency_counts_from_the_intended_moment() -> None:
    coverage = seen(10, 11, 12, first=10, last=13)
    assert coverage.latencies_ns(-1000, 100) == [1001, 902, 803]


# Requests -----------------------------------------------------------------------------------------------


def test_prepared_requests_carry_signatures_that_others_accept() -> None:
    target = Target(url="http://127.0.0.1:1/hooks/a", secret=SECRET, run="r")
    requests = prepare(target, PATTERN, 10, 12, now_s=int(time.time()))
    heads, bodies = zip(*(request.decode().split("\r\n\r\n") for request in requests), strict=True)
    for head, body in zip(heads, bodies, strict=True):
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        assert Webhook(SECRET).verify(body, headers)
        assert int(headers["Content-Length"]) == len(body)
    assert [json.loads(body)["data"]["sequence"] for body in bodies] == [11, 12]
    assert len({head.partition("webhook-id")[2] for head in heads}) == 2


# The loops, without a network ---------------------------------------------------------------------------


class Wire:
    """A connection whose answers come when the test says so."""

    def __init__(self) -> None:
        self.number = -1
        self.is_open = True
        self.sent: list[int] = []

    def send(self, number: int, _: bytes) -> None:
        self.number = number
        self.sent.append(number)


def late_loop(monkeypatch: pytest.MonkeyPatch, now: list[int], requests: int) -> tuple[OpenLoop, Wire]:
    monkeypatch.setattr("benchmarks.loops.time.monotonic_ns", lambda: now[0])
    loop, wire = OpenLoop([b""] * requests, interval_ns=100), Wire()
    loop._free = [wire]  # type: ignore[list-item]  # a stand-in for a connection
    return loop, wire


def test_a_late_generator_charges_itself_from_the_intended_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [250]
    loop, _ = late_loop(monkeypatch, now, requests=10)
    loop.tick()
    assert loop.slips_ns == [250, 150, 50]


def test_a_stalled_receiver_is_charged_for_all_that_was_due_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0]
    loop, wire = late_loop(monkeypatch, now, requests=3)
    for now[0] in (0, 100, 200):
        loop.tick()
    assert (wire.sent, loop.slips_ns) == ([0], [0, 0, 0])
    for now[0] in (1000, 1010, 1020):
        loop.answered(wire, 202)  # type: ignore[arg-type]  # a stand-in for a connection
    assert loop.latencies_ns == [1000, 910, 820]
    assert loop.waits_ns == [0, 900, 810]


def test_only_an_accepted_delivery_counts() -> None:
    assert [is_accepted(status) for status in (0, 200, 204, 302, 401, 503)] == [
        False,
        True,
        True,
        *[False] * 3,
    ]


# The whole, against a hub that can be dishonest ---------------------------------------------------------


def plan(hub: FakeHub, **changes: Any) -> Plan:
    settings = {"first": 10, "last": 40, "rate": 2000.0, "connections": 4, "warm_up": 0, "drain_s": 5.0}
    return Plan(url=f"{hub.base_url}/hooks/a", secret=SECRET, run="r", skus=10, **{**settings, **changes})


async def run_against(hub: FakeHub, *, patience_s: float = 5.0) -> tuple[LoadReport, ReadReport]:
    sending = plan(hub)
    feed = f"{hub.base_url}/v1/feed?prefix=BENCH-"
    reading = ReadPlan(url=feed, key="k", readers=3, skus=10, first=10, last=40, rate=2000.0)
    target = Target(url=sending.url, secret=SECRET, run="r")
    requests = prepare(target, PATTERN, 10, 40, now_s=int(time.time()))
    async with AsyncExitStack() as stack:
        readers: list[Reader] = await open_readers(reading)
        for reader in readers:
            stack.callback(reader.close)
        start_ns = time.monotonic_ns()
        load = await run_open(sending, start_ns, requests)
        await settle(readers, patience_s)
        return load, report(reading, readers, start_ns, 0.0)


async def test_an_honest_hub_misses_nothing() -> None:
    async with FakeHub().running() as hub:
        load, read = await run_against(hub)
    assert (load.sent, load.answered, load.refused) == (30, {"202": 30}, 0)
    assert (read.missing, read.wrong_final, read.gaps, read.broken) == (0, 0, 0, 0)
    assert read.latency.count == 3 * 30
    assert read.latency.p50_ms > 0


async def test_a_lost_last_change_is_missed_at_every_reader() -> None:
    async with FakeHub(loses=frozenset({("BENCH-00003", 4)})).running() as hub:
        _, read = await run_against(hub, patience_s=0.0)
    assert (read.missing, read.wrong_final) == (3, 3)


async def test_a_refused_delivery_is_counted_as_refused_and_as_missing() -> None:
    async with FakeHub(refuses=frozenset({("BENCH-00003", 4)})).running() as hub:
        load, read = await run_against(hub, patience_s=0.0)
    assert (load.refused, load.answered) == (1, {"202": 29, "503": 1})
    assert read.missing == 3


async def test_a_closed_loop_sends_everything_once() -> None:
    async with FakeHub().running() as hub:
        target = Target(url=f"{hub.base_url}/hooks/a", secret=SECRET, run="r")
        requests = prepare(target, PATTERN, 10, 210, now_s=int(time.time()))
        load = await asyncio.wait_for(run_closed(plan(hub, rate=0.0), requests), 20)
        assert len({json.loads(body)["data"]["sequence"] for body in hub.bodies}) == 200
    assert (load.sent, load.refused) == (200, 0)
    assert load.per_second > 0
