"""What a process says about itself: that it lives, whether it is ready, and its numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from synchub.web.app import build_app, build_probes
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, opened_hub, running_hub, settings_with
from tests.support.processes import free_port
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartValkey

# The library reads the process's own numbers from /proc, which is memory and does not wait.
pytestmark = pytest.mark.blocking_allowed

NAMES: Final = (
    "synchub_build_info",
    "synchub_deliveries_total",
    "synchub_signature_failures_total",
    "synchub_replays_rejected_total",
    "synchub_deliveries_quarantined_total",
    "synchub_dead_letters_total",
    "synchub_queue_depth",
    "synchub_queue_oldest_age_seconds",
    "synchub_dlq_depth",
    "synchub_events_total",
    "synchub_webhook_to_cache_seconds",
    "synchub_source_event_timestamp_seconds",
    "synchub_feed_readers",
    "synchub_feed_resets_total",
    "synchub_redis_config_safe",
    "synchub_redis_clock_skew_seconds",
    "synchub_event_loop_lag_seconds_count",
)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url, redis={"command_timeout_ms": 300}) as served:
        yield served


async def numbers(site: Site) -> dict[str, float]:
    """The sum of each number over its labels."""
    heard = await site.ask("GET", "/metrics")
    assert heard.status == 200
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(heard.body.decode()):
        sums.setdefault(family.name, 0)
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


async def ready(site: Site) -> tuple[int, list[str]]:
    heard = await site.ask("GET", "/readyz")
    said = json.loads(heard.body)
    assert said["ready"] is (heard.status == 200)
    return heard.status, said["problems"]


async def test_a_process_that_can_work_is_ready(site: Site) -> None:
    assert (await site.ask("GET", "/livez")).status == 200
    assert await ready(site) == (200, [])


async def test_without_its_store_it_lives_and_stays_in_service(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, redis={"command_timeout_ms": 300}) as site:
        assert not await is_degraded(site)
        valkey.kill()
        status, problems = await ready(site)
        assert status == 200
        assert problems
        assert await is_degraded(site)
        assert (await site.ask("GET", "/livez")).status == 200
        assert (await site.ask("GET", "/metrics")).status == 200
        assert (await numbers(site))["synchub_redis_config_safe"] == 0
        valkey.start()
        await eventually(lambda: is_whole(site), within_s=5, what="readiness")


async def test_a_worker_without_its_store_is_not_ready(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with (
        running_hub(valkey.url, redis={"command_timeout_ms": 300}) as site,
        TestClient(TestServer(build_probes(site.hub))) as probes,
    ):
        valkey.kill()
        async with probes.get("/readyz") as answer:
            assert answer.status == 503
            assert not (await answer.json())["degraded"]


async def test_an_api_that_has_never_seen_its_store_is_not_ready(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    valkey.kill()
    settings = settings_with(valkey.url, redis={"command_timeout_ms": 300})
    async with (
        opened_hub(settings) as hub,
        TestClient(TestServer(build_app(hub))) as client,
        client.get("/readyz") as answer,
    ):
        assert answer.status == 503


async def test_a_frozen_store_does_not_hold_the_probes_up(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, redis={"command_timeout_ms": 300}) as site:
        valkey.freeze()
        assert await is_degraded(site)
        assert (await site.ask("GET", "/livez")).status == 200
        valkey.thaw()
        await eventually(lambda: is_whole(site), within_s=5, what="readiness")


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [("maxmemory-policy", "volatile-ttl", "deletes stock"), ("appendfsync", "no", "appendfsync is no")],
)
async def test_an_unsafe_store_is_named(
    own_valkey: StartValkey, option: str, value: str, sentence: str
) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url) as site:
        await site.hub.client.config_set(option, value)
        status, [problem] = await ready(site)
        assert status == 503
        assert sentence in problem
        assert (await numbers(site))["synchub_redis_config_safe"] == 0


async def test_a_replica_is_named(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url) as site:
        await site.hub.redis.execute("REPLICAOF", "127.0.0.1", free_port())
        status, [problem] = await ready(site)
        assert status == 503
        assert "replica" in problem


async def test_every_number_has_its_name(site: Site) -> None:
    found = await numbers(site)
    missing = [name for name in NAMES if name not in found and name.removesuffix("_total") not in found]
    assert missing == []


async def test_numbers_move_with_what_happens(site: Site) -> None:
    before = await numbers(site)
    body = body_of(level("TEE", 1), sequence=1)
    await site.post(body, message_id="same")
    await site.post(body, message_id="same")
    await site.post(body, headers={"webhook-signature": "v1,AAAA"})
    await site.post(b"nonsense")
    await site.drained()
    after = await numbers(site)
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert moved["synchub_deliveries_total"] == 4
    assert moved["synchub_signature_failures_total"] == 1
    assert moved["synchub_deliveries_quarantined_total"] == 1
    assert moved["synchub_events_total"] == 2
    assert moved["synchub_replays_rejected_total"] == 1
    assert moved["synchub_webhook_to_cache_seconds_count"] == 2
    assert after["synchub_quarantine_depth"] == 1
    assert after["synchub_queue_depth"] == 0


async def test_waiting_deliveries_are_counted_with_their_age(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        for _ in range(3):
            await site.post(body_of(level("TEE", 1), sequence=1))
        found = await numbers(site)
        assert found["synchub_queue_depth"] == 3
        assert found["synchub_queue_oldest_age_seconds"] >= 0


async def test_no_label_names_a_merchant_a_sku_or_an_agent(site: Site) -> None:
    await site.post(body_of(level("TEE-LABEL", 1), sequence=1))
    await site.drained()
    text = (await site.ask("GET", "/metrics")).body.decode()
    for name in ("TEE-LABEL", site.merchant.name, site.merchant.account, site.merchant.key):
        assert name not in text


async def is_whole(site: Site) -> bool:
    heard = await site.ask("GET", "/readyz")
    return heard.status == 200 and not json.loads(heard.body)["degraded"]


async def is_degraded(site: Site) -> bool:
    return bool(json.loads((await site.ask("GET", "/readyz")).body)["degraded"])
