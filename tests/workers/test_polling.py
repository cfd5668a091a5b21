"""One turn of polling: what it brings, where the next one begins, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import orjson
import pytest

from synchub import keyspace, sync_keys
from synchub.connector_kit.contract import Page, Record
from synchub.connector_kit.events import Delta, Level, OrderLine, OrderStatus, Scale, Version
from synchub.errors import CursorRefused, OutcomeUnknown, UpstreamFailed, UpstreamThrottled
from synchub.ingress import operations as ingress
from synchub.kit.clock import now_ms
from synchub.polling import operations as polling
from synchub.polling.model import Mode
from synchub.stock import operations as stock
from synchub.stock import store as stock_store
from synchub.stock.rules import Circumstances, rows_of
from tests.support.polled import Platform, a_desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.events import StockEvent
    from synchub.lua import Executes
    from synchub.sync_lag.model import PollFinding
    from tests.support.polled import Desk


async def test_everything_is_read_and_then_only_what_is_new(redis_url: str) -> None:
    platform = Platform()
    for number in range(1, 8):
        platform.has(number, item=f"TEE-{number}")
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        assert platform.asked == ["", "3", "6"]
        assert [await desk.number(f"TEE-{number}") for number in (1, 7)] == [1, 7]
        platform.has(40, item="TEE-1")
        await desk.poll()
        assert platform.asked == ["", "3", "6", "7"]
        assert await desk.number("TEE-1") == 40


async def test_a_poll_that_has_seen_everything_makes_it_as_fresh_as_its_beginning(redis_url: str) -> None:
    platform = Platform(page_size=1)
    platform.has(1, item="TEE-1", age_ms=60_000)
    platform.has(2, item="TEE-2")
    async with a_desk(redis_url, platform) as desk:
        began_ms = now_ms()
        await desk.poll()
        told = await desk.hub.redis.execute("HGET", desk.merchant.keys.watermarks, desk.merchant.account)
        assert began_ms <= int(told) <= now_ms()
        assert (await desk.state()).complete_to_ms == int(told)


async def test_a_turn_that_is_cut_short_is_not_complete_and_goes_on_at_once(redis_url: str) -> None:
    platform = Platform(page_size=1)
    for number in range(5):
        platform.has(number, item=f"TEE-{number}")
    async with a_desk(redis_url, platform, polling={"pages_max": 2}) as desk:
        await desk.poll()
        state = await desk.state()
        assert (state.has_more, state.complete_to_ms, platform.asked) == (True, 0, ["", "1"])
        assert state.due_ms <= now_ms()
        await desk.poll()
        await desk.poll()
        state = await desk.state()
        assert (state.has_more, platform.asked) == (False, ["", "1", "2", "3", "4"])
        assert state.complete_to_ms > 0


@pytest.mark.parametrize("steps", range(4))
async def test_a_crash_at_any_step_loses_and_doubles_nothing(redis_url: str, steps: int) -> None:
    platform = Platform(page_size=5)
    platform.has(100)
    async with a_desk(redis_url, platform, ingress={"batch_max": 2}) as desk:
        await desk.poll()
        for _ in range(6):
            platform.moves(-1)
        await _crash_after(desk, steps)
        await desk.poll()
        await desk.poll()
        assert await desk.number() == 94


async def test_the_place_is_in_the_last_step_of_a_page(redis_url: str) -> None:
    platform = Platform(page_size=5)
    for number in range(5):
        platform.has(number, item=f"TEE-{number}")
    async with a_desk(redis_url, platform, ingress={"batch_max": 2}) as desk:
        await _crash_after(desk, 2)
        assert await desk.number("TEE-3") == 3, "two steps of three have been done"
        assert await _place(desk) is None


async def test_a_worker_that_was_away_does_not_put_the_place_back(redis_url: str) -> None:
    platform = Platform(page_size=1)
    platform.has(5)
    async with a_desk(redis_url, platform) as desk:
        account = desk.hub.directory.find_account(desk.merchant.account)
        assert account is not None
        hub = desk.hub
        connector = hub.connectors["standard"]
        async with polling.turn(hub.redis, hub.upstream, account, connector, hub.settings) as frozen:
            assert frozen is not None
            pages = frozen.pages()
            page = await anext(pages)
            await _let_the_lease_end(desk)
            platform.has(7)
            await desk.poll()
            place = await _place(desk)
            platform.asked.clear()
            await frozen.apply(page, frozen.normalize(page))
            assert frozen.is_overtaken
            assert [page async for page in pages] == [], "it asks for no more"
        assert await _place(desk) == place
        assert await desk.number() == 7
        assert (await desk.state()).failures == 0


async def test_only_one_worker_polls_an_account(redis_url: str) -> None:
    platform = Platform()
    async with a_desk(redis_url, platform) as desk:
        account = desk.hub.directory.find_account(desk.merchant.account)
        assert account is not None
        hub = desk.hub
        connector = hub.connectors["standard"]
        async with polling.turn(hub.redis, hub.upstream, account, connector, hub.settings) as first:
            assert first is not None
            assert await desk.poll() is False
        assert platform.asked == []


async def test_a_change_told_by_a_delivery_and_a_poll_counts_once(redis_url: str) -> None:
    platform = Platform()
    platform.has(50)
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        sold = OrderLine(order="1001", line="1", item="TEE", quantity=3, status=OrderStatus.PLACED)
        await _deliver(desk, sold)
        platform.tells(sold)
        platform.tells(sold)
        await desk.poll()
        assert await desk.number() == 47


async def test_a_movement_told_by_both_counts_once_by_its_key(redis_url: str) -> None:
    platform = Platform()
    platform.has(50)
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        moved = Delta(item="TEE", location="WH1", amount=-3, reason="sold", key="move-1")
        await _deliver(desk, moved)
        platform.tells(moved)
        await desk.poll()
        assert await desk.number() == 47


async def test_a_page_that_is_older_than_a_delivery_does_not_win(redis_url: str) -> None:
    platform = Platform()
    async with a_desk(redis_url, platform) as desk:
        await _deliver(desk, _level(9, version=9))
        platform.tells(_level(4, version=4))
        await desk.poll()
        assert await desk.number() == 9


@pytest.mark.parametrize("is_timed", [True, False])
async def test_a_cursor_that_is_refused_begins_at_a_time_or_with_everything(
    redis_url: str, is_timed: bool
) -> None:
    platform = Platform(page_size=1, is_timed=is_timed)
    platform.has(1, item="OLD", age_ms=3_600_000)
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        platform.problems = [CursorRefused("It has expired.")]
        platform.has(8, item="NEW")
        await desk.poll()
        assert await desk.number("NEW") == 8
        assert platform.asked == (["", "1", "1"] if is_timed else ["", "1", "", "1"])


async def test_pages_that_go_in_circles_end_as_a_failure(redis_url: str) -> None:
    platform = Platform()
    level = Record(key="a", events=(_level(5, version=1),), topic="stock.changed")
    platform.pages = {
        "": Page(records=(level,), cursor="x", is_last=False),
        "x": Page(records=(), cursor="", is_last=False),
    }
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        state = await desk.state()
        assert state.failures == 1
        assert "lead back" in state.last_error
        assert len(platform.asked) < 6
        assert await desk.number() == 5


async def test_after_a_loss_the_poll_begins_before_it(redis_url: str) -> None:
    platform = Platform()
    platform.has(1, item="OLD", age_ms=3_600_000)
    platform.has(2, item="RECENT", age_ms=60_000)
    async with a_desk(redis_url, platform, polling={"loss_bound_ms": 600_000}) as desk:
        await desk.poll()
        await desk.hub.redis.execute("HSET", desk.merchant.keys.head, "epoch", "another")
        await desk.poll()
        assert platform.asked == ["", "1"], "again from ten minutes before the last complete poll"
        await desk.poll()
        assert platform.asked[-1] == "2", "and then from where that has ended"


async def test_a_history_that_is_renamed_in_the_middle_of_a_page_is_noticed(redis_url: str) -> None:
    platform = Platform()
    platform.has(3, age_ms=1000)
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        platform.has(4)
        real = ingress.waiting_since_ms

        async def renamed(redis: Executes) -> int | None:
            await redis.execute("HSET", desk.merchant.keys.head, "epoch", "another")
            return await real(redis)

        with mock.patch("synchub.polling.turns.ingress.waiting_since_ms", renamed):
            await desk.poll()
        assert await desk.number() == 3, "what was read in another history is not applied"
        await desk.poll()
        assert await desk.number() == 4


async def test_what_cannot_be_taken_in_is_put_aside_and_can_be_retried(redis_url: str) -> None:
    platform = Platform()
    platform.has(5)
    platform.tells(Level(item="TEE", location="WH1", quantity=9, version=Version(scale=Scale.TIME, number=9)))
    platform.has(7, item="MUG")
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        assert await desk.number("MUG") == 7
        [aside] = await ingress.list_aside(desk.hub.client, keyspace.quarantine())
        assert "another scale" in aside.reason
        assert orjson.loads(aside.queued.delivery.body)[0][2] == "TEE"
        assert (await desk.state()).failures == 0
        understood = ingress.normalize(
            aside.queued, desk.hub.directory, desk.hub.connectors, desk.hub.settings.ingress
        )
        assert understood.rows[0][2] == "TEE"  # type: ignore[union-attr]  # nothing else has rows
        await desk.poll()
        assert len(await ingress.list_aside(desk.hub.client, keyspace.quarantine())) == 1


async def test_a_fault_of_ours_is_tried_again_and_put_aside_in_the_end(redis_url: str) -> None:
    platform = Platform()
    platform.has(5)
    platform.has(7, item="MUG")
    async with a_desk(redis_url, platform, ingress={"tries_max": 2}) as desk:
        # A text where a hash should be: the script cannot work on this SKU.
        await desk.hub.redis.execute("SET", desk.merchant.keys.sku("TEE"), "broken")
        await desk.poll()
        state = await desk.state()
        assert state.failures == 1
        assert "could not apply" in state.last_error
        assert await _place(desk) is None
        await desk.poll()
        assert (await desk.state()).failures == 0
        assert await desk.number("MUG") == 7
        [aside] = await ingress.list_aside(desk.hub.client, keyspace.dead_letters())
        assert aside.queued.delivery.account == desk.merchant.account
        await desk.hub.redis.execute("DEL", desk.merchant.keys.sku("TEE"))


async def test_a_time_in_the_future_is_quarantined(redis_url: str) -> None:
    platform = Platform()
    far_us = (now_ms() + 3_600_000) * 1000
    platform.tells(
        Level(item="TEE", location="WH1", quantity=5, version=Version(scale=Scale.TIME, number=far_us))
    )
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        [aside] = await ingress.list_aside(desk.hub.client, keyspace.quarantine())
        assert "future" in aside.reason


async def test_a_failing_platform_is_left_alone_for_a_while(redis_url: str) -> None:
    platform = Platform(problems=[UpstreamFailed("It is ill."), UpstreamThrottled("Slow.", retry_after_s=77)])
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        state = await desk.state()
        assert (state.failures, state.last_error) == (1, "It is ill.")
        await desk.poll()
        state = await desk.state()
        assert state.failures == 2
        assert state.retry_ms > now_ms() + 70_000
        await desk.poll()
        assert (await desk.state()).failures == 0


async def test_a_connectors_own_fault_stays_with_its_account(redis_url: str) -> None:
    platform = Platform(problems=[KeyError("secret")])
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        assert (await desk.state()).last_error == "KeyError in the connector standard"


async def test_rows_that_cannot_be_used_are_told(redis_url: str) -> None:
    page = Page(records=(), cursor="1", is_last=True, refused=("A row has no SKU.",))
    platform = Platform(pages={"": page})
    async with a_desk(redis_url, platform) as desk:
        await desk.poll()
        state = await desk.state()
        assert (state.failures, "A row has no SKU." in state.last_error) == (0, True)


class TestFindings:
    async def test_a_first_import_says_nothing_about_deliveries(self, redis_url: str) -> None:
        platform = Platform()
        platform.has(5, age_ms=600_000)
        async with a_desk(redis_url, platform) as desk:
            [finding] = await _findings(desk)
            assert (finding.records, finding.unseen, finding.reached_end) == (0, 0, True)

    async def test_what_no_delivery_told_is_unseen(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            platform.has(5, age_ms=600_000)
            [finding] = await _findings(desk)
            assert (finding.records, finding.unseen) == (1, 1)
            assert finding.oldest_unseen_ms == (platform.records[0].changed_at_us or 0) // 1000

    async def test_what_a_delivery_has_told_is_not(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            record = platform.has(5)
            await _deliver(desk, *record.events)
            [finding] = await _findings(desk)
            assert (finding.records, finding.unseen) == (1, 0)

    async def test_what_a_delivery_has_told_and_is_still_to_be_fetched_is_not(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            platform.has(5, age_ms=600_000)
            platform.has(6, item="LOST", age_ms=600_000)
            await desk.hub.redis.execute(
                "ZADD", desk.merchant.keys.refetch(desk.merchant.account), now_ms() + 60_000, "TEE"
            )
            [finding] = await _findings(desk)
            assert (finding.records, finding.unseen) == (1, 1)

    async def test_what_may_wait_in_our_own_stream_is_not(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            await desk.hub.redis.execute("XADD", keyspace.ingest_stream(), f"{now_ms() - 5000}-0", "a", "x")
            platform.has(5, item="LATE", age_ms=20_000)
            platform.has(6, item="LOST", age_ms=600_000)
            [finding] = await _findings(desk)
            assert (finding.records, finding.unseen) == (1, 1)

    async def test_what_is_read_again_on_purpose_is_not_counted_again(self, redis_url: str) -> None:
        platform = Platform(overlap=2)
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            platform.has(5)
            assert [(one.records, one.unseen) for one in await _findings(desk)] == [(1, 1)]
            assert [(one.records, one.unseen) for one in await _findings(desk)] == [(0, 0)]

    async def test_a_failure_is_told_as_one(self, redis_url: str) -> None:
        platform = Platform(problems=[UpstreamFailed("It is ill.")])
        async with a_desk(redis_url, platform) as desk:
            [finding] = await _findings(desk)
            assert (finding.failed, finding.reached_end) == ("It is ill.", False)


class TestWishes:
    async def test_a_poll_that_is_asked_for_is_due_at_once_and_once(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            assert await _due(desk) == []
            await polling.poll_soon(desk.hub.redis, desk.merchant.name, desk.merchant.account)
            assert await _due(desk) == [desk.merchant.account]
            await desk.poll()
            assert await _due(desk) == []

    async def test_everything_is_read_again_when_that_is_wished(self, redis_url: str) -> None:
        platform = Platform(page_size=1)
        platform.has(1, item="TEE-1")
        platform.has(2, item="TEE-2")
        async with a_desk(redis_url, platform, polling={"pages_max": 1}) as desk:
            await desk.poll()
            await desk.poll()
            await polling.wish_sweep(desk.hub.redis, desk.merchant.name, desk.merchant.account)
            platform.asked.clear()
            await desk.wishes({"GONE": now_ms() - 5})
            await desk.poll()
            assert await desk.due() == {"GONE"}
            await desk.poll()
            assert platform.asked == ["", "1"]
            assert await desk.due() == set(), "it was read with everything else"
            assert not (await desk.state()).is_sweeping

    async def test_an_account_that_is_removed_leaves_nothing(self, redis_url: str) -> None:
        platform = Platform()
        async with a_desk(redis_url, platform) as desk:
            await desk.poll()
            await polling.poll_soon(desk.hub.redis, desk.merchant.name, desk.merchant.account)
            from synchub.accounts import store as accounts

            await accounts.forget_platform(desk.hub.redis, desk.merchant.name, desk.merchant.account)
            assert not await desk.hub.redis.execute("EXISTS", sync_keys.polls(desk.merchant.name))
            assert not await desk.hub.redis.execute("EXISTS", sync_keys.cursors(desk.merchant.name))


async def test_a_platform_that_posts_nothing_is_polled_in_full(redis_url: str) -> None:
    platform = Platform()
    async with a_desk(redis_url, platform, has_deliveries=False) as desk:
        await desk.poll()
        assert (await desk.state()).mode is Mode.FULL


async def _findings(desk: Desk) -> list[PollFinding]:
    """What one more poll tells of deliveries."""
    with mock.patch("synchub.sync_lag.operations.note_poll") as note:
        await desk.poll()
    return [call.args[2] for call in note.await_args_list]


async def _due(desk: Desk) -> list[str]:
    account = desk.hub.directory.find_account(desk.merchant.account)
    assert account is not None
    found = await polling.find_due(
        desk.hub.redis,
        {account.name: account},
        desk.hub.connectors,
        desk.hub.settings,
        first_ms={account.name: 0},
    )
    return [account.name for account, _ in found]


async def _deliver(desk: Desk, *events: StockEvent) -> None:
    op = f"delivery-{events!r}"
    about = Circumstances(
        account=desk.merchant.account, at_ms=now_ms(), is_read=False, op=op, cause=f"delivery:{op}"
    )
    await stock.apply(desk.hub.redis, desk.merchant.keys, rows_of(events, about), settings=desk.hub.settings)


def _level(quantity: int, *, version: int) -> Level:
    return Level(
        item="TEE",
        location="WH1",
        quantity=quantity,
        version=Version(scale=Scale.SEQUENCE, number=version),
    )


async def _place(desk: Desk) -> bytes | None:
    key = sync_keys.cursors(desk.merchant.name)
    stored: bytes | None = await desk.hub.redis.execute("HGET", key, desk.merchant.account)
    return stored


async def _let_the_lease_end(desk: Desk) -> None:
    await desk.hub.redis.execute("DEL", sync_keys.poll_lease(desk.merchant.name, desk.merchant.account))


async def _crash_after(desk: Desk, steps: int) -> None:
    """Poll until so many steps of the store have been done, and lose the answer of the last."""
    real = stock_store.apply_rows
    left = steps

    async def failing(*args: object, **rest: object) -> Sequence[object]:
        nonlocal left
        if left == 0:
            msg = "crashed"
            raise OutcomeUnknown(msg)
        left -= 1
        told: Sequence[object] = await real(*args, **rest)  # type: ignore[arg-type]  # handed through
        return told

    with mock.patch.object(stock_store, "apply_rows", failing), pytest.raises(OutcomeUnknown):
        await desk.poll()
