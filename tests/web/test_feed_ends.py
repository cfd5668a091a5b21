"""How a feed ends or starts anew: lost histories, slow and leaving readers, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientPayloadError

from synchub import metrics
from synchub.feed.model import ByeReason
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms
from tests.support.feed import EPOCH, BufferedPipeline, Site, Store, at_once, covers_follow, serving_feed
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.valkey import Valkey


@pytest.fixture
def store(valkey: Valkey, redis_url: str) -> Iterator[Store]:
    with valkey.client() as client:
        yield Store(client).name_history()


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with serving_feed(redis_url) as served:
        yield served


async def at_rest(site: Site) -> None:
    await eventually(lambda: site.feed.readers == 0, what="all readers gone")


class TestLostContinuity:
    async def test_a_renamed_history_resets_everyone_who_follows(self, site: Site, store: Store) -> None:
        store.change("TEE")
        async with site.connect() as client, site.connect("?sku=TEE") as other:
            for one in (client, other):
                await one.caught_up()
            store.name_history("history-two")
            for one in (client, other):
                reset, snap, end = await one.caught_up()
                assert (reset.data, snap.skus) == ({"epoch": "history-two", "reason": "epoch"}, ["TEE"])
                assert (end.id or "").startswith("history-two:1:")
            store.change("TEE", 1)
            assert (await client.next("upd")).data["prev"] == 1

    async def test_entries_trimmed_before_they_were_read_reset_within_the_same_history(
        self, site: Site, store: Store
    ) -> None:
        async with site.connect() as client:
            await client.caught_up()
            store.seq = store.feed_seq = 7
            store.change("TEE")
            reset, snap, end = await client.caught_up()
        assert reset.data == {"epoch": EPOCH, "reason": "gap"}
        assert (snap.skus, end.data["seq"]) == (["TEE"], 8)

    async def test_a_store_that_has_gone_back_gets_a_new_history(self, site: Site, store: Store) -> None:
        for sku in "ABC":
            store.change(sku)
        async with site.connect() as client:
            await client.caught_up()
            store.forget(3)
            reset, *_, end = await client.caught_up()
            assert reset.data["reason"] == "continuity"
            assert reset.data["epoch"] == store.epoch != EPOCH
            assert end.data["seq"] == 2
            store.change("D")
            assert (await client.next("upd")).skus == ["D"]

    async def test_a_rewritten_history_of_equal_length_is_noticed(self, site: Site, store: Store) -> None:
        store.change("A")
        async with site.connect() as client:
            await client.caught_up()
            store.change("B", 5)
            await client.next("upd")
            with store.client.pipeline() as pipe:
                live, store.client = store.client, BufferedPipeline(pipe)  # type: ignore[assignment]  # a stand-in
                pipe.delete(MerchantKeys("acme").feed)
                store.seq = store.feed_seq = 1
                store.change("C", 5)
                store.client = live
                pipe.execute()
            assert (await client.next("reset")).data["reason"] == "continuity"

    @pytest.mark.fault
    async def test_a_crash_that_loses_changes_resets_and_the_rest_goes_on(
        self, own_valkey: Callable[..., Valkey]
    ) -> None:
        server = own_valkey(appendonly="no")
        with server.client() as client:
            store = Store(client).name_history()
            store.change("KEPT")
            client.save()
            async with serving_feed(server.url) as site, site.connect() as reader:
                await reader.caught_up()
                store.change("LOST")
                await reader.next("upd")
                await asyncio.to_thread(server.restart)
                reset, snap, end = await reader.caught_up()
                assert (reset.data["reason"], snap.skus) == ("continuity", ["KEPT"])
                assert end.data["seq"] == 1
                store.seq = store.feed_seq = 1
                store.change("NEXT")
                assert (await reader.next("upd")).skus == ["NEXT"]

    @pytest.mark.fault
    async def test_a_crash_that_loses_nothing_is_only_a_pause(
        self, own_valkey: Callable[..., Valkey]
    ) -> None:
        server = own_valkey(appendfsync="always")
        with server.client() as client:
            store = Store(client).name_history()
            store.change("TEE")
            async with serving_feed(server.url) as site, site.connect("?bound_ms=500") as reader:
                await reader.caught_up()
                await asyncio.to_thread(server.kill)
                await eventually(lambda: not site.feed.health.fresh, what="the loss noticed")
                stale = [(await reader.next("hb")).data["asof"] for _ in range(3)][1:]
                await asyncio.to_thread(server.start)
                store.change("TEE", 3)
                upd = await reader.next("upd")
                await eventually(lambda: site.feed.health.fresh, what="the return noticed")
        assert len(set(stale)) == 1
        assert upd.data["asof"] > stale[0]
        assert "reset" not in {frame.event for frame in reader.seen}
        assert covers_follow(reader)

    @pytest.mark.fault
    async def test_a_store_that_hangs_lets_no_asof_move(self, own_valkey: Callable[..., Valkey]) -> None:
        server = own_valkey()
        with server.client() as client:
            Store(client).name_history().change("TEE")
            async with serving_feed(server.url) as site, site.connect("?bound_ms=500") as reader:
                await reader.caught_up()
                await reader.next("hb")
                server.freeze()
                stalled_at = monotonic_ms()
                beats = [await reader.next("hb") for _ in range(4)]
                server.thaw()
                while (await reader.next("hb")).data["asof"] <= stalled_at + 500:
                    pass
        assert all(beat.data["asof"] <= stalled_at for beat in beats)


class TestLeaving:
    async def test_draining_says_good_bye_and_takes_nobody_new(self, site: Site) -> None:
        async with site.connect() as one, site.connect() as other:
            for client in (one, other):
                await client.caught_up()
            await site.feed.drain(20)
            for client in (one, other):
                bye = await client.next("bye")
                assert (bye.data["reason"], bye.data["reconnect"]) == ("drain", True)
                assert 500 <= bye.data["retry_ms"] <= 1500
                assert await client.at_end()
            async with await site.get() as refused:
                assert refused.status == 503
        await at_rest(site)

    async def test_a_connection_ends_at_its_age(self, redis_url: str) -> None:
        async with serving_feed(redis_url, connection_age_ms=1000) as site, site.connect() as client:
            bye = await client.next("bye")
            assert bye.data["reason"] == "limit"
            assert await client.at_end()

    async def test_a_revoked_agent_is_sent_away_for_good(self, site: Site) -> None:
        async with site.connect() as client, site.connect(key="acme.other") as other:
            await client.caught_up()
            await other.caught_up()
            assert site.feed.dismiss("acme", "shopper", ByeReason.AUTH) == 1
            bye = await client.next("bye")
            assert (bye.data["reason"], bye.data["reconnect"]) == ("auth", False)
            assert site.feed.readers == 1

    async def test_a_reader_that_takes_nothing_is_sent_away_and_others_go_on(
        self, redis_url: str, store: Store
    ) -> None:
        async with (
            serving_feed(redis_url, buffer_max_bytes=8192, owed_max_ms=300) as site,
            site.connect() as client,
        ):
            await client.caught_up()
            stuck = stuck_connection(site.server.port or 0)
            try:
                await eventually(lambda: site.feed.readers == 2)
                gone_before = metrics.feed_byes.labels("slow")._value.get()
                for number in range(3000):
                    at_once(store, {f"S{number}-{one}": 9 for one in range(20)})
                    await client.next("upd")
                    if site.feed.readers == 1:
                        break
                assert site.feed.readers == 1
                assert metrics.feed_byes.labels("slow")._value.get() == gone_before + 1
                store.change("LAST")
                assert (await client.next("upd")).skus == ["LAST"]
            finally:
                stuck.close()
        assert covers_follow(client)

    async def test_a_thousand_readers_that_come_and_go_leave_nothing_behind(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")

        async def visit(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
            query = "?sku=TEE" if number % 3 else ""
            head = f"GET /v1/feed{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme.n{number % 20}"
            writer.write(f"{head}\r\n\r\n".encode())
            # Some leave before the answer, some in the middle, some when they have everything.
            if number % 4:
                await reader.readuntil(b"event: hello")
            if number % 2:
                await reader.readuntil(b"event: snap_end")
            writer.transport.abort() if number % 5 else writer.close()

        for start in range(0, 1000, 50):
            await asyncio.gather(*(visit(number) for number in range(start, start + 50)))
        await at_rest(site)
        await eventually(lambda: not site.feed._follower.tails, what="the merchant forgotten")
        assert not site.feed._seats
        assert metrics.feed_readers._value.get() == 0
        async with site.connect() as client:
            await client.caught_up()
            store.change("TEE")
            assert (await client.next("upd")).skus == ["TEE"]

    async def test_a_client_that_left_is_dropped_while_the_feed_is_quiet(self, site: Site) -> None:
        async with site.connect() as client:
            await client.caught_up()
            assert client.response.connection is not None
            assert client.response.connection.transport is not None
            client.response.connection.transport.abort()
            await at_rest(site)
            with contextlib.suppress(ClientPayloadError, EOFError):
                await client.next()


def stuck_connection(port: int) -> socket.socket:
    """A client that asks for the feed and never reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer acme.stuck\r\n\r\n")
    return connection


