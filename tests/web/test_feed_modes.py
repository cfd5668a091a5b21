"""Readers of versions, and what is told to one agent alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.feed import Site, Store, at_once, covers_follow, serving_feed

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


class TestVersions:
    @pytest.mark.parametrize("query", ["?mode=inv", "?mode=inv&sku=A&sku=B", "?mode=inv&prefix=A"])
    async def test_a_reader_begins_with_nothing_and_is_told_versions(
        self, site: Site, store: Store, query: str
    ) -> None:
        store.change("A")
        async with site.connect(query) as client:
            hello, end = await client.caught_up()
            store.change("A", 3)
            upd = await client.next("upd")
        assert hello.data["resume"] == "snapshot"
        assert (end.event, end.data["seq"], end.data["scope"]) == ("snap_end", 1, "all")
        assert (upd.data["inv"], "items" in upd.data) == ([["A", 2]], False)
        assert (upd.data["prev"], upd.data["seq"]) == (1, 2)

    @pytest.mark.parametrize("query", ["?mode=inv", "?mode=inv&sku=A&sku=B"])
    async def test_what_was_missed_is_told_by_versions_too(
        self, site: Site, store: Store, query: str
    ) -> None:
        store.change("A")
        async with site.connect(query) as client:
            last = (await client.caught_up())[-1].id
        for level in (4, 3):
            store.change("A", level)
        async with site.connect(query, last=last) as client:
            assert (await client.next("hello")).data["resume"] == "replay"
            assert (await client.next("upd")).data["inv"] == [["A", 3]]

    async def test_a_position_of_one_mode_is_none_of_the_other(self, site: Site, store: Store) -> None:
        store.change("A")
        async with site.connect("?mode=inv") as client:
            last = (await client.caught_up())[-1].id
        async with site.connect(last=last) as client:
            assert (await client.next("reset")).data["reason"] == "filter"

    async def test_readers_of_states_and_of_versions_are_told_the_same_changes(
        self, site: Site, store: Store
    ) -> None:
        async with site.connect("?mode=inv") as thin, site.connect() as thick:
            for client in (thin, thick):
                await client.caught_up()
            at_once(store, {"A": 1, "B": 0, "C": 7})
            told = (await thin.next("upd")).data["inv"]
            items = (await thick.next("upd")).data["items"]
        assert sorted(map(tuple, told)) == sorted((item["sku"], item["ver"]) for item in items)

    async def test_what_a_set_gains_is_confirmed_and_not_sent(self, site: Site, store: Store) -> None:
        store.change("A")
        set_id = await site.new_set("A")
        async with site.connect(f"?mode=inv&set={set_id}") as client:
            await client.caught_up()
            await site.sets("PATCH", set_id, add=["B"])
            told, end = await client.next(), await client.next()
        assert (told.event, end.event, end.data["scope"], end.data["rev"]) == ("set", "snap_end", "added", 2)

    async def test_an_unknown_mode_is_refused(self, site: Site) -> None:
        async with await site.get("?mode=both") as refused:
            assert refused.status == 422
            assert "upd or inv" in (await refused.json())["detail"]


class TestEditedPolicies:
    async def test_readers_who_name_their_skus_are_told_that_all_may_be_another(
        self, site: Site, store: Store
    ) -> None:
        for sku in "ABA":
            store.change(sku)
        async with site.connect("?mode=inv&sku=A&sku=B") as client:
            before = (await client.caught_up())[-1]
            await site.decide("acme", {"set": {"buffer_units": 4}})
            upd = await client.next("upd", "reset")
            store.change("B", 3)
            after = await client.next("upd", "reset")
        assert (upd.event, upd.data["inv"]) == ("upd", [["A", 2], ["B", 1]])
        assert upd.data["prev"] <= before.data["seq"]
        assert upd.id != before.id
        assert (after.event, after.data["inv"]) == ("upd", [["B", 2]])
        assert covers_follow(client)

    async def test_readers_of_everything_drop_everything(self, site: Site, store: Store) -> None:
        store.change("A")
        async with site.connect("?mode=inv") as client:
            await client.caught_up()
            await site.decide("acme", {"set": {"buffer_units": 4}})
            reset, end = await client.caught_up()
        assert (reset.data["reason"], end.data["scope"]) == ("policy", "all")

    async def test_a_position_from_before_is_not_continued(self, site: Site, store: Store) -> None:
        store.change("A")
        async with site.connect("?mode=inv&sku=A") as client:
            before = (await client.caught_up())[-1].id
            await site.decide("acme", {"set": {"buffer_units": 4}})
            after = (await client.next("upd")).id
        async with site.connect("?mode=inv&sku=A", last=before) as client:
            assert (await client.next("reset")).data["reason"] == "filter"
        async with site.connect("?mode=inv&sku=A", last=after) as client:
            assert (await client.next("hello")).data["resume"] == "replay"


class TestOwnHolds:
    async def test_an_agent_is_told_of_its_own_hold_and_nobody_else_is(
        self, site: Site, store: Store
    ) -> None:
        async with site.connect() as ours, site.connect(key="acme.other") as theirs:
            for client in (ours, theirs):
                await client.caught_up()
            store.change("A", 7, held=3, whose=["shopper"])
            shared = [await client.next("upd") for client in (ours, theirs)]
            own = await ours.next("upd")
            store.change("B")
            after = [await client.next("upd") for client in (ours, theirs)]
        assert shared[0] == shared[1]
        assert (own.data["items"], own.data["inv"]) == ([], [["A", 1]])
        assert own.data["prev"] == own.data["seq"] == 1
        assert after[0] == after[1]
        assert (after[0].skus, "inv" in after[0].data) == (["B"], False)

    @pytest.mark.parametrize("query", ["", "?sku=A", "?prefix=A", "?mode=inv"])
    async def test_only_what_the_filter_lets_through_is_told(
        self, site: Site, store: Store, query: str
    ) -> None:
        async with site.connect(query) as client:
            await client.caught_up()
            store.change("A", 7, whose=["shopper", "other"])
            store.change("B", 7, whose=["shopper"])
            store.change("A", 6)
            while not any(["A", 1] in frame.data.get("inv", []) for frame in client.seen):
                await client.next("upd")
        told = {sku for frame in client.seen for sku, _ in frame.data.get("inv", [])}
        assert told <= ({"A"} if query in {"?sku=A", "?prefix=A"} else {"A", "B"})
        assert covers_follow(client)
