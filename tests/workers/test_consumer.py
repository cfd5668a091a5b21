"""The loop that takes deliveries from the ingest stream: dead workers, poison, a store that forgets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pytest

from synchub import metrics
from synchub.connector_kit.delivery import Delivery
from synchub.errors import StoreUnavailable
from synchub.ingress import operations as ingress
from synchub.ingress import rules, store
from synchub.ingress.consumer import Consumer
from synchub.ingress.model import Misunderstood
from synchub.ingress.store import GROUP
from synchub.keyspace import dead_letters, ingest_stream, quarantine
from synchub.kit.clock import now_us
from synchub.pipeline import apply_deliveries
from tests.support.deliveries import body_of, delta, level
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import CONNECTORS, Merchant, add_merchant
from tests.support.wait import eventually
from workers.ingest import ingest_consumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from synchub.hub import Hub
    from synchub.ingress.model import Queued

QUICK: Final = {"claim_idle_ms": 100, "claim_every_ms": 50}


class Bench:
    """A hub without an api: deliveries are put into the stream by the test."""

    def __init__(self, hub: Hub, merchant: Merchant) -> None:
        self.hub = hub
        self.merchant = merchant

    async def queue(self, body: bytes, *, message_id: str) -> None:
        """Put a verified delivery into the ingest stream."""
        delivery = Delivery(
            account=self.merchant.account,
            headers={"webhook-id": message_id},
            body=body,
            arrived_at_us=now_us(),
        )
        await self.hub.gate.enqueue(delivery, CONNECTORS["standard"])

    @contextlib.asynccontextmanager
    async def consuming(
        self, name: str = "one", handle: Callable[[Sequence[Queued]], Awaitable[object]] | None = None
    ) -> AsyncIterator[Consumer]:
        """Run one worker's loop."""
        consumer = (
            ingest_consumer(self.hub, name, lambda _account: None)
            if handle is None
            else Consumer(name, self.hub.settings, handle)
        )
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await consumer.close()

    async def waiting(self) -> int:
        """How many deliveries wait or are in somebody's hands."""
        return int(await self.hub.client.xlen(ingest_stream()))

    async def drained(self, within_s: float = 10) -> None:
        """Return when none does."""
        await eventually(self._is_drained, within_s=within_s, what="an empty ingest stream")

    async def number(self, sku: str) -> int:
        """The hub's number for a SKU."""
        answer = await self.hub.redis.execute("HGET", self.merchant.keys.sku(sku), "answer")
        return int(answer.split(b"|")[2]) if answer else 0

    async def counts_from_zero(self, *skus: str) -> None:
        """Give SKUs their first level, without which changes have nothing to change."""
        rows = [level(sku, 0) for sku in skus or ("TEE",)]
        await self.queue(body_of(*rows, sequence=1), message_id="first")
        async with self.consuming("first"):
            await self.drained()

    async def aside(self, where: str) -> list[dict[bytes, bytes]]:
        """What was put aside."""
        return [fields for _, fields in await self.hub.client.xrange(where)]

    async def take_and_die(self, name: str = "dead", count: int = 100) -> list[str]:
        """Take deliveries as a worker that then never does anything again."""
        await store.ensure_group(self.hub.client)
        taken = await store.take_new(self.hub.redis, name, count=count, block_ms=10)
        return [queued.id for queued in taken]

    async def _is_drained(self) -> bool:
        return await self.waiting() == 0


@contextlib.asynccontextmanager
async def a_bench(redis_url: str, **ingress_settings: int) -> AsyncIterator[Bench]:
    merchant = await add_merchant(redis_url)
    async with opened_hub(settings_with(redis_url, ingress=ingress_settings)) as hub:
        yield Bench(hub, merchant)


@pytest.fixture
async def bench(redis_url: str) -> AsyncIterator[Bench]:
    """With waits that suit a test."""
    async with a_bench(redis_url, **QUICK) as opened:
        yield opened


async def test_queued_deliveries_are_applied_and_leave_nothing_behind(bench: Bench) -> None:
    for number in range(1, 201):
        await bench.queue(body_of(level("TEE", number), sequence=number), message_id=f"m{number}")
    async with bench.consuming():
        await bench.drained()
    assert await bench.number("TEE") == 200
    assert (await bench.hub.client.xpending(ingest_stream(), GROUP))["pending"] == 0


async def test_two_workers_share_the_work_and_do_nothing_twice(bench: Bench) -> None:
    skus = [f"TEE-{number:02d}" for number in range(20)]
    await bench.counts_from_zero(*skus)
    for number in range(400):
        await bench.queue(body_of(delta(skus[number % 20], 1)), message_id=f"m{number}")
    async with bench.consuming("one"), bench.consuming("two"):
        await bench.drained()
    assert [await bench.number(sku) for sku in skus] == [20] * 20
    assert await bench.hub.client.xlen(bench.merchant.keys.ledger) == 420


