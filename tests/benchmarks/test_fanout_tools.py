"""The measuring of fan-out is measured too: nothing lost may look told, and peers get what the hub gets."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.bare_writer import BareWriter
from benchmarks.children import ChildFailedError
from benchmarks.coverage import Pattern
from benchmarks.fanout import raise_file_limit
from benchmarks.fanout_load import (
    BareTeller,
    LoadPlan,
    LoadReport,
    LoadRun,
    NchanTeller,
    Progress,
    StoreTeller,
    at_rate,
    frame_of,
    message_of,
    pressed,
)
from benchmarks.fanout_readers import Crowd, CrowdPlan, CrowdReport, Run, request_of, watched_by
from benchmarks.fanout_rows import missing_row
from benchmarks.fanout_runs import Spread
from benchmarks.figures import latency_of
from benchmarks.nchan import Programs, config_of, programs
from benchmarks.sse import StreamRefusedError
from benchmarks.told import Account, Expected, Splitter, Told, expected_of, read_told
from synchub.keyspace import MerchantKeys
from synchub.stock.operations import read
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

SKUS = 10
PATTERN = Pattern(skus=SKUS)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


# What a reader was told ---------------------------------------------------------------------------------


def upd(prev: int, seq: int, *numbers: int) -> bytes:
    items = [{"sku": PATTERN.sku(n), "available": PATTERN.quantity(n)} for n in numbers]
    told = {"prev": prev, "seq": seq, "items": items}
    return f"event: upd\nid: {seq}\ndata: {json.dumps(told)}".encode()


def told(account: Account, *blocks: bytes) -> None:
    for block in blocks:
        found = read_told(block, SKUS)
        assert found is not None
        account.take(found)


def test_an_event_is_read_with_the_marks_of_its_chunk() -> None:
    found = read_told(b"\r\n1a3\r\n" + upd(4, 6, 15, 27), SKUS)
    assert found is not None
    assert (found.event, found.prev, found.seq, found.changes) == ("upd", 4, 6, (15, 27))


@pytest.mark.parametrize("block", [b": hi", b"", b'event: source\ndata: {"account":"a"}', b"\r\n0\r\n\r"])
def test_what_says_nothing_about_stock_is_passed_over(block: bytes) -> None:
    assert read_told(block, SKUS) is None


def test_events_are_cut_wherever_the_bytes_were_cut() -> None:
    stream = HEAD + b"".join(block + b"\n\n" for block in (upd(0, 1, 11), upd(1, 2, 12), upd(2, 3, 13)))
    for size in (1, 7, 64, len(stream)):
        splitter = Splitter()
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        blocks = [block for part in parts for block in splitter.feed(part)]
        assert blocks == [upd(0, 1, 11), upd(1, 2, 12), upd(2, 3, 13)]


@pytest.mark.parametrize("data", [b"HTTP/1.1 429 Too Many\r\n\r\n", b"x" * 20_000])
def test_a_refusal_is_no_feed(data: bytes) -> None:
    with pytest.raises(StreamRefusedError):
        Splitter().feed(data)


def test_whoever_was_told_everything_once_misses_nothing() -> None:
    account = Account()
    account.begin(10)
    told(account, upd(0, 2, 10, 11), upd(2, 3, 12))
    expected = expected_of(10, 13, skus=SKUS)
    assert (account.missing(expected), account.is_wrong(expected), account.gaps) == (0, False, 0)


@pytest.mark.parametrize(
    ("numbers", "missing", "is_wrong"),
    [
        ((10, 11), 1, False),
        ((10, 11, 11), 0, True),
        ((10, 11, 12, 12), 0, True),
        ((9, 10, 11, 12), 0, False),
        ((), 3, False),
    ],
)
def test_a_change_that_is_lost_or_told_twice_is_found(
    numbers: Sequence[int], missing: int, is_wrong: bool
) -> None:
    account = Account()
    account.begin(10)
    told(account, upd(0, 1, *numbers))
    expected = expected_of(10, 13, skus=SKUS)
    assert (account.missing(expected), account.is_wrong(expected)) == (missing, is_wrong)


@pytest.mark.parametrize(
    ("blocks", "gaps"),
    [
        ([upd(0, 1), upd(1, 2)], 0),
        ([upd(0, 4), upd(2, 6)], 0),
        ([upd(0, 1), upd(2, 3)], 1),
        ([upd(0, 4), upd(1, 3), upd(4, 5)], 0),
        ([upd(0, 4), upd(1, 3), upd(5, 6)], 1),
        ([upd(0, 1), b'event: hb\ndata: {"prev":1,"seq":5}', upd(5, 6)], 0),
        ([upd(0, 1), b'event: reset\ndata: {"epoch":"e"}'], 1),
    ],
)
def test_a_gap_in_the_cover_ranges_is_found(blocks: Sequence[bytes], gaps: int) -> None:
    account = Account()
    told(account, *blocks)
    assert account.gaps == gaps


def test_a_reader_of_some_is_expected_to_be_told_of_these() -> None:
    assert expected_of(10, 35, skus=SKUS, watched=[2, 7]) == Expected(count=5, total=12 + 22 + 32 + 17 + 27)
    assert expected_of(10, 35, skus=SKUS, watched=range(SKUS)) == expected_of(10, 35, skus=SKUS)


def test_each_reader_watches_as_many_and_the_same_again() -> None:
    plan = CrowdPlan(url="", key="", readers=2, skus=100, watched=20)
    assert len(set(watched_by(1, plan))) == 20
    assert watched_by(1, plan) == watched_by(1, plan) != watched_by(2, plan)


# All readers together -----------------------------------------------------------------------------------


def one(number: int) -> Told:
    return Told(event="upd", prev=0, seq=number, changes=(number,), size=300)


def test_a_change_is_complete_when_all_readers_have_it() -> None:
    complete: list[int] = []
    run = Run(first=10, everybody=3, on_complete=complete.append)
    for number in (10, 10, 9, 11, 10, 11, 11):
        run.see(one(number), 0)
    assert complete == [1, 2]
    assert (run.frames, run.frame_bytes) == (7, 2100)


def test_latency_counts_from_the_moment_a_change_was_due() -> None:
    run = Run(first=10, everybody=1, start_ns=1_000, interval_ns=100)
    run.see(one(10), 1_005)
    run.see(one(12), 1_250)
    assert list(run.latencies_ns) == [5, 50]


class Peer:
    """Answers any number of readers and tells them what a test wants."""

    def __init__(self) -> None:
        self.readers: list[asyncio.StreamWriter] = []
        self.requests: list[bytes] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Peer]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for reader in self.readers:
                reader.close()
            server.close()

    def tell(self, readers: slice, *blocks: bytes) -> None:
        for reader in self.readers[readers]:
            reader.write(b"".join(block + b"\n\n" for block in blocks))

    async def _take(self, asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        self.requests.append(await asked.readuntil(b"\r\n\r\n"))
        answer.write(HEAD)
        self.readers.append(answer)


@asynccontextmanager
async def crowded(readers: int, **changes: Any) -> AsyncIterator[tuple[Peer, Crowd]]:
    async with Peer().running() as peer:
        plan = CrowdPlan(
            url=f"http://127.0.0.1:{peer.port}/feed",
            key="sak_x",
            readers=readers,
            skus=SKUS,
            **({"has_snapshot": False, "patience_s": 0.3} | changes),
        )
        crowd = Crowd(plan)
        try:
            await crowd.open()
            yield peer, crowd
        finally:
            crowd.close()


async def reported(crowd: Crowd, last: int) -> CrowdReport:
    return crowd.report(await crowd.settle(last), cpu_share=0.0)


async def test_a_crowd_that_was_told_everything_reports_no_fault() -> None:
    async with crowded(5, patience_s=20.0) as (peer, crowd):
        crowd.begin(first=10, start_ns=time.monotonic_ns(), interval_ns=1)
        peer.tell(slice(None), upd(0, 1, 10), upd(1, 3, 11, 12))
        report = await reported(crowd, 13)
    assert (report.items, report.frames, report.latency.count) == (15, 10, 15)
    assert (report.missing, report.wrong, report.gaps, report.broken) == (0, 0, 0, 0)
    assert b"Authorization: Bearer sak_x\r\n" in peer.requests[0]


async def test_a_loss_at_one_of_many_is_reported() -> None:
    async with crowded(5) as (peer, crowd):
        crowd.begin(first=10, start_ns=0, interval_ns=0)
        peer.tell(slice(0, 4), upd(0, 1, 10), upd(1, 2, 11), upd(2, 3, 12))
        peer.tell(slice(4, 5), upd(0, 1, 10), upd(2, 3, 12))
        report = await reported(crowd, 13)
    assert (report.missing, report.gaps, report.items) == (1, 1, 14)


async def test_a_connection_that_ends_is_reported_and_waited_for_no_longer() -> None:
    async with crowded(3, patience_s=60.0) as (peer, crowd):
        crowd.begin(first=10, start_ns=0, interval_ns=0)
        peer.readers[0].close()
        peer.tell(slice(1, None), upd(0, 1, 10))
        await eventually(lambda: any(reader.is_broken for reader in crowd.readers))
        report = await reported(crowd, 11)
    assert (report.broken, report.missing) == (1, 1)


async def test_a_second_run_counts_only_its_own_changes() -> None:
    async with crowded(2, patience_s=20.0) as (peer, crowd):
        for first, prev in ((10, 0), (12, 2)):
            crowd.begin(first=first, start_ns=0, interval_ns=0)
            peer.tell(slice(None), upd(prev, prev + 1, first), upd(prev + 1, prev + 2, first + 1))
            report = await reported(crowd, first + 2)
            assert (report.items, report.missing, report.wrong, report.gaps) == (4, 0, 0, 0)


async def test_readers_without_a_snapshot_are_no_crowd() -> None:
    with pytest.raises(TimeoutError):
        async with crowded(1, has_snapshot=True):
            pass


# Changes ------------------------------------------------------------------------------------------------


class Heard:
    """Stands in for a server: notes changes and what was under way, and tells of completion."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.numbers: list[int] = []
        self.most = 0
        self._progress = progress

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def tell(self, numbers: Sequence[int]) -> None:
        self.numbers += numbers
        if self._progress is not None:
            self.most = max(self.most, len(self.numbers) - self._progress.complete)
            asyncio.get_running_loop().call_soon(self._complete)

    def _complete(self) -> None:
        assert self._progress is not None
        self._progress.complete = min(self._progress.complete + 2, len(self.numbers))
        self._progress.moved.set()
        if self._progress.complete < len(self.numbers):
            asyncio.get_running_loop().call_soon(self._complete)


