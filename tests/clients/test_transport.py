"""What the client does when a hub ends, refuses, stammers or floods it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from synchub_client import FeedClient, FeedClosed, HubRefused, HubUnavailable, Stale
from tests.clients.scripted import Refusal, ScriptedHub, Wire, item, now_ms, starting
from tests.support.wait import a_turn, eventually, lasting

if TYPE_CHECKING:
    from tests.clients.scripted import Act


async def steady(wire: Wire) -> None:
    """Greet, tell everything, and go on."""
    await wire.hello("snapshot")
    await wire.snapshot(item(), seq=1)
    await wire.beat(1)


async def resumed(wire: Wire) -> None:
    """Go on where the client was."""
    await wire.hello("replay")
    await wire.tell(1, 4, item(ver=4, available=4))
    await wire.beat(4)


def refusing(status: int, body: dict[str, Any] | None = None, **headers: str) -> Act:
    async def act(wire: Wire) -> None:
        del wire
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        raise Refusal(web.json_response(body or {}, status=status, headers=named))

    return act


async def follow(hub: ScriptedHub, available: int = 5) -> None:
    """Follow until the client tells a number."""
    async with FeedClient(hub.url, "sak_x", bound_ms=500) as feed:
        await told(feed, available)


async def told(feed: FeedClient, available: int) -> None:
    def is_told() -> bool:
        try:
            return feed.get("TEE").available == available
        except Stale:
            return False

    await eventually(is_told, what=f"{available}")


@pytest.mark.parametrize("ends", ["bye", "cut", "gap", "nonsense", "silence"])
async def test_whatever_ends_a_connection_the_next_goes_on_from_its_position(ends: str) -> None:
    async def first(wire: Wire) -> None:
        await wire.hello("snapshot")
        await wire.snapshot(item(), seq=1)
        match ends:
            case "bye":
                await wire.say("bye", reason="drain", retry_ms=10, reconnect=True)
            case "gap":
                await wire.tell(3, 4, item(ver=4, available=3))
            case "nonsense":
                await wire.write(b"event: upd\ndata: {\n\n")
            case "silence":
                await lasting(30)
            case _:
                pass

    async with ScriptedHub([starting(first), starting(resumed)]).running() as hub:
        await follow(hub, 4)
    assert hub.cursors[:2] == ["", "e:1:m"]


async def test_a_client_cut_off_in_the_middle_of_a_snapshot_asks_for_everything_again() -> None:
    async def half(wire: Wire) -> None:
        await wire.hello("reset")
        await wire.say("reset", "", epoch="f", reason="epoch")
        await wire.say("snap", part=0, items=[item(available=1)])

    async def cut(wire: Wire) -> None:
        await wire.hello("snapshot")
        await wire.snapshot(item(), seq=1)

    async with ScriptedHub([starting(cut), starting(half), starting(steady)]).running() as hub:
        await eventually_came(hub, 3)
    assert hub.cursors[:3] == ["", "e:1:m", ""]


async def eventually_came(hub: ScriptedHub, times: int) -> None:
    async with FeedClient(hub.url, "sak_x", bound_ms=500) as feed:
        await eventually(lambda: len(hub.cursors) >= times, what=f"connection {times}")
        await told(feed, 5)


async def test_the_hub_is_given_the_time_it_asks_for() -> None:
    acts = [refusing(429, {"code": "rate_limited"}, Retry_After="1"), starting(steady)]
    async with ScriptedHub(acts).running() as hub:
        await follow(hub)
    assert hub.came_at[1] - hub.came_at[0] >= 1


@pytest.mark.parametrize("status", [401, 403, 404, 422, 307])
async def test_a_refusal_that_will_not_change_ends_the_feed(status: int) -> None:
    about = {"code": "nope", "detail": "Because."}
    async with ScriptedHub([refusing(status, about, Location="http://127.0.0.1:1/")]).running() as hub:
        async with FeedClient(hub.url, "sak_x") as feed:
            with pytest.raises(HubRefused, match=f"{status} nope: Because.") as refused:
                await feed.ready()
        assert (refused.value.status, refused.value.code, len(hub.cursors)) == (status, "nope", 1)


async def test_a_page_that_is_no_feed_ends_it_too() -> None:
    async def page(wire: Wire) -> None:
        wire.response.content_type = "text/html"
        await wire.response.prepare(wire.request)

    async with ScriptedHub([page]).running() as hub, FeedClient(hub.url, "sak_x") as feed:
        with pytest.raises(HubRefused, match="no event stream"):
            await feed.ready()


async def test_a_slow_loop_holds_one_change_per_sku() -> None:
    many, go_on = 3000, asyncio.Event()

    async def flood(wire: Wire) -> None:
        await wire.hello("snapshot")
        await wire.snapshot(item(), item("CAP"), seq=1)
        await go_on.wait()
        for seq in range(1, many):
            await wire.tell(seq, seq + 1, item(ver=seq + 1, available=seq))
        await wire.beat(many)

    async with (
        ScriptedHub([starting(flood)]).running() as hub,
        FeedClient(hub.url, "k", bound_ms=500) as feed,
    ):
        await feed.ready()
        changes = feed.changes()
        go_on.set()
        await told(feed, many - 1)
        assert len(changes._waiting) == 1
        change = await anext(changes)
        assert change.item is not None
        assert change.item.ver == many


async def test_loops_end_with_the_feed() -> None:
    async with ScriptedHub([starting(steady)]).running() as hub:
        async with FeedClient(hub.url, "sak_x") as feed:
            await feed.ready()
            loop = asyncio.create_task(collected(feed))
            await a_turn()
        async with asyncio.timeout(5):
            await loop
        with pytest.raises(FeedClosed):
            feed.get("TEE")


async def collected(feed: FeedClient) -> list[str]:
    return [change.sku async for change in feed]


class TestReadingThrough:
    async def test_one_question_serves_all_who_wait_and_outlives_who_gives_up(self) -> None:
        answer = {**item("CAP", available=7), "epoch": "e", "seq": 1}
        hub = ScriptedHub([starting(steady)], answers=[web.json_response(answer)])
        async with hub.running(), FeedClient(hub.url, "sak_x", skus=["TEE"]) as feed:
            await feed.ready()
            first = asyncio.create_task(feed.read("CAP"))
            second = asyncio.create_task(feed.read("CAP"))
            await a_turn()
            first.cancel()
            assert (await second).available == 7
            assert hub.asked == ["CAP"]

    async def test_an_answer_from_behind_is_asked_for_again_and_then_given_up(self) -> None:
        answer = {**item("CAP"), "epoch": "e", "seq": 0}
        hub = ScriptedHub([starting(steady)], answers=[web.json_response(answer)])
        async with hub.running(), FeedClient(hub.url, "sak_x", skus=["TEE"]) as feed:
            await feed.ready()
            with pytest.raises(Stale):
                await feed.read("CAP")
            assert hub.asked == ["CAP", "CAP"]

    async def test_a_hub_that_is_busy_leaves_it_stale_and_says_why(self) -> None:
        hub = ScriptedHub([starting(steady)], answers=[web.json_response({"code": "busy"}, status=503)])
        async with hub.running(), FeedClient(hub.url, "sak_x", skus=["TEE"]) as feed:
            await feed.ready()
            with pytest.raises(Stale) as refused:
                await feed.read("CAP")
            assert isinstance(refused.value.__cause__, HubUnavailable)

    async def test_a_key_without_the_scope_is_told_so(self) -> None:
        answer = web.json_response({"code": "not_allowed", "detail": "Lacks stock:read."}, status=403)
        hub = ScriptedHub([starting(steady)], answers=[answer])
        async with hub.running(), FeedClient(hub.url, "sak_x", skus=["TEE"]) as feed:
            await feed.ready()
            with pytest.raises(HubRefused, match="stock:read"):
                await feed.read("CAP")


@pytest.mark.parametrize(
    ("choices", "error"),
    [
        ({"skus": "TEE"}, TypeError),
        ({"skus": []}, ValueError),
        ({"skus": ["A"], "prefix": "B"}, ValueError),
        ({"bound_ms": 499}, ValueError),
        ({"mode": "all"}, ValueError),
    ],
)
def test_a_feed_that_makes_no_sense_is_not_made(choices: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        FeedClient("http://127.0.0.1", "k", **choices)


def test_a_feed_that_was_not_entered_answers_nothing() -> None:
    with pytest.raises(FeedClosed):
        FeedClient("http://127.0.0.1", "k").get("TEE")


async def test_the_age_of_an_item_counts_from_what_the_hub_has_verified() -> None:
    async def unverified(wire: Wire) -> None:
        await wire.hello("snapshot")
        await wire.snapshot(item(), seq=1)
        asof = now_ms()
        while True:
            await wire.say("hb", "e:1:m", prev=1, seq=1, asof=asof, rev=1)
            await lasting(0.05)

    hub = ScriptedHub([starting(unverified)])
    async with hub.running(), FeedClient(hub.url, "sak_x", bound_ms=500) as feed:
        await feed.ready()
        await eventually(lambda: not feed.is_fresh, what="a refusal")
        assert feed.problem is None
        with pytest.raises(Stale):
            feed.get("TEE")
