"""From a platform's POST to a judgement: what is counted on the way, and the judge's loop in a worker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import Kind, SyncState
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.wait import eventually
from tests.support.watching import offering
from workers.watch import watch_accounts

if TYPE_CHECKING:
    from synchub.sync_lag.model import AccountSync
    from tests.support.hub import Site

BEAT = json.dumps({"type": "stock.heartbeat", "data": {"every_s": 60}}).encode()
FAST = {"look_every_ms": 50}


async def heard(site: Site) -> AccountSync:
    """What is known of the account once everything has been applied, handed in and judged."""
    await site.drained()
    await site.hub.arrivals.flush()
    judge = sync_lag.Watcher(
        site.hub.redis, site.hub.directory, site.hub.connectors, site.hub.settings, _never
    )
    await judge.turn()
    await judge.retire()
    return (await sync_lag.read_accounts(site.hub.redis))[site.merchant.account]


async def _never(*_about: object) -> bool:
    return False


async def test_deliveries_are_counted_by_topic_and_repeats_are_not(redis_url: str) -> None:
    began_ms = now_ms()
    async with running_hub(redis_url) as site:
        body = body_of(level("TEE", 5), sequence=1)
        for _ in range(3):
            assert (await site.post(body, message_id="msg_same")).status == 202
        assert (await site.post(body_of(level("TEE", 6), sequence=2))).status == 202
        about = await heard(site)
    assert about.deliveries == 2
    assert about.heard_ms >= began_ms
    assert set(about.topics) == {"stock.changed"}
    assert about.state is SyncState.HEALTHY


async def test_a_sign_of_life_is_no_delivery(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        assert (await site.post(BEAT)).status == 202
        about = await heard(site)
    assert about.deliveries == 0
    assert about.canary_ms > 0


async def test_refused_deliveries_are_counted_and_say_secret(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        forged = {"webhook-signature": "v1,AAAA"}
        for _ in range(6):
            assert (await site.post(BEAT, headers=forged)).status == 401
        about = await heard(site)
    assert [one.kind for one in about.evidence] == [Kind.REJECTING]


async def test_nobody_refuses_in_the_name_of_an_account_that_is_not_there(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        answer = await site.ask("POST", "/hooks/nobody", data=BEAT)
        assert answer.status == 401
        await heard(site)
        assert "nobody" not in await sync_lag.read_accounts(site.hub.redis)


async def test_a_worker_judges_by_itself_and_two_do_not_quarrel(redis_url: str) -> None:
    async with running_hub(redis_url, sync=FAST) as site:
        workers = [asyncio.create_task(watch_accounts(site.hub)) for _ in range(2)]
        await site.post(body_of(level("TEE", 5), sequence=1))
        await site.drained()
        await eventually(lambda: _has_heard(site, 1), what="one delivery, counted once", within_s=20)
        await end(*workers)


async def _has_heard(site: Site, count: int) -> bool:
    known = await sync_lag.read_accounts(site.hub.redis)
    return site.merchant.account in known and known[site.merchant.account].deliveries == count


async def test_a_platform_that_can_be_asked_is_asked_and_found_out_when_nothing_comes(redis_url: str) -> None:
    asked = 0

    async def make_a_change(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/", make_a_change)
    fast: dict[str, Any] = {"look_every_ms": 50, "canary_every_ms": 500, "canary_missed_max": 2}
    async with TestServer(app) as platform, running_hub(redis_url, sync=fast) as site:
        connectors = offering(canary="asked")
        site.hub.connectors.update(connectors)
        view = site.hub.directory.find_account(site.merchant.account)
        assert view is not None
        object.__setattr__(view, "credentials", {"api_url": str(platform.make_url("/"))})
        worker = asyncio.create_task(watch_accounts(site.hub))
        await eventually(lambda: _is(site, SyncState.STALLED), what="a stall", within_s=30)
        assert asked >= 2
        await end(worker)


async def _is(site: Site, state: SyncState) -> bool:
    known = await sync_lag.read_accounts(site.hub.redis)
    return site.merchant.account in known and known[site.merchant.account].state is state