async def test_at_a_rate_every_change_is_made_in_order() -> None:
    heard = Heard()
    run = LoadRun(first=10, start_ns=time.monotonic_ns(), seconds=0.2, rate=500.0)
    slips = await at_rate(heard, run)
    assert heard.numbers == list(range(10, 110))
    assert len(slips) == 100
    assert min(slips) >= 0


async def test_a_change_that_is_not_answered_does_not_hold_up_the_next() -> None:
    begun: list[int] = []

    class Slow(Heard):
        async def tell(self, numbers: Sequence[int]) -> None:
            begun.extend(numbers)
            await eventually(lambda: len(begun) == 20)

    await at_rate(Slow(), LoadRun(first=0, start_ns=time.monotonic_ns(), seconds=0.02, rate=1_000.0))
    assert begun == list(range(20))


@pytest.mark.parametrize("under_way", [1, 16])
async def test_pressed_changes_are_never_more_than_may_be_under_way(under_way: int) -> None:
    progress = Progress()
    heard = Heard(progress)
    run = LoadRun(first=10, start_ns=time.monotonic_ns(), seconds=0.1, under_way=under_way)
    made = await pressed(heard, run, progress)
    assert heard.numbers == list(range(10, 10 + made))
    assert made > under_way
    assert heard.most == under_way
    assert progress.complete == made


