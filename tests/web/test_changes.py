"""What an agent is told that polls: pages of everything, changes, waiting, and when to begin anew."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import pytest

from synchub import metrics
from synchub.agents import operations as agents
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import monotonic_ms
from synchub.policies import operations as policies
from tests.support.feed import EPOCH, Client, Store
from tests.support.hub import Site, running_hub
from tests.support.merchants import add_merchant
from tests.support.poller import Poller
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from redis import Redis

    from tests.support.valkey import Valkey


@pytest.fixture
def redis(valkey: Valkey, redis_url: str) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url, works=False, feed={"read_block_ms": 20, "read_max": 5}) as one:
        yield one


@pytest.fixture
def store(site: Site, redis: Redis) -> Store:
    return Store(redis, site.merchant.name).name_history()


async def waiting(site: Site, readers: int = 1) -> None:
    """Return when so many polls have been answered nothing and wait."""

    def are_waiting() -> bool:
        tails = site.hub.feed._follower.tails
        return sum(len(tail.catching_up) for tail in tails) == readers and not site.hub.redis.waiting

    await eventually(are_waiting, what="a poll that waits")


class TestEverything:
    async def test_without_a_position_everything_is_told_with_its_time(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE", 3)
        store.effect()
        before = monotonic_ms()
        poller = Poller(site)
        told = await poller.poll()
        assert before <= told.pop("st") <= told.pop("asof") <= monotonic_ms()
        [item] = told.pop("items")
        assert (item["sku"], item["ver"], item["state"], item["available"]) == ("TEE", 1, "LOW_STOCK", 3)
        position = told.pop("id")
        assert position.startswith(f"{EPOCH}:1:")
        assert told == {
            "epoch": EPOCH,
            "prev": None,
            "seq": 1,
            "bound_ms": 1000,
            "rev": 1,
            "snapshot": {"part": 0, "last": True},
            "more": False,
            "sources": [{"account": site.merchant.account, "asof": None, "status": "unknown"}],
        }

    async def test_a_merchant_without_stock_has_an_empty_everything(self, site: Site) -> None:
        told = await Poller(site).poll()
        assert (told["items"], told["seq"], told["more"]) == ([], 0, False)
        assert len(told["epoch"]) >= 11

    async def test_pages_follow_each_other_and_what_changes_meanwhile_follows_them(
        self, site: Site, store: Store
    ) -> None:
        for sku in "ABCDE":
            store.change(sku)
        poller = Poller(site)
        first = await poller.poll(limit=2)
        store.change("A", 77)
        store.change("F", 6)
        pages = [first, await poller.poll(limit=2), await poller.poll(limit=2), await poller.poll(limit=2)]
        assert [page["snapshot"]["last"] for page in pages] == [False, False, False, True]
        assert [page["asof"] for page in pages] == [None] * 4
        after = await poller.poll()
        assert [item["sku"] for item in after["items"]] == ["A", "F"]
        assert after["asof"] is not None
        assert poller.levels == {"A": 77, "B": 10, "C": 10, "D": 10, "E": 10, "F": 6}
        assert poller.broken == []

    async def test_named_skus_come_in_pages_too_and_unknown_ones_are_told_as_such(
        self, site: Site, store: Store
    ) -> None:
        for sku in "ABC":
            store.change(sku)
        poller = Poller(site, "sku=C&sku=A&sku=NONE")
        pages = [await poller.poll(limit=2), await poller.poll(limit=2)]
        assert [[item["sku"] for item in page["items"]] for page in pages] == [["A", "C"], ["NONE"]]
        assert poller.items["NONE"]["state"] == "UNKNOWN_SKU"

    async def test_a_key_is_told_of_its_own_merchant_only(
        self, site: Site, store: Store, redis: Redis
    ) -> None:
        rival = await add_merchant(str(site.hub.settings.redis.url))
        await eventually(lambda: site.hub.directory.find_agent(rival.key) is not None)
        store.change("SECRET")
        Store(redis, rival.name).name_history("another").change("THEIRS")
        told = await Poller(site, key=rival.key).poll()
        assert [item["sku"] for item in told["items"]] == ["THEIRS"]


class TestChanges:
    async def test_changes_are_told_once_with_the_latest_state_and_the_bad_news_first(
        self, site: Site, store: Store
    ) -> None:
        poller = Poller(site)
        await poller.poll()
        for sku, level in (("A", 4), ("B", 5), ("A", 3), ("B", 0)):
            store.change(sku, level)
        told = await poller.poll()
        assert [(item["sku"], item["ver"], item["available"]) for item in told["items"]] == [
            ("B", 2, 0),
            ("A", 2, 3),
        ]
        assert (told["prev"], told["seq"], told["snapshot"]) == (0, 4, None)
        again = await poller.poll()
        assert (again["prev"], again["seq"], again["items"], again["more"]) == (4, 4, [], False)

    async def test_no_more_skus_than_the_limit_and_no_time_before_the_last(
        self, site: Site, store: Store
    ) -> None:
        poller = Poller(site)
        await poller.poll()
        for number in range(7):
            store.change(f"S{number}", number)
        told = [await poller.poll(limit=3) for _ in range(3)]
        assert [len(one["items"]) for one in told] == [3, 3, 1]
        assert [one["more"] for one in told] == [True, True, False]
        assert poller.broken == []

    async def test_only_what_the_filter_names_is_told(self, site: Site, store: Store) -> None:
        named, prefixed = Poller(site, "sku=A-1&sku=B-1"), Poller(site, "prefix=A-")
        for poller in (named, prefixed):
            await poller.poll()
        for sku in ("C-1", "B-1", "A-2", "A-1", *(f"X-{number}" for number in range(20))):
            store.change(sku)
        for poller in (named, prefixed):
            await poller.catch_up()
        assert set(named.levels) == {"A-1", "B-1"}
        assert set(prefixed.levels) == {"A-1", "A-2"}
        assert named.broken == prefixed.broken == []

    async def test_a_position_serves_the_stream_and_the_other_way_round(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")
        poller = Poller(site)
        await poller.poll()
        store.change("TEE", 4)
        headers = {"Authorization": f"Bearer {site.merchant.key}", "Last-Event-ID": poller.position}
        async with site.session.get(f"{site.url}/v1/feed", headers=headers) as response:
            client = Client(response)
            assert (await client.next()).data["resume"] == "replay"
            missed = await client.next()
        assert missed.skus == ["TEE"]
        store.change("CAP")
        poller.position = missed.id or ""
        told = await poller.poll()
        assert [item["sku"] for item in told["items"]] == ["CAP"]

    @pytest.mark.parametrize("seed", range(12))
    async def test_whatever_the_limits_a_poller_comes_to_the_state_that_is(
        self, site: Site, store: Store, redis: Redis, seed: int
    ) -> None:
        chance = random.Random(seed)
        every = {f"{letter}{number}" for letter in "AB" for number in range(8)}
        query, watched = chance.choice(
            [
                ("", every),
                ("prefix=A", {sku for sku in every if sku.startswith("A")}),
                ("sku=A0&sku=A1&sku=B2", {"A0", "A1", "B2"}),
            ]
        )
        poller = Poller(site, query)
        states: dict[int, dict[str, int]] = {0: {}}
        for _ in range(60):
            for _ in range(chance.choice([0, 0, 1, 3, 12])):
                sku, level = f"{chance.choice('AB')}{chance.randrange(8)}", chance.randrange(1, 50)
                seq = store.change(sku, level)
                states[seq] = {**states[seq - 1], sku: level}
            if chance.random() < 0.05:
                redis.xtrim(MerchantKeys(store.merchant).feed, maxlen=4, approximate=False)
            told = await poller.poll(limit=chance.choice([1, 2, 3, 5, 100]))
            if told and not told["more"]:
                assert poller.seq is not None
                state = {sku: level for sku, level in states[poller.seq].items() if sku in watched}
                known = {sku: item for sku, item in poller.items.items() if item["state"] != "UNKNOWN_SKU"}
                assert {sku: item["available"] for sku, item in known.items()} == state
        await poller.catch_up(limit=2)
        assert poller.seq == store.seq
        assert poller.broken == []


class TestWaiting:
    async def test_a_poll_is_answered_by_the_change_that_it_waits_for(self, site: Site, store: Store) -> None:
        poller = Poller(site, "sku=TEE")
        first = await poller.poll()
        asked = asyncio.create_task(poller.poll(wait_ms=30_000))
        await waiting(site)
        store.change("CAP")
        await eventually(lambda: site.hub.feed._follower.tails[0].position == store.seq)
        assert not asked.done()
        store.change("TEE", 2)
        told = await asyncio.wait_for(asked, 5)
        assert [item["sku"] for item in told["items"]] == ["TEE"]
        assert (told["prev"], told["seq"]) == (first["seq"], store.seq)
        assert told["asof"] > told["st"]

    async def test_the_answer_comes_when_the_time_is_over_and_is_of_that_moment(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")
        poller = Poller(site, "sku=TEE")
        await poller.poll()
        store.change("CAP")
        told = await poller.poll(wait_ms=150)
        assert told["items"] == []
        assert (told["prev"], told["seq"]) == (1, 2)
        assert told["asof"] >= told["st"] + 150

    async def test_nobody_waits_longer_than_the_longest(self, redis_url: str) -> None:
        async with running_hub(redis_url, works=False, feed={"wait_max_ms": 100}) as site:
            poller = Poller(site)
            await poller.poll()
            told = await asyncio.wait_for(poller.poll(wait_ms=30_000), 5)
        assert told["items"] == []
        assert told["asof"] >= told["st"] + 100

    async def test_who_asks_for_a_bound_does_not_wait_until_it_is_over(self, site: Site) -> None:
        poller = Poller(site, "bound_ms=500")
        await poller.poll()
        told = await asyncio.wait_for(poller.poll(wait_ms=30_000), 5)
        assert (told["bound_ms"], told["items"]) == (500, [])
        assert told["asof"] >= told["st"] + 166

    async def test_the_answer_comes_in_the_time_that_the_caller_has(self, site: Site) -> None:
        poller = Poller(site)
        await poller.poll()
        headers = {"Authorization": f"Bearer {site.merchant.key}", "Request-Timeout-Ms": "600"}
        asked = site.ask("GET", f"/v1/changes?wait_ms=30000&since={poller.position}", headers=headers)
        heard = await asyncio.wait_for(asked, 5)
        assert heard.status == 200

    async def test_a_stopping_process_answers_those_who_wait(self, site: Site) -> None:
        poller = Poller(site)
        await poller.poll()
        asked = asyncio.create_task(poller.poll(wait_ms=30_000))
        await waiting(site)
        await site.hub.feed.drain(10)
        assert (await asyncio.wait_for(asked, 5))["items"] == []
        assert (await poller.ask()).status == 503

    async def test_a_revoked_key_waits_no_longer(self, site: Site) -> None:
        poller = Poller(site)
        await poller.poll()
        asked = asyncio.create_task(poller.ask(wait_ms=30_000))
        await waiting(site)
        [agent] = site.hub.directory.agents_of(site.merchant.name)
        await agents.revoke_agent(site.hub.redis, agent.name)
        heard = await asyncio.wait_for(asked, 5)
        assert (heard.status, heard.problem["code"]) == (401, "key_unknown")

    async def test_who_leaves_while_waiting_leaves_nothing_behind(self, site: Site) -> None:
        poller = Poller(site)
        await poller.poll()
        asked = asyncio.create_task(poller.poll(wait_ms=30_000))
        await waiting(site)
        asked.cancel()
        await eventually(lambda: site.hub.feed.readers == 0 and not site.hub.feed._seats)


class TestBeginningAnew:
    @pytest.mark.parametrize(
        "since",
        [
            "nonsense",
            "another-history:1:{mark}",
            EPOCH + ":1:0123456789abcdef",
            EPOCH + ":99:{mark}",
            EPOCH + ":1:{mark}/1",
            EPOCH + ":1:{mark}/x/QQ",
            EPOCH + ":1:{mark}/1/%7B%7D",
            EPOCH + ":1:{mark}/1/_w",
        ],
    )
    async def test_a_position_that_cannot_be_continued_is_refused(
        self, site: Site, store: Store, since: str
    ) -> None:
        store.change("TEE")
        poller = Poller(site)
        await poller.poll()
        poller.position = since.format(mark=poller.position.rpartition(":")[2])
        heard = await poller.ask()
        assert (heard.status, heard.problem["code"]) == (410, "cursor_too_old")

    async def test_trimmed_changes_are_never_passed_over(
        self, site: Site, store: Store, redis: Redis
    ) -> None:
        store.change("TEE")
        poller = Poller(site)
        await poller.poll()
        for number in range(20):
            store.change(f"S{number}")
        redis.xtrim(MerchantKeys(store.merchant).feed, maxlen=10, approximate=False)
        assert await poller.poll() == {}
        await poller.catch_up()
        assert len(poller.levels) == 21

    async def test_a_renamed_history_ends_pages_and_positions(self, site: Site, store: Store) -> None:
        for sku in "ABC":
            store.change(sku)
        pages, changes = Poller(site), Poller(site)
        await pages.poll(limit=1)
        await changes.poll()
        store.name_history("history-two")
        for poller in (pages, changes):
            await poller.catch_up()
            assert (poller.resets, set(poller.levels), poller.broken) == (1, {"A", "B", "C"}, [])

    async def test_a_decision_of_the_merchant_shows_everything_anew_even_to_who_waits(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE", 10)
        poller = Poller(site)
        await poller.poll()
        asked = asyncio.create_task(poller.poll(wait_ms=30_000))
        await waiting(site)
        hub, merchant = site.hub, site.merchant.name
        form = policies.read_document(b'{"rules": [{"set": {"buffer_units": 4}}]}')
        await policies.replace(hub.redis, merchant, form, expected=0, author="anna", settings=hub.settings)
        await hub.policies.refresh(merchant)
        assert await asyncio.wait_for(asked, 5) == {}
        await poller.catch_up()
        assert poller.levels == {"TEE": 6}

    @pytest.mark.fault
    async def test_a_store_that_lost_changes_is_noticed(self, own_valkey: Callable[..., Valkey]) -> None:
        server = own_valkey(appendonly="no")
        with server.client() as client:
            async with running_hub(server.url, works=False, feed={"read_block_ms": 20}) as site:
                store = Store(client, site.merchant.name).name_history()
                store.change("KEPT")
                await asyncio.to_thread(client.save)
                poller = Poller(site)
                await poller.poll()
                store.change("LOST")
                await poller.poll()
                assert set(poller.levels) == {"KEPT", "LOST"}
                await asyncio.to_thread(server.restart)

                async def came_back() -> bool:
                    heard = await poller.ask()
                    assert heard.status in {200, 410, 503}, heard
                    assert heard.status != 200, "a position that was lost was continued"
                    return heard.status == 410

                await eventually(came_back)
                poller.position = ""
                await poller.catch_up()
        assert set(poller.levels) == {"KEPT"}

    @pytest.mark.fault
    async def test_a_store_that_hangs_makes_no_poll_tell_a_time(
        self, own_valkey: Callable[..., Valkey]
    ) -> None:
        server = own_valkey()
        redis = {"command_timeout_ms": 500}
        async with running_hub(server.url, works=False, redis=redis) as site:
            poller = Poller(site)
            await poller.poll()
            asked = asyncio.create_task(poller.ask(wait_ms=300))
            await waiting(site)
            server.freeze()
            answers = [await asyncio.wait_for(asked, 10), await poller.ask()]
            server.thaw()

            async def is_answered() -> bool:
                return (await poller.ask()).status == 200

            await eventually(is_answered)
            told = await poller.poll()
        assert [heard.status for heard in answers] == [503, 503]
        assert told["asof"] >= told["st"]


class TestSets:
    async def test_a_set_is_polled_and_a_changed_one_begins_anew(self, site: Site, store: Store) -> None:
        headers = {"Authorization": f"Bearer {site.merchant.key}"}
        made = await site.ask("POST", "/v1/feed/sets", json={"skus": ["A", "B"]}, headers=headers)
        set_id = json.loads(made.body)["set"]
        poller = Poller(site, f"set={set_id}")
        await poller.poll()
        for sku in "ABC":
            store.change(sku, 4)
        told = await poller.catch_up()
        assert (told["rev"], poller.levels) == (1, {"A": 4, "B": 4})
        await site.ask("PATCH", f"/v1/feed/sets/{set_id}", json={"add": ["C"]}, headers=headers)
        told = await poller.catch_up()
        assert (told["rev"], poller.resets, poller.levels) == (2, 1, {"A": 4, "B": 4, "C": 4})

    async def test_versions_alone_begin_with_nothing_and_tell_what_has_changed(
        self, site: Site, store: Store
    ) -> None:
        store.change("TEE")
        poller = Poller(site, "mode=inv")
        first = await poller.ask()
        told = json.loads(first.body)
        assert (told["inv"], told["more"], told["snapshot"]) == ([], False, {"part": 0, "last": True})
        store.change("TEE")
        store.change("CAP")
        again = json.loads((await poller.ask(since=told["id"])).body)
        assert (sorted(again["inv"]), "items" in again) == ([["CAP", 1], ["TEE", 2]], False)


class TestRefusals:
    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=501",
            "limit=x",
            "wait_ms=-1",
            "bound_ms=fast",
            "sku=A&prefix=A",
            "mode=other",
            "from=x",
            "skus=A",
            "sku=",
        ],
    )
    async def test_a_question_that_does_not_fit_is_refused(self, site: Site, query: str) -> None:
        heard = await Poller(site, query).ask()
        assert (heard.status, heard.problem["code"]) == (422, "invalid_request")

    async def test_polls_take_tokens_and_seats(self, redis_url: str) -> None:
        async with running_hub(
            redis_url, works=False, limits={"agent_rate_per_s": 1, "agent_burst": 2}
        ) as site:
            answers = [(await Poller(site).ask()).status for _ in range(4)]
        assert answers[:2] == [200, 200]
        assert answers[3] == 429

    async def test_waiting_polls_are_counted_as_readers(self, redis_url: str) -> None:
        async with running_hub(redis_url, works=False, feed={"readers_per_agent": 1}) as site:
            poller = Poller(site)
            await poller.poll()
            asked = asyncio.create_task(poller.poll(wait_ms=30_000))
            await waiting(site)
            heard = await poller.ask()
            assert (heard.status, heard.problem["code"]) == (429, "rate_limited")
            asked.cancel()


async def test_polls_are_counted_by_how_they_end(site: Site, store: Store) -> None:
    outcomes = ("snapshot", "unchanged", "changed", "too_old")

    def counted() -> list[float]:
        return [metrics.feed_polls.labels(outcome)._value.get() for outcome in outcomes]

    before = counted()
    store.change("TEE")
    poller = Poller(site)
    await poller.poll()
    await poller.poll()
    store.change("TEE")
    await poller.poll()
    poller.position = "nonsense"
    await poller.ask()
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1, 1]
