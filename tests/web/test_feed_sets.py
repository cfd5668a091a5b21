"""Long lists of SKUs: made, changed, followed by their id, and changed while they are followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from synchub.keyspace import MerchantKeys
from tests.support.feed import Site, Store, covers_follow, levels_up_to, serving_feed
from tests.support.hub import running_hub
from tests.support.wait import eventually

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


class TestKeeping:
    async def test_a_set_is_shown_as_it_was_made(self, site: Site) -> None:
        set_id = await site.new_set("B", "A", "B")
        status, told = await site.sets("GET", set_id)
        assert (status, told) == (200, {"set": set_id, "rev": 1, "count": 2, "skus": ["A", "B"]})

    async def test_a_change_adds_and_removes_and_a_repeat_changes_nothing(self, site: Site) -> None:
        set_id = await site.new_set("A", "B")
        for _ in range(2):
            status, told = await site.sets("PATCH", set_id, add=["C", "B"], remove=["A", "NONE"])
            assert (status, told) == (200, {"set": set_id, "rev": 2, "count": 2})
        _, told = await site.sets("GET", set_id)
        assert told["skus"] == ["B", "C"]

    async def test_a_long_list_is_written_in_steps_and_read_whole(self, site: Site) -> None:
        skus = [f"S{number:05}" for number in range(3500)]
        set_id = await site.new_set(*skus)
        _, told = await site.sets("GET", set_id)
        assert told["skus"] == skus
        status, told = await site.sets("PATCH", set_id, remove=skus[10:], add=["NEW", skus[20]])
        assert (status, told["count"]) == (200, 12)

    async def test_a_deleted_set_is_gone(self, site: Site, store: Store) -> None:
        set_id = await site.new_set("A")
        assert await site.sets("DELETE", set_id) == (204, None)
        for method in ("GET", "PATCH", "DELETE"):
            body: dict[str, Any] = {"add": ["B"]} if method == "PATCH" else {}
            status, told = await site.sets(method, set_id, **body)
            assert (status, told["code"]) == (404, "not_found")
        keys = MerchantKeys("acme")
        assert not store.client.exists(keys.feed_set(set_id), keys.feed_set_skus(set_id))
        assert store.client.zcard(keys.feed_sets_of("shopper")) == 0

    @pytest.mark.parametrize("key", ["acme.other", "rival.shopper"])
    async def test_a_set_is_its_agents_alone(self, site: Site, key: str) -> None:
        set_id = await site.new_set("SECRET")
        added: dict[str, Any] = {"add": ["X"]}
        for method, body in (("GET", {}), ("PATCH", added), ("DELETE", {})):
            status, told = await site.sets(method, set_id, key=key, **body)
            assert (status, told["code"]) == (404, "not_found")
        async with await site.get(f"?set={set_id}", key=key) as refused:
            assert refused.status == 404
        _, told = await site.sets("GET", set_id)
        assert told["skus"] == ["SECRET"]

    async def test_a_list_that_does_not_fit_is_refused_and_changes_nothing(self, redis_url: str) -> None:
        async with serving_feed(redis_url, set_skus_max=3) as site:
            assert (await site.sets("POST", skus=list("ABCD")))[0] == 422
            set_id = await site.new_set("A", "B", "C")
            status, told = await site.sets("PATCH", set_id, add=["D"])
            assert (status, told["code"]) == (422, "invalid_request")
            assert (await site.sets("PATCH", set_id, add=["D"], remove=["A"]))[0] == 200
            _, told = await site.sets("GET", set_id)
            assert told["skus"] == ["B", "C", "D"]

    @pytest.mark.parametrize("body", [{"skus": "A"}, {"skus": ["A\nb"]}, {"skus": [1]}, {"sku": ["A"]}, {}])
    async def test_a_body_of_another_form_is_refused(self, site: Site, body: dict[str, Any]) -> None:
        status, told = await site.sets("POST", **body)
        assert (status, told["code"]) == (422, "invalid_request")

    async def test_an_agent_may_have_so_many_sets(self, redis_url: str) -> None:
        async with serving_feed(redis_url, sets_per_agent=2) as site:
            first = await site.new_set("A")
            await site.new_set("A")
            status, told = await site.sets("POST", skus=["A"])
            assert (status, told["code"]) == (429, "rate_limited")
            await site.new_set("A", key="acme.other")
            await site.sets("DELETE", first)
            await site.new_set("A")

    async def test_a_set_dies_unless_it_is_used(self, redis_url: str, store: Store) -> None:
        async with serving_feed(redis_url, set_life_ms=60_000) as site:
            set_id = await site.new_set("A")
            key = MerchantKeys("acme").feed_set(set_id)
            store.client.pexpire(key, 40_000)
            await site.sets("GET", set_id)
            assert 50_000 < int(str(store.client.pttl(key))) <= 60_000
            assert int(str(store.client.pttl(MerchantKeys("acme").feed_set_skus(set_id)))) > 50_000

    async def test_each_request_about_sets_takes_a_token_of_the_agents(self, redis_url: str) -> None:
        async with running_hub(
            redis_url, works=False, limits={"agent_rate_per_s": 1, "agent_burst": 2}
        ) as hub:
            headers = {"Authorization": f"Bearer {hub.merchant.key}"}
            statuses = [
                (await hub.ask("POST", "/v1/feed/sets", json={"skus": ["A"]}, headers=headers)).status
                for _ in range(4)
            ]
        assert statuses[0] == 201
        assert statuses[-1] == 429


class TestFollowing:
    async def test_a_set_is_a_filter_like_any_other(self, site: Site, store: Store) -> None:
        for sku in "ABC":
            store.change(sku)
        set_id = await site.new_set("A", "NONE")
        async with site.connect(f"?set={set_id}") as client:
            _, snap, end = await client.caught_up()
            store.change("B", 1)
            store.change("A", 1)
            upd = await client.next("upd")
        assert snap.skus == ["A", "NONE"]
        assert (end.data["rev"], upd.skus, upd.data["rev"]) == (1, ["A"], 1)

    async def test_fifty_thousand_skus_are_followed_and_changed(self, site: Site, store: Store) -> None:
        skus = [f"S{number:05}" for number in range(50_000)]
        set_id = await site.new_set(*skus)
        async with site.connect(f"?set={set_id}") as client:
            await client.next("snap_end", within_s=60)
            told = [
                item["sku"] for frame in client.seen if frame.event == "snap" for item in frame.data["items"]
            ]
            await site.sets("PATCH", set_id, remove=skus[7:9], add=["NEW-1"])
            removed = (await client.next("set", within_s=30)).data["removed"]
            added = await client.next("snap")
            store.change("S49999", 3)
            changed = await client.next("upd")
        assert told == skus
        assert removed == skus[7:9]
        assert (added.skus, changed.skus) == (["NEW-1"], ["S49999"])

    async def test_a_change_is_told_in_order_with_what_happens(self, site: Site, store: Store) -> None:
        for sku in "ABC":
            store.change(sku)
        set_id = await site.new_set("A", "B")
        async with site.connect(f"?set={set_id}") as client:
            before = (await client.caught_up())[-1]
            await site.sets("PATCH", set_id, add=["C"], remove=["A"])
            told = await client.next("set")
            snap = await client.next("snap")
            end = await client.next("snap_end")
            store.change("A", 1)
            store.change("C", 2)
            upd = await client.next("upd")
        assert told.data == {"prev_rev": 1, "rev": 2, "removed": ["A"]}
        assert (snap.skus, snap.data["scope"]) == (["C"], "added")
        assert (end.data["scope"], end.data["rev"], end.data["seq"]) == ("added", 2, 3)
        assert (upd.skus, upd.data["rev"]) == (["C"], 2)
        assert end.id != before.id
        assert covers_follow(client)

    async def test_a_set_may_become_empty_and_full_again(self, site: Site, store: Store) -> None:
        store.change("A")
        set_id = await site.new_set("A")
        async with site.connect(f"?set={set_id}") as client:
            await client.caught_up()
            await site.sets("PATCH", set_id, remove=["A"])
            assert (await client.next("set")).data["removed"] == ["A"]
            assert (await client.next("snap_end")).data["scope"] == "added"
            store.change("A", 4)
            await site.sets("PATCH", set_id, add=["A"])
            await client.next("set")
            snap = await client.next("snap")
        assert snap.data["items"][0]["available"] == 4
        assert "upd" not in {frame.event for frame in client.seen[4:] if frame.data.get("items")}

    async def test_nothing_is_lost_that_changes_while_a_set_grows(self, redis_url: str, store: Store) -> None:
        skus = [f"S{number:03}" for number in range(120)]
        for sku in skus:
            store.change(sku)
        async with serving_feed(redis_url, snapshot_part=1) as site:
            set_id = await site.new_set("S000")
            async with site.connect(f"?set={set_id}") as client:
                await client.caught_up()
                await site.sets("PATCH", set_id, add=skus)
                await client.next("set")
                for number in range(0, 120, 7):
                    await asyncio.to_thread(store.change, f"S{number:03}", 77)
                await client.next("snap_end")
                levels = await levels_up_to(client, store.seq)
        assert levels == {sku: 77 if number % 7 == 0 else 10 for number, sku in enumerate(skus)}
        assert covers_follow(client)

    async def test_a_reader_cut_off_in_the_middle_of_a_change_does_not_resume_over_a_part(
        self, redis_url: str, store: Store
    ) -> None:
        skus = [f"S{number:03}" for number in range(200)]
        for sku in skus:
            store.change(sku)
        async with serving_feed(redis_url, snapshot_part=1) as site:
            set_id = await site.new_set("S000")
            async with site.connect(f"?set={set_id}") as client:
                await client.caught_up()
                await site.sets("PATCH", set_id, add=skus)
                await client.next("snap")
                await client.next("snap")
                last = [frame.id for frame in client.seen if frame.id][-1]
            async with site.connect(f"?set={set_id}", last=last) as client:
                hello, reset, *_, end = await client.caught_up()
        assert (hello.data["resume"], reset.data["reason"]) == ("reset", "filter")
        assert end.data["rev"] == 2

    async def test_a_position_of_the_same_revision_is_continued_and_of_another_is_not(
        self, site: Site, store: Store
    ) -> None:
        store.change("A")
        set_id = await site.new_set("A")
        async with site.connect(f"?set={set_id}") as client:
            last = (await client.caught_up())[-1].id
        store.change("A", 3)
        async with site.connect(f"?set={set_id}", last=last) as client:
            assert (await client.next("hello")).data["resume"] == "replay"
            assert (await client.next("upd")).skus == ["A"]
        await site.sets("PATCH", set_id, add=["B"])
        async with site.connect(f"?set={set_id}", last=last) as client:
            assert (await client.next("reset")).data["reason"] == "filter"

    async def test_a_revision_that_was_lost_is_not_taken_for_another_of_its_number(
        self, site: Site, store: Store
    ) -> None:
        set_id = await site.new_set("A")
        await site.sets("PATCH", set_id, add=["LOST"])
        async with site.connect(f"?set={set_id}") as client:
            last = (await client.caught_up())[-1].id
        keys = MerchantKeys("acme")
        store.client.srem(keys.feed_set_skus(set_id), "LOST")
        store.client.hset(keys.feed_set(set_id), mapping={"rev": "1", "mark": "before"})
        _, told = await site.sets("PATCH", set_id, add=["NEW"])
        async with site.connect(f"?set={set_id}", last=last) as client:
            _, reset, snap, end = await client.caught_up()
        assert (told["rev"], end.data["rev"]) == (2, 2)
        assert (reset.data["reason"], snap.skus) == ("filter", ["A", "NEW"])

    async def test_every_process_notices_a_change(self, redis_url: str, store: Store) -> None:
        store.change("B")
        async with serving_feed(redis_url) as here, serving_feed(redis_url) as there:
            set_id = await here.new_set("A")
            async with here.connect(f"?set={set_id}") as one, there.connect(f"?set={set_id}") as other:
                for client in (one, other):
                    await client.caught_up()
                await here.sets("PATCH", set_id, add=["B"])
                for client in (one, other):
                    assert (await client.next("set")).data["rev"] == 2
                    assert (await client.next("snap")).skus == ["B"]

    async def test_a_change_whose_entry_was_lost_is_found_by_looking(
        self, redis_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("synchub.feed.followed_sets.LOOK_EVERY_S", 0.1)
        async with serving_feed(redis_url) as site:
            set_id = await site.new_set("A")
            async with site.connect(f"?set={set_id}") as client:
                await client.caught_up()
                keys = MerchantKeys("acme")
                with store.client.pipeline() as pipe:
                    pipe.sadd(keys.feed_set_skus(set_id), "B")
                    pipe.hincrby(keys.feed_set(set_id), "rev", 1)
                    pipe.execute()
                assert (await client.next("set")).data["rev"] == 2

    async def test_followers_of_a_deleted_set_are_sent_away_for_good(self, site: Site) -> None:
        set_id = await site.new_set("A")
        async with site.connect(f"?set={set_id}") as client, site.connect() as other:
            await client.caught_up()
            await other.caught_up()
            await site.sets("DELETE", set_id)
            bye = await client.next("bye")
            assert (bye.data["reason"], bye.data["reconnect"]) == ("auth", False)
            assert await client.at_end()
            assert site.feed.readers == 1

    async def test_a_set_that_nobody_follows_any_more_is_forgotten(self, site: Site) -> None:
        set_id = await site.new_set("A")
        async with site.connect(f"?set={set_id}") as one, site.connect(f"?set={set_id}") as other:
            await one.caught_up()
            await other.caught_up()
            assert list(site.feed._sets._known) == [("acme", set_id)]
        await eventually(lambda: site.feed.readers == 0, what="all readers gone")
        assert not site.feed._sets._known
        assert not site.feed._sets.positions
