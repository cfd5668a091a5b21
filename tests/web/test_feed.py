"""What an agent that follows the feed sees: every frame, every way to continue, every end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms
from tests.support.feed import EPOCH, Site, Store, at_once, covers_follow, levels_up_to, serving_feed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.valkey import Valkey


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with serving_feed(redis_url) as served:
        yield served


async def position_of(site: Site, query: str = "") -> str:
    """Connect once, catch up, and return where a resume would begin."""
    async with site.connect(query) as client:
        last = (await client.caught_up())[-1].id
    assert last is not None
    return last


class TestArriving:
    async def test_hello_comes_first_and_says_what_was_granted(self, site: Site, store: Store) -> None:
        store.change("TEE")
        store.effect()
        before = monotonic_ms()
        async with site.connect() as client:
            hello = await client.next()
        assert hello.event == "hello"
        assert hello.id is None
        told = dict(hello.data)
        assert before <= told.pop("st") <= monotonic_ms()
        assert 500 <= told.pop("retry_ms") <= 1500
        assert told == {
            "epoch": EPOCH,
            "head": 2,
            "hb_ms": 333,
            "bound_ms": 1000,
            "resume": "snapshot",
            "oldest": 0,
        }

    async def test_a_tighter_bound_is_granted_down_to_the_floor(self, site: Site) -> None:
        async with site.connect("?bound_ms=3") as client:
            hello = await client.next()
        assert (hello.data["bound_ms"], hello.data["hb_ms"]) == (500, 166)

    async def test_a_merchant_without_stock_gets_an_empty_snapshot_of_a_named_history(
        self, site: Site
    ) -> None:
        async with site.connect(key="newcomer.shopper") as client:
            hello, end = await client.caught_up()
        assert len(hello.data["epoch"]) >= 11
        assert (end.data["seq"], end.data["scope"]) == (0, "all")
        assert end.id is not None
        assert end.id.startswith(f"{hello.data['epoch']}:0:")

    async def test_the_snapshot_comes_in_parts_and_ends_with_its_position(
        self, redis_url: str, store: Store
    ) -> None:
        for sku in "ABCDE":
            store.change(sku)
        async with serving_feed(redis_url, snapshot_part=2) as site:
            before = monotonic_ms()
            async with site.connect() as client:
                _, *parts, end = await client.caught_up()
        assert [(part.event, part.data["part"], part.skus) for part in parts] == [
            ("snap", 0, ["A", "B"]),
            ("snap", 1, ["C", "D"]),
            ("snap", 2, ["E"]),
        ]
        assert all(part.id is None for part in parts)
        assert end.data["seq"] == 5
        assert before <= end.data["asof"] <= monotonic_ms()

    async def test_an_item_has_the_documented_fields(self, site: Site, store: Store) -> None:
        store.change("TEE", 3)
        async with site.connect() as client:
            snap = await client.next("snap")
        assert snap.data["items"] == [
            {
                "sku": "TEE",
                "ver": 1,
                "state": "LOW_STOCK",
                "available": 3,
                "as_of": "2026-11-21T10:00:00.123Z",
                "source": "depot",
                "degraded": False,
            }
        ]

    async def test_a_named_sku_that_nobody_knows_is_told_as_such(self, site: Site, store: Store) -> None:
        store.change("TEE")
        async with site.connect("?sku=NONE&sku=TEE") as client:
            snap = await client.next("snap")
        assert [(item["sku"], item["state"]) for item in snap.data["items"]] == [
            ("NONE", "UNKNOWN_SKU"),
            ("TEE", "IN_STOCK"),
        ]

    async def test_nothing_that_changes_during_a_snapshot_is_lost(self, redis_url: str, store: Store) -> None:
        for number in range(120):
            store.change(f"S{number:03}")
        async with serving_feed(redis_url, snapshot_part=1) as site, site.connect() as client:
            await client.next("snap")
            for number in range(0, 120, 7):
                await asyncio.to_thread(store.change, f"S{number:03}", 77)
            await client.next("snap_end")
            levels = await levels_up_to(client, store.seq)
        assert levels == {f"S{number:03}": 77 if number % 7 == 0 else 10 for number in range(120)}
        assert covers_follow(client)


class TestFollowing:
    async def test_a_change_arrives_with_the_range_it_covers(self, site: Site, store: Store) -> None:
        store.change("TEE")
        async with site.connect() as client:
            end = (await client.caught_up())[-1]
            store.effect()
            store.change("CAP", 2)
            upd = await client.next("upd")
        assert (upd.data["prev"], upd.data["seq"], upd.data["rev"]) == (1, 3, 1)
        assert upd.skus == ["CAP"]
        assert upd.data["asof"] >= end.data["asof"]
        assert upd.id is not None
        assert upd.id.startswith(f"{EPOCH}:3:")

    async def test_changes_of_one_moment_come_in_one_frame_with_the_bad_news_first(
        self, site: Site, store: Store
    ) -> None:
        async with site.connect() as client:
            await client.caught_up()
            at_once(store, {"A": 9, "B": 0, "C": 3, "D": 0})
            upd = await client.next("upd")
        assert upd.skus == ["B", "D", "A", "C"]

    async def test_a_sku_that_is_gone_is_told_as_discontinued(self, site: Site, store: Store) -> None:
        async with site.connect() as client:
            await client.caught_up()
            store.change("TEE", 0, gone=1)
            upd = await client.next("upd")
        assert upd.data["items"][0]["state"] == "DISCONTINUED"

    async def test_heartbeats_are_events_with_a_position_and_a_moving_asof(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")
        async with site.connect("?bound_ms=500") as client:
            end = (await client.caught_up())[-1]
            first = await client.next("hb")
            second = await client.next("hb")
        assert [(hb.data["prev"], hb.data["seq"], hb.data["rev"]) for hb in (first, second)] == [
            (1, 1, 1)
        ] * 2
        assert end.data["asof"] <= first.data["asof"] < second.data["asof"]
        assert second.id == end.id

    async def test_a_quiet_filter_is_covered_by_heartbeats(self, site: Site, store: Store) -> None:
        async with site.connect("?sku=TEE") as client:
            await client.caught_up()
            store.change("CAP")
            while (hb := await client.next("hb")).data["seq"] == 0:
                pass
            store.change("TEE")
            upd = await client.next("upd")
        assert (hb.data["prev"], hb.data["seq"]) == (0, 1)
        assert (upd.data["prev"], upd.data["seq"]) == (1, 2)

    async def test_a_reply_cut_short_moves_no_asof(self, redis_url: str, store: Store) -> None:
        async with serving_feed(redis_url, read_max=2) as site, site.connect() as client:
            await client.caught_up()
            at_once(store, {f"S{number}": number + 1 for number in range(10)})
            cut = [await client.next("upd") for _ in range(5)]
            after = await client.next("hb")
        assert [frame.data["seq"] for frame in cut] == [2, 4, 6, 8, 10]
        assert len({frame.data["asof"] for frame in cut}) == 1
        assert after.data["asof"] > cut[0].data["asof"]

    async def test_only_what_a_filter_names_is_told(self, site: Site, store: Store) -> None:
        async with (
            site.connect("?sku=A-1&sku=B-1") as named,
            site.connect("?prefix=A-") as prefixed,
            site.connect() as everything,
        ):
            clients = (named, prefixed, everything)
            for client in clients:
                await client.caught_up()
            for sku in ("C-1", "B-1", "A-2", "A-1"):
                store.change(sku)
            told = []
            for client in clients:
                await levels_up_to(client, store.seq)
                told.append({sku for frame in client.seen if frame.event == "upd" for sku in frame.skus})
        assert told == [{"A-1", "B-1"}, {"A-1", "A-2"}, {"A-1", "A-2", "B-1", "C-1"}]
        assert all(covers_follow(client) for client in clients)

    async def test_a_key_shows_its_own_merchant_only(self, site: Site, store: Store) -> None:
        other = Store(store.client, "rival").name_history("other-history")
        async with site.connect() as ours, site.connect(key="rival.shopper") as theirs:
            await ours.caught_up()
            hello = (await theirs.caught_up())[0]
            store.change("SECRET")
            other.change("THEIRS")
            upd = await theirs.next("upd")
        assert hello.data["epoch"] == "other-history"
        assert upd.skus == ["THEIRS"]

    async def test_readers_of_one_filter_get_the_same_bytes(self, site: Site, store: Store) -> None:
        async with site.connect() as one, site.connect(key="acme.other") as other:
            await one.caught_up()
            await other.caught_up()
            store.change("TEE")
            assert await one.next("upd") == await other.next("upd")

    async def test_http_1_0_gets_frames_without_chunks(self, site: Site, store: Store) -> None:
        store.change("TEE")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        writer.write(b"GET /v1/feed HTTP/1.0\r\nAuthorization: Bearer acme.shopper\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        snapshot = await reader.readuntil(b"event: snap_end\n")
        writer.close()
        assert b"chunked" not in head
        assert snapshot.startswith(b"event: hello\nretry: ")


class TestResuming:
    @pytest.mark.parametrize("query", ["", "?prefix=S", "?sku=S1&sku=S2&sku=S3"])
    async def test_one_update_tells_the_latest_of_all_that_changed(
        self, site: Site, store: Store, query: str
    ) -> None:
        for sku in ("S1", "S2", "S3"):
            store.change(sku)
        last = await position_of(site, query)
        for level in (4, 3, 2):
            store.change("S1", level)
        store.change("S3", 0)
        async with site.connect(query, last=last) as client:
            hello = await client.next()
            upd = await client.next()
            store.change("S2", 1)
            after = await client.next()
            if after.data["seq"] == upd.data["seq"]:
                # The process has read the same changes for all its readers: a harmless overlap.
                after = await client.next()
        assert hello.data["resume"] == "replay"
        assert [(item["sku"], item["ver"], item["available"]) for item in upd.data["items"]] == [
            ("S3", 2, 0),
            ("S1", 4, 2),
        ]
        assert (upd.data["prev"], upd.data["seq"]) == (3, 7)
        assert (after.data["prev"], after.data["seq"], after.skus) == (7, 8, ["S2"])

    async def test_a_resume_without_changes_confirms_the_position(self, site: Site, store: Store) -> None:
        store.change("TEE")
        last = await position_of(site)
        async with site.connect(last=last) as client:
            hello, upd = await client.next(), await client.next()
        assert hello.data["resume"] == "replay"
        assert (upd.event, upd.data["items"], upd.id) == ("upd", [], last)
        assert upd.data["asof"] >= hello.data["st"]

    async def test_the_position_may_stand_in_the_query(self, site: Site, store: Store) -> None:
        store.change("TEE")
        last = await position_of(site)
        async with site.connect(f"?from={last}") as client:
            assert (await client.next()).data["resume"] == "replay"

    async def test_a_long_absence_is_read_in_pieces(self, redis_url: str, store: Store) -> None:
        async with serving_feed(redis_url, read_max=3) as site:
            store.change("TEE")
            last = await position_of(site)
            for number in range(20):
                store.change(f"S{number % 7}", number)
            async with site.connect(last=last) as client:
                await client.next("hello")
                upd = await client.next()
        assert len(upd.data["items"]) == 7
        assert upd.data["seq"] == 21

    @pytest.mark.parametrize(
        ("last", "reason"),
        [
            ("nonsense", "cursor"),
            ("another-history:1:{mark}", "epoch"),
            (EPOCH + ":1:0123456789abcdef", "filter"),
            (EPOCH + ":99:{mark}", "ahead"),
        ],
    )
    async def test_a_position_that_cannot_be_continued_is_answered_by_reset_and_snapshot(
        self, site: Site, store: Store, last: str, reason: str
    ) -> None:
        store.change("TEE")
        mark = (await position_of(site)).rpartition(":")[2]
        async with site.connect(last=last.format(mark=mark)) as client:
            hello, reset, snap, end = await client.caught_up()
        assert hello.data["resume"] == "reset"
        assert (reset.event, reset.data, reset.id) == ("reset", {"epoch": EPOCH, "reason": reason}, "")
        assert (snap.skus, end.data["seq"]) == (["TEE"], 1)

    async def test_another_filter_is_another_position(self, site: Site, store: Store) -> None:
        store.change("TEE")
        last = await position_of(site, "?sku=TEE")
        async with site.connect("?sku=CAP", last=last) as client:
            assert (await client.next("reset")).data["reason"] == "filter"

    async def test_a_position_older_than_what_is_kept_is_reset(self, site: Site, store: Store) -> None:
        store.change("TEE")
        last = await position_of(site)
        for level in range(5):
            store.change("CAP", level)
        store.client.xtrim(MerchantKeys("acme").feed, maxlen=3, approximate=False)
        async with site.connect(last=last) as client:
            hello, reset, *_ = await client.caught_up()
        assert (hello.data["oldest"], reset.data["reason"]) == (3, "too_old")

    async def test_the_oldest_kept_position_still_resumes(self, site: Site, store: Store) -> None:
        store.change("TEE")
        last = await position_of(site)
        for level in range(3):
            store.change("CAP", level)
        store.client.xtrim(MerchantKeys("acme").feed, maxlen=3, approximate=False)
        async with site.connect(last=last) as client:
            assert (await client.next()).data["resume"] == "replay"
            assert (await client.next()).skus == ["CAP"]
