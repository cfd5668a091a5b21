"""The judge on a real store: what workers hand in, who judges, and what a crash costs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from synchub import metrics, sync_keys
from synchub.connector_kit.contract import HookState
from synchub.connector_kit.manifest import LimitsOffer, PollingOffer
from synchub.redis import CoalescingRedis
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag import store, watching
from synchub.sync_lag.model import Heard, HookFinding, PollFinding, Second, SyncState
from synchub.sync_lag.watching import LEASE_MS, TELL_EVERY_MS, Watcher
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import CONNECTORS, Merchant, add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from prometheus_client import Gauge

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.hub import Hub
    from synchub.lua import Executes
    from synchub.sync_lag.model import AccountSync

NOW: Final = 1_800_000_000_000
OF_ACCOUNTS: Final = (
    metrics.connector_state,
    metrics.connector_suspicion,
    metrics.source_freshest,
    metrics.canary_last_received,
    metrics.sync_coverage,
)
POLLED: Final = {
    "standard": replace(
        CONNECTORS["standard"],
        manifest=CONNECTORS["standard"].manifest.model_copy(
            update={
                "polling": PollingOffer(cursor="sweep", page_max=10),
                "limits": LimitsOffer(capacity=1, restored_per_s=1),
            }
        ),
    )
}


async def never(_view: AccountView, _connector: Connector) -> bool:
    return False


@pytest.fixture
async def merchant(redis_url: str) -> Merchant:
    return await add_merchant(redis_url)


@pytest.fixture
async def hub(redis_url: str, merchant: Merchant) -> AsyncIterator[Hub]:
    async with opened_hub(settings_with(redis_url)) as hub:
        await eventually(lambda: hub.directory.find_account(merchant.account) is not None, what="the account")
        yield hub


def a_judge(hub: Hub, connectors: Mapping[str, Connector] = POLLED) -> Watcher:
    return Watcher(hub.redis, hub.directory, connectors, hub.settings, never)


async def heard(hub: Hub, account: str, at_ms: int, *, count: int = 1, topic: str = "stock.changed") -> None:
    one = Heard(topic=topic, count=count, first_ms=at_ms, last_ms=at_ms, newest_ms=at_ms - 40)
    await store.note_heard(hub.redis, {account: Second(heard=(one,))}, behind_ms=0, receives=False)


async def known(hub: Hub, account: str) -> AccountSync:
    return (await sync_lag.read_accounts(hub.redis))[account]


async def stalled(hub: Hub, account: str, at_ms: int) -> None:
    finding = PollFinding(at_ms=at_ms, reached_end=True, records=1, unseen=1, oldest_unseen_ms=at_ms - 90_000)
    await sync_lag.note_poll(hub.redis, account, finding)


async def test_what_several_workers_heard_is_added_up(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    await judge.turn(NOW)
    for worker in range(3):
        await heard(hub, merchant.account, NOW + worker, count=2)
    await judge.turn(NOW + TELL_EVERY_MS)
    about = await known(hub, merchant.account)
    assert (about.deliveries, about.heard_ms, about.freshest_ms) == (6, NOW + 2, NOW + 2 - 40)
    assert about.state is SyncState.HEALTHY


async def test_an_account_is_known_from_the_first_look_on(hub: Hub, merchant: Merchant) -> None:
    assert await sync_lag.read_accounts(hub.redis) == {}
    await a_judge(hub).turn(NOW)
    about = await known(hub, merchant.account)
    assert (about.merchant, about.platform, about.deliveries) == (merchant.name, "standard", 0)


async def test_of_two_judges_one_judges_and_the_other_goes_on_when_it_dies(
    hub: Hub, merchant: Merchant
) -> None:
    first, second = a_judge(hub), a_judge(hub)
    assert await first.turn(NOW)
    assert not await second.turn(NOW)
    await heard(hub, merchant.account, NOW + 500)
    await first.turn(NOW + 1000)
    await heard(hub, merchant.account, NOW + 1500)
    # The first one is dead now; its lease runs out.
    await hub.redis.execute("PEXPIRE", sync_keys.watch_lease(), 1)
    await eventually(lambda: second.turn(NOW + 2000), what="the second judge")
    about = await known(hub, merchant.account)
    assert about.deliveries == 2
    assert not await first.turn(NOW + 3000)
    assert (await known(hub, merchant.account)).deliveries == 2


async def test_a_judge_that_was_frozen_writes_nothing_over_its_successors_work(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = a_judge(hub), a_judge(hub)
    await first.turn(NOW)
    read = store.observations
    times = iter([0, 60_000])
    succeeded = False

    async def frozen(redis: Executes, after: str, count: int) -> Any:
        nonlocal succeeded
        page = await read(redis, after, count)
        if not succeeded:
            succeeded = True
            await hub.redis.execute("DEL", sync_keys.watch_lease())
            await heard(hub, merchant.account, NOW + 900)
            with monkeypatch.context() as thawed:
                thawed.setattr(watching, "monotonic_ms", lambda: 0)
                await second.turn(NOW + TELL_EVERY_MS)
        return page

    monkeypatch.setattr(store, "observations", frozen)
    monkeypatch.setattr(watching, "monotonic_ms", lambda: next(times))
    assert not await first.turn(NOW + 2 * TELL_EVERY_MS)
    assert (await known(hub, merchant.account)).deliveries == 1


async def test_a_judge_that_dies_between_two_writes_costs_no_observation(
    hub: Hub, merchant: Merchant
) -> None:
    judge = a_judge(hub)
    for turn in range(20):
        judge = a_judge(hub)
        await hub.redis.execute("DEL", sync_keys.watch_lease())
        await heard(hub, merchant.account, NOW + 1000 * turn)
        assert await judge.turn(NOW + 1000 * turn)
    watch = judge._watches[merchant.account]
    assert watch.deliveries == 20
    assert watch.whole.rhythm.count == 20


async def test_a_judge_that_ends_in_good_order_leaves_its_place_at_once(hub: Hub, merchant: Merchant) -> None:
    first, second = a_judge(hub), a_judge(hub)
    await first.turn(NOW)
    await heard(hub, merchant.account, NOW + 1)
    await first.turn(NOW + 1000)
    await first.retire()
    assert await hub.redis.execute("XLEN", sync_keys.observed()) <= 1
    assert await second.turn(NOW + 2000)
    assert (await known(hub, merchant.account)).deliveries == 1


async def test_a_stalled_account_stays_so_under_the_next_judge(hub: Hub, merchant: Merchant) -> None:
    first, second = a_judge(hub), a_judge(hub)
    await first.turn(NOW)
    await stalled(hub, merchant.account, NOW + 100_000)
    for at_ms in range(NOW + 1000, NOW + 101_000, 9000):
        await first.turn(at_ms)
    await first.turn(NOW + 101_000)
    about = await known(hub, merchant.account)
    assert about.state is SyncState.STALLED
    assert "no delivery told" in about.evidence[0].sentence
    await hub.redis.execute("DEL", sync_keys.watch_lease())
    await second.turn(NOW + 102_000)
    again = await known(hub, merchant.account)
    assert (again.state, again.since_ms) == (SyncState.STALLED, about.since_ms)
    assert again.evidence


async def test_what_a_platform_says_is_judged(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    await judge.turn(NOW)
    finding = HookFinding(at_ms=NOW, state=HookState.DISABLED, sentence="It failed 19 times.")
    await sync_lag.note_hooks(hub.redis, merchant.account, finding)
    await judge.turn(NOW + 1000)
    about = await known(hub, merchant.account)
    assert about.state is SyncState.STALLED
    assert "It failed 19 times." in about.evidence[0].sentence


async def test_an_account_that_is_gone_is_forgotten(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    await store.write_verdicts(
        hub.redis, [replace(await _first_verdict(judge, hub, merchant), account="gone")], None
    )
    await hub.redis.execute("DEL", sync_keys.watch_lease())
    await a_judge(hub).turn(NOW + 1000)
    assert set(await sync_lag.read_accounts(hub.redis)) == {merchant.account}


async def _first_verdict(judge: Watcher, hub: Hub, merchant: Merchant) -> AccountSync:
    await judge.turn(NOW)
    return await known(hub, merchant.account)


async def test_memory_of_another_version_is_learned_anew(hub: Hub, merchant: Merchant) -> None:
    await store.write_memories(hub.redis, {merchant.account: {"version": 0, "odd": True}})
    await a_judge(hub).turn(NOW)
    assert (await known(hub, merchant.account)).deliveries == 0


async def test_observations_are_dropped_once_every_memory_contains_them(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    await judge.turn(NOW)
    for minute in range(1, 8):
        for second in range(5):
            await heard(hub, merchant.account, NOW + minute * 61_000 + second)
        await judge.turn(NOW + minute * 61_000 + 1000)
    assert await hub.redis.execute("XLEN", sync_keys.observed()) <= 5


async def test_a_store_that_is_away_is_waited_for(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = a_judge(hub)
    await heard(hub, merchant.account, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_verdicts", _fail)
        await judge._try_turn()
    assert await hub.redis.execute("EXISTS", sync_keys.watched()) == 0
    await judge._try_turn()
    assert (await known(hub, merchant.account)).deliveries == 1


async def _is_judged(hub: Hub) -> bool:
    return bool(await sync_lag.read_accounts(hub.redis))


async def _fail(*_args: object) -> None:
    raise RedisConnectionError


async def test_a_judge_that_is_told_to_stop_gives_its_place_back(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    task = asyncio.create_task(judge.run())
    await eventually(lambda: _is_judged(hub), what="a judgement")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await hub.redis.execute("EXISTS", sync_keys.watch_lease()) == 0


async def test_numbers_are_read_from_the_store(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    await judge.turn(NOW)
    await heard(hub, merchant.account, NOW + 10)
    await stalled(hub, merchant.account, NOW + 200_000)
    for at_ms in range(NOW + 1000, NOW + 204_000, 9000):
        await judge.turn(at_ms)
    await sync_lag.measure(hub.redis)
    state = metrics.connector_state
    assert state.labels(merchant.account, "stalled")._value.get() == 1
    assert state.labels(merchant.account, "healthy")._value.get() == 0
    assert metrics.connector_suspicion.labels(merchant.account)._value.get() >= 1
    assert metrics.sync_coverage.labels(merchant.account)._value.get() == 0
    assert metrics.source_freshest.labels(merchant.account)._value.get() == (NOW - 30) / 1000


async def test_nothing_more_is_said_of_an_account_that_is_gone(hub: Hub, merchant: Merchant) -> None:
    judge = a_judge(hub)
    verdict = replace(
        await _first_verdict(judge, hub, merchant), canary_ms=NOW, freshest_ms=NOW, found=4, unseen=1
    )
    await store.write_verdicts(hub.redis, [verdict], None)
    await sync_lag.measure(hub.redis)
    assert all(merchant.account in _accounts_of(gauge) for gauge in OF_ACCOUNTS)
    await store.forget(hub.redis, [merchant.account])
    await sync_lag.measure(hub.redis)
    assert [gauge for gauge in OF_ACCOUNTS if merchant.account in _accounts_of(gauge)] == []


async def test_what_an_account_had_lost_before_it_recovered_is_no_longer_told(
    hub: Hub, merchant: Merchant
) -> None:
    verdict = await _first_verdict(a_judge(hub), hub, merchant)
    await store.write_verdicts(hub.redis, [replace(verdict, found=4, unseen=1)], None)
    await sync_lag.measure(hub.redis)
    assert metrics.sync_coverage.labels(merchant.account)._value.get() == 0.75
    await store.write_verdicts(hub.redis, [replace(verdict, found=0, unseen=0)], None)
    await sync_lag.measure(hub.redis)
    assert merchant.account not in _accounts_of(metrics.sync_coverage)


def _accounts_of(gauge: Gauge) -> set[str]:
    return {sample.labels["account"] for metric in gauge.collect() for sample in metric.samples}


async def test_a_lease_is_longer_than_a_look(hub: Hub, merchant: Merchant) -> None:
    await a_judge(hub).turn(NOW)
    assert await hub.redis.execute("PTTL", sync_keys.watch_lease()) > LEASE_MS / 2


async def test_a_process_hands_in_what_it_heard(redis_url: str, hub: Hub, merchant: Merchant) -> None:
    redis = CoalescingRedis(hub.settings.redis)
    arrivals = sync_lag.Arrivals(redis)
    arrivals.receives = True
    for _ in range(7):
        arrivals.refuse(merchant.account)
    await arrivals.flush()
    judge = a_judge(hub)
    await judge.turn()
    await redis.close()
    [rejecting] = (await known(hub, merchant.account)).evidence
    assert "7 deliveries of the last minutes were refused" in rejecting.sentence
