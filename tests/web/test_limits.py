"""How much agents may ask: exactly so much over all processes, and nothing that is not counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from synchub.agents import operations as agents
from synchub.agents.model import Kind, Rate
from synchub.agents.operations import NewAgent
from synchub.web import limits as module
from synchub.web.keys import HUB
from synchub.web.limits import Limits, limit_writes
from synchub.web.problems import problems
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartValkey
    from tests.support.hub import Heard

BURST: Final = 40


@pytest.fixture
def nothing_is_given_back() -> Iterator[None]:
    """A rate so slow that what is granted is the burst alone."""
    with mock.patch.object(module, "rate_of", return_value=Rate(interval_us=3_600_000_000, burst=BURST)):
        yield


async def ask(site: Site, key: str, sku: str = "TEE") -> Heard:
    return await site.ask("GET", f"/v1/stock/{sku}", headers={"Authorization": f"Bearer {key}"})


async def statuses(site: Site, key: str, count: int) -> Counter[int]:
    heard = await asyncio.gather(*(ask(site, key) for _ in range(count)))
    return Counter(one.status for one in heard)


async def known(site: Site, key: str) -> None:
    await eventually(lambda: site.hub.directory.find_agent(key) is not None)


async def add_key(site: Site, **wanted: Any) -> str:
    issued = await agents.add_agent(site.hub.redis, NewAgent(**{"merchant": site.merchant.name, **wanted}))
    await known(site, issued.key)
    return issued.key


@pytest.mark.usefixtures("nothing_is_given_back")
async def test_over_all_processes_exactly_the_burst_is_granted(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as one, running_hub(redis_url, works=False) as two:
        key = one.merchant.key
        await known(two, key)
        counted = await asyncio.gather(
            *(statuses(site, key, 3) for _ in range(BURST // 3) for site in (one, two))
        )
        total = sum(counted, Counter[int]())
        asked = BURST // 3 * 2 * 3
        assert total == {200: BURST, 429: asked - BURST}
        # Each agent by itself: the other merchant's has asked nothing yet.
        assert (await ask(one, two.merchant.key)).status == 200


@pytest.mark.usefixtures("nothing_is_given_back")
async def test_a_refusal_says_when_to_come_again_and_nothing_else(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        await site.post(body_of(level("TEE", 12), sequence=1))
        await site.drained()
        await statuses(site, site.merchant.key, BURST)
        heard = await ask(site, site.merchant.key)
        assert (heard.status, heard.problem["code"]) == (429, "rate_limited")
        assert 3500 <= int(heard.headers["Retry-After"]) <= 3600
        assert "available" not in heard.problem


async def test_waits_are_rounded_up_to_whole_seconds(redis_url: str) -> None:
    async with running_hub(redis_url, works=False, limits={"agent_burst": 1}) as site:
        site_limits, agent = Limits(site.hub), site.hub.directory.agents()[0]
        assert site_limits.refusal(agent, 1).retry_after_s == 1
        assert site_limits.refusal(agent, 1_000_000).retry_after_s == 1
        assert site_limits.refusal(agent, 1_000_001).retry_after_s == 2


# --------------------------------------------------------------------------------------------------- settings


async def test_as_many_may_be_asked_at_once_as_the_burst_says(redis_url: str) -> None:
    limits = {"agent_burst": 7, "agent_rate_per_s": 1}
    async with running_hub(redis_url, works=False, limits=limits) as site:
        started = time.monotonic()
        granted = (await statuses(site, site.merchant.key, 30))[200]
        assert 7 <= granted <= 7 + time.monotonic() - started


async def test_so_many_a_second_may_be_asked_as_the_rate_says(redis_url: str) -> None:
    limits = {"agent_burst": 1, "agent_rate_per_s": 1}
    async with running_hub(redis_url, works=False, limits=limits) as site:
        started = time.monotonic()
        granted = [(await ask(site, site.merchant.key)).status for _ in range(30)].count(200)
        assert 1 <= granted <= 1 + time.monotonic() - started
    limits = {"agent_burst": 1, "agent_rate_per_s": 50}
    async with running_hub(redis_url, works=False, limits=limits) as site:
        assert (await ask(site, site.merchant.key)).status == 200

        async def may_ask_again() -> bool:
            return (await ask(site, site.merchant.key)).status == 200

        await eventually(may_ask_again, within_s=0.9, what="room for another request")


async def test_a_key_may_have_limits_of_its_own(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        key = await add_key(site, rate_per_s=1, burst=3)
        started = time.monotonic()
        granted = (await statuses(site, key, 20))[200]
        assert 3 <= granted <= 3 + time.monotonic() - started
        assert await statuses(site, site.merchant.key, 20) == {200: 20}


# --------------------------------------------------------------------------------------------------- counting


async def test_the_token_is_counted_in_the_step_that_answers(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        await ask(site, site.merchant.key)
        pipe = site.hub.redis._pipe
        assert pipe is not None
        with mock.patch.object(pipe, "send", wraps=pipe.send) as send:
            assert (await ask(site, site.merchant.key)).status == 200
        assert [len(call.args[0]) for call in send.mock_calls] == [1]


@pytest.mark.usefixtures("nothing_is_given_back")
async def test_what_is_known_to_be_over_the_limit_costs_the_store_nothing(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        await statuses(site, site.merchant.key, BURST + 1)
        with mock.patch.object(site.hub.redis, "execute", side_effect=AssertionError("asked")):
            assert await statuses(site, site.merchant.key, 20) == {429: 20}


async def test_raised_limits_count_at_once(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        site_limits, agent = Limits(site.hub), site.hub.directory.agents()[0]
        raise_of = site_limits.refusal(agent, 3_600_000_000)
        with pytest.raises(type(raise_of)):
            site_limits.check(agent)
        with mock.patch.object(module, "rate_of", return_value=Rate(interval_us=1, burst=9)):
            site_limits.check(agent)


async def test_more_refusals_than_are_remembered_are_forgotten(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        site_limits, agent = Limits(site.hub), site.hub.directory.agents()[0]
        with mock.patch.object(module, "REFUSED_MAX", 2):
            site_limits._refused.update(dict.fromkeys("ab", (Rate(interval_us=1, burst=1), 0.0)))
            site_limits.refusal(agent, 1)
        assert list(site_limits._refused) == [agent.name]


@pytest.mark.usefixtures("nothing_is_given_back")
async def test_whoever_is_no_agent_is_refused_for_that_and_not_counted(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        merchants = await add_key(site, kind=Kind.MERCHANT)
        assert await statuses(site, merchants, BURST + 5) == {403: BURST + 5}
        assert await statuses(site, "sak_" + "A" * 43, BURST + 5) == {401: BURST + 5}
        assert await statuses(site, site.merchant.key, BURST) == {200: BURST}


@pytest.mark.fault
async def test_without_the_store_nobody_is_let_through(own_valkey: StartValkey) -> None:
    valkey = own_valkey()
    async with running_hub(valkey.url, works=False, redis={"command_timeout_ms": 300}) as site:
        assert (await ask(site, site.merchant.key)).status == 200
        valkey.kill()
        heard = await ask(site, site.merchant.key)
        assert (heard.status, heard.problem["code"]) in {
            (503, "store_unavailable"),
            (503, "outcome_unknown"),
        }
        valkey.start()

        async def is_answered() -> bool:
            return (await ask(site, site.merchant.key)).status == 200

        await eventually(is_answered, within_s=5)


# ----------------------------------------------------------------------------------------------- what changes


@pytest.mark.usefixtures("nothing_is_given_back")
async def test_what_changes_something_takes_its_token_first(redis_url: str) -> None:
    async with running_hub(redis_url, works=False) as site:
        done: list[str] = []

        async def change(request: web.Request) -> web.Response:
            done.append(request.path)
            return web.Response()

        inner = web.Application()
        inner[HUB] = site.hub
        inner.router.add_post("/", change)
        app = web.Application(middlewares=[problems])
        app[HUB] = site.hub
        app.add_subapp("/change", limit_writes(inner, Limits(site.hub)))
        async with TestClient(TestServer(app)) as client:
            headers = {"Authorization": f"Bearer {site.merchant.key}"}

            async def ask_for_change() -> int:
                async with client.post("/change/", headers=headers) as answer:
                    return answer.status

            found = Counter(await asyncio.gather(*(ask_for_change() for _ in range(BURST + 10))))
        assert found == {200: BURST, 429: 10}
        assert len(done) == BURST