async def test_readers_tell_of_progress_through_a_port() -> None:
    progress = Progress()
    port = await progress.listen()
    async with crowded(2, progress_port=port, patience_s=20.0) as (peer, crowd):
        crowd.begin(first=10, start_ns=0, interval_ns=0)
        peer.tell(slice(None), upd(0, 1, 10), upd(1, 2, 11))
        await eventually(lambda: progress.complete == 2)
    progress.close()


@pytest.fixture
def store_teller(redis_url: str) -> StoreTeller:
    return StoreTeller(LoadPlan(kind="hub", url=redis_url, skus=SKUS, merchant="bench", account="acc"))


async def test_levels_are_really_changed(store_teller: StoreTeller) -> None:
    redis, keys = store_teller._redis, MerchantKeys("bench")
    await redis.execute("HSET", keys.roles, "acc", "A|0|900000|s|m|0|0|0|0")
    await store_teller.open()
    await store_teller.tell([SKUS + 3])
    reading = await read(redis, keys, [PATTERN.sku(3), PATTERN.sku(4)])
    await store_teller.close()
    assert [answer.ats for answer in reading.answers] == [2, 1]


@pytest.mark.parametrize("number", [0, 7, 123_456])
def test_a_peers_frame_is_as_long_as_asked_and_read_like_the_hubs(number: int) -> None:
    frame = frame_of(number, PATTERN, 300)
    assert len(frame) == 300
    found = read_told(frame.removesuffix(b"\n\n"), SKUS)
    assert found is not None
    assert (found.prev, found.seq, found.changes) == (number - 1, number, (number,))
    assert len(message_of(number, PATTERN, 250)) == 250


# Peers --------------------------------------------------------------------------------------------------