class TestRefusals:
    async def test_an_agent_may_have_so_many_readers(self, redis_url: str) -> None:
        async with serving_feed(redis_url, readers_per_agent=1) as site:
            async with site.connect() as client:
                await client.next("hello")
                async with await site.get() as refused:
                    assert refused.status == 429
                    assert (await refused.json())["code"] == "rate_limited"
                    assert int(refused.headers["Retry-After"]) > 0
                async with site.connect(key="acme.other") as other:
                    await other.next("hello")
            await at_rest(site)
            async with site.connect() as again:
                await again.next("hello")

    async def test_a_process_may_have_so_many_readers(self, redis_url: str) -> None:
        async with serving_feed(redis_url, readers_max=1) as site, site.connect() as client:
            await client.next("hello")
            async with await site.get(key="rival.other") as refused:
                assert refused.status == 429

    @pytest.mark.parametrize(
        "query",
        [
            "?sku=A&prefix=A",
            "?mode=both",
            "?set=a&sku=A",
            "?set=a%0Ab",
            "?bound_ms=fast",
            "?bound_ms=-1",
            "?sku=",
            "?sku=A%0Ab",
            "?skus=A",
            "?sku=1&sku=2&sku=3&sku=4",
        ],
    )
    async def test_a_query_that_does_not_fit_is_refused(self, redis_url: str, query: str) -> None:
        async with serving_feed(redis_url, skus_max=3) as site, await site.get(query) as refused:
            assert refused.status == 422
            assert (await refused.json())["code"] == "invalid_request"
            assert site.feed.readers == 0

    async def test_a_key_in_the_address_is_no_key(self, site: Site) -> None:
        url = site.server.make_url("/v1/feed?access_token=acme.shopper")
        async with site.session.get(url) as refused:
            assert refused.status == 401

    @pytest.mark.fault
    async def test_without_a_store_the_answer_is_a_problem_and_not_half_a_feed(
        self, own_valkey: Callable[..., Valkey]
    ) -> None:
        server = own_valkey()
        async with serving_feed(server.url) as site:
            await asyncio.to_thread(server.kill)
            async with await site.get() as refused:
                assert refused.status == 503
                assert (await refused.json())["code"] == "store_unavailable"
            assert site.feed.readers == 0