async def test_changes_of_one_sku_count_in_whatever_order_they_are_applied(bench: Bench) -> None:
    await bench.counts_from_zero("TEE")
    for number in range(100):
        await bench.queue(body_of(delta("TEE", 1)), message_id=f"m{number}")
    early = await store.take_new(bench.hub.redis, "slow", count=50, block_ms=10)
    async with bench.consuming("quick"):
        await eventually(lambda: _is(bench, "TEE", 50), what="the later half")
        await apply_deliveries(bench.hub, early)
    assert await bench.number("TEE") == 100


async def test_many_changes_of_one_sku_in_one_delivery_all_count(bench: Bench) -> None:
    await bench.counts_from_zero("TEE")
    await bench.queue(body_of(*[delta("TEE", 1) for _ in range(60)]), message_id="many")
    async with bench.consuming():
        await bench.drained()
    assert await bench.number("TEE") == 60


async def test_a_worker_ends_although_a_library_swallows_the_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def swallow(*_: Any, **__: Any) -> list[Queued]:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return []

    monkeypatch.setattr("synchub.ingress.store.take_new", swallow)
    consumer = ingest_consumer(bench.hub, "one", lambda _account: None)
    task = asyncio.create_task(consumer.run())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.done()
    await consumer.close()


async def test_a_worker_ends_although_the_request_is_swallowed_before_it_works(redis_url: str) -> None:
    connecting = asyncio.Event()

    async def swallow(_: object) -> None:
        connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            msg = "a lost connection, as a library says it"
            raise ConnectionError(msg) from None

    async def handle(_: object) -> None:
        """Do nothing with deliveries."""

    consumer = Consumer("one", settings_with(redis_url), handle)
    with mock.patch.object(store, "ensure_group", swallow):
        running = asyncio.create_task(consumer.run())
        await connecting.wait()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
    assert done == {running}
    await consumer.close()


async def test_what_a_dead_worker_left_is_taken_over_within_five_seconds(redis_url: str) -> None:
    async with a_bench(redis_url) as bench:  # with the waits of production
        await bench.queue(body_of(level("TEE", 7), sequence=1), message_id="m1")
        assert await bench.take_and_die()
        before = metrics.deliveries_taken_over._value.get()
        async with bench.consuming():
            await bench.drained(within_s=5)
        assert await bench.number("TEE") == 7
        assert metrics.deliveries_taken_over._value.get() == before + 1


async def test_what_was_applied_and_not_finished_is_not_applied_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.counts_from_zero()
    await bench.queue(body_of(delta("TEE", 5)), message_id="m1")
    await store.ensure_group(bench.hub.client)
    batch = await store.take_new(bench.hub.redis, "dead", count=10, block_ms=10)
    with monkeypatch.context() as crashed:
        crashed.setattr("synchub.ingress.store.finish", mock.AsyncMock())
        await apply_deliveries(bench.hub, batch)
        await bench.hub.finisher.close()
    assert await bench.number("TEE") == 5
    async with bench.consuming():
        await bench.drained()
    assert await bench.number("TEE") == 5
    assert await bench.hub.client.xlen(bench.merchant.keys.ledger) == 2


async def test_a_poison_delivery_goes_to_the_dead_letters_while_others_flow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = body_of(level("POISON", 1), sequence=1)
    tries: list[int] = []
    _break_on(monkeypatch, poison, tries)
    await bench.queue(poison, message_id="bad")
    async with bench.consuming():
        for number in range(1, 101):
            await bench.queue(body_of(level("TEE", number), sequence=number), message_id=f"m{number}")
        await eventually(lambda: _is(bench, "TEE", 100), what="the others")
        await bench.drained()
    assert tries == [1, 2, 3, 4, 5]
    [dead] = await bench.aside(dead_letters())
    assert dead[b"b"] == poison
    assert b"ZeroDivisionError" in dead[b"reason"]


async def test_dead_letters_can_be_sent_through_the_hub_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = body_of(level("TEE", 9), sequence=1)
    with monkeypatch.context() as broken:
        _break_on(broken, poison, [])
        await bench.queue(poison, message_id="bad")
        async with bench.consuming():
            await bench.drained()
    assert await ingress.retry_aside(bench.hub.client, dead_letters(), []) == 1
    async with bench.consuming():
        await bench.drained()
    assert await bench.number("TEE") == 9
    assert await bench.aside(dead_letters()) == []