@pytest.fixture
def bare() -> Iterator[BareWriter]:
    writer, is_over = BareWriter(300), threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            writer.turn(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield writer
    finally:
        is_over.set()
        thread.join()
        writer.close()


async def test_the_bare_writer_gives_every_frame_to_every_reader(bare: BareWriter) -> None:
    plan = CrowdPlan(
        url=f"http://127.0.0.1:{bare.ports['port']}/feed", key="", readers=20, skus=SKUS, has_snapshot=False
    )
    teller = BareTeller(
        LoadPlan(kind="bare", url=f"http://127.0.0.1:{bare.ports['frames_port']}", skus=SKUS, frame_bytes=300)
    )
    crowd = Crowd(plan)
    await crowd.open()
    await teller.open()
    try:
        crowd.begin(first=10, start_ns=0, interval_ns=0)
        await teller.tell(range(10, 110))
        report = await reported(crowd, 110)
    finally:
        crowd.close()
        await teller.close()
    assert (report.items, report.frames, report.frame_bytes) == (2_000, 2_000, 600_000)
    assert (report.missing, report.wrong, report.gaps, report.broken) == (0, 0, 0, 0)


async def test_the_bare_writer_tears_no_frame_of_a_reader_that_is_slow(bare: BareWriter) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader.setblocking(False)
        await loop.sock_connect(reader, ("127.0.0.1", bare.ports["port"]))
        await loop.sock_sendall(reader, request_of("http://h/feed", "k"))
        splitter, told_of = Splitter(), Account()
        while not splitter.is_open:
            splitter.feed(await loop.sock_recv(reader, 65_536))
        _, writer = await asyncio.open_connection("127.0.0.1", bare.ports["frames_port"])
        # More than the buffers of the kernel hold.
        count = 30_000
        writer.writelines(frame_of(number, PATTERN, 300) for number in range(count))
        while told_of.count < count:
            for block in splitter.feed(await loop.sock_recv(reader, 65_536)):
                told(told_of, block)
        writer.close()
    assert not told_of.is_wrong(expected_of(0, count, skus=SKUS))
    assert told_of.gaps == 0


async def test_a_message_is_published_over_http_and_its_answer_awaited() -> None:
    heard: list[tuple[bytes, bytes]] = []

    async def take(said: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await said.readuntil(b"\r\n\r\n")
            heard.append((head, await said.readexactly(260)))
            answer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}")
        answer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    plan = LoadPlan(kind="nchan", url=f"http://127.0.0.1:{port}/tell", skus=SKUS, frame_bytes=300)
    teller = NchanTeller(plan)
    await teller.open()
    await teller.tell([10, 11])
    await teller.close()
    server.close()
    head, body = heard[1]
    assert head.startswith(b"POST /tell HTTP/1.1\r\n")
    assert b"Content-Length: 260\r\n" in head
    assert json.loads(body)["items"] == [{"sku": PATTERN.sku(11), "available": 2}]


def test_nginx_keeps_to_its_folder_and_to_loopback(tmp_path: Path) -> None:
    found = Programs(program=tmp_path / "nginx", module=tmp_path / "nchan.so")
    config = config_of(found, tmp_path, port=8123, connections=2_000)
    assert "listen 127.0.0.1:8123 " in config
    assert "worker_connections 2200;" in config
    assert "worker_processes 1;" in config
    paths = [line.split()[1] for line in config.splitlines() if "_path " in line or "_log /" in line]
    assert paths
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_without_packages_there_is_no_peer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.nchan._programs_in", lambda _: None)
    monkeypatch.setattr("benchmarks.nchan.STATE", tmp_path / "state")
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ChildFailedError, match="neither installed"), programs():
        pass
    assert not (tmp_path / "state").exists()


# Rows ---------------------------------------------------------------------------------------------------


def spread(**faults: int) -> Spread:
    counted = {"items": 9, "frames": 9, "frame_bytes": 2700, "late": 0}
    counted |= {"missing": 0, "wrong": 0, "gaps": 0, "broken": 0}
    return Spread(
        load=LoadReport(first=0, last=3, elapsed_s=2.0, cpu_share=0.1, slip=latency_of([])),
        crowd=CrowdReport(latency=latency_of([]), cpu_share=0.1, **(counted | faults)),
        cpu_s=0.5,
    )


def test_told_per_core_second_is_of_the_servers_processor_time() -> None:
    assert (spread().per_core_second, spread().core) == (18.0, 0.25)


@pytest.mark.parametrize("fault", ["missing", "wrong", "gaps", "broken"])
def test_one_fault_in_one_run_is_a_miss(fault: str) -> None:
    assert missing_row([spread(), spread()], []).verdict == "ok"
    assert missing_row([spread(), spread(**{fault: 1})], []).verdict == "MISS"


def test_a_peers_fault_is_told_and_not_ours() -> None:
    row = missing_row([spread()], [spread(missing=2)])
    assert (row.verdict, row.notes["at the peers"]) == ("ok", 2.0)


def test_as_many_files_as_allowed_may_be_open() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_file_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