async def test_a_quarantined_delivery_is_retried_as_it_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = body_of(level("TEE", 3), sequence=1)
    with monkeypatch.context() as mistaken:
        mistaken.setattr("synchub.ingress.operations.understand", _misunderstand)
        await bench.queue(body, message_id="m1")
        async with bench.consuming():
            await bench.drained()
    [entry] = await ingress.list_aside(bench.hub.client, quarantine())
    assert entry.queued.delivery.body == body
    assert await ingress.retry_aside(bench.hub.client, quarantine(), [entry.id]) == 1
    async with bench.consuming():
        await bench.drained()
    assert await bench.number("TEE") == 3


async def test_quarantine_and_dead_letters_are_bounded(redis_url: str) -> None:
    async with a_bench(redis_url, quarantine_max=10, **QUICK) as bench:
        for number in range(30):
            await bench.queue(b"nonsense", message_id=f"m{number}")
        async with bench.consuming():
            await bench.drained()
        assert len(await bench.aside(quarantine())) == 10


async def test_a_store_that_refuses_is_no_try_of_the_delivery(bench: Bench) -> None:
    refusals = 0

    async def handle(batch: Sequence[Queued]) -> None:
        nonlocal refusals
        refusals += 1
        if refusals <= 8:
            raise StoreUnavailable
        await apply_deliveries(bench.hub, batch)
        await bench.hub.finisher.close()

    await bench.queue(body_of(level("TEE", 4), sequence=1), message_id="m1")
    async with bench.consuming(handle=handle):
        await bench.drained(within_s=20)
    assert await bench.number("TEE") == 4
    assert await bench.aside(dead_letters()) == []


async def test_a_destroyed_group_is_built_again_and_nothing_is_left_out(bench: Bench) -> None:
    await bench.counts_from_zero()
    async with bench.consuming() as consumer:
        await bench.queue(body_of(delta("TEE", 1)), message_id="m1")
        await bench.drained()
        await bench.hub.client.xgroup_destroy(ingest_stream(), GROUP)
        await bench.queue(body_of(delta("TEE", 1)), message_id="m2")
        await bench.drained()
        await eventually(lambda: consumer.failures == 0)
    assert await bench.number("TEE") == 2


async def test_a_flushed_store_is_worked_with_again(bench: Bench) -> None:
    await bench.counts_from_zero()
    async with bench.consuming():
        await bench.queue(body_of(delta("TEE", 1)), message_id="m1")
        await bench.drained()
        await bench.hub.client.delete(ingest_stream())
        await bench.queue(body_of(delta("TEE", 1)), message_id="m2")
        await bench.drained()
    assert await bench.number("TEE") == 2


async def test_workers_that_are_long_gone_are_forgotten(bench: Bench) -> None:
    await bench.queue(body_of(level("TEE", 1), sequence=1), message_id="m1")
    await bench.take_and_die("owner")
    await bench.hub.client.xgroup_createconsumer(ingest_stream(), GROUP, "idle")
    assert await ingress.drop_silent_workers(bench.hub.client, idle_ms=-1) == 1
    names = {one["name"] for one in await bench.hub.client.xinfo_consumers(ingest_stream(), GROUP)}
    assert names == {b"owner"}, "who still owns a delivery is kept"


async def test_a_worker_shows_that_it_is_at_work_until_it_stops(bench: Bench) -> None:
    async with bench.consuming():
        await eventually(lambda: at_work(bench), what="a worker at work")
    assert not await at_work(bench)


async def at_work(bench: Bench) -> bool:
    _, _, workers = await ingress.queue_state(bench.hub.client)
    return workers == 1


async def test_an_account_that_was_removed_leaves_its_deliveries_in_quarantine(bench: Bench) -> None:
    gone = Merchant(name="gone", account="gone-standard", secret="", key="")
    await Bench(bench.hub, gone).queue(body_of(level("TEE", 1), sequence=1), message_id="m1")
    async with bench.consuming():
        await bench.drained()
    [entry] = await bench.aside(quarantine())
    assert b"account" in entry[b"reason"]


async def _is(bench: Bench, sku: str, number: int) -> bool:
    return await bench.number(sku) == number


def _break_on(monkeypatch: pytest.MonkeyPatch, body: bytes, tries: list[int]) -> None:
    """Let the connector have a fault that one body meets."""

    def breaking(queued: Queued, *args: Any, **named: Any) -> Any:
        if queued.delivery.body == body:
            tries.append(queued.tries)
            raise ZeroDivisionError
        return rules.understand(queued, *args, **named)

    monkeypatch.setattr("synchub.ingress.operations.understand", breaking)


def _misunderstand(queued: Queued, *_: Any, **__: Any) -> Any:
    return Misunderstood(queued=queued, reason="not today")
