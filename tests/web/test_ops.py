"""What those who run the hub are told, and what they can have done at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub import keyspace
from synchub.agents import operations as agents
from synchub.agents.model import Kind, Scope
from synchub.agents.operations import NewAgent
from synchub.connector_kit.contract import HookState
from synchub.hook_guard import store as guard_store
from synchub.hook_guard.model import GuardState, Need
from synchub.kit.clock import now_ms
from synchub.polling import operations as polling
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import AccountSync, Evidence, Strength, SyncState
from synchub.sync_lag.model import Kind as Sign
from tests.support.deliveries import body_of, level
from tests.support.hub import Heard, Site, running_hub
from tests.support.merchants import add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLATFORM: Final = {
    "shared_signature_secret": "hush",
    "access_token": "token",
    "api_url": "http://127.0.0.1:1/graphql",
}


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    public = {"public_url": "http://127.0.0.1:8080"}
    async with running_hub(redis_url, server=public) as one:
        yield one


async def operator(site: Site, *scopes: Scope) -> dict[str, str]:
    """Headers of somebody who runs the hub."""
    wanted = NewAgent(kind=Kind.OPERATOR, merchant="", scopes=[scope.value for scope in scopes])
    issued = await agents.add_agent(site.hub.redis, wanted)
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return {"Authorization": f"Bearer {issued.key}"}


async def told(site: Site, path: str, **about: Any) -> Any:
    heard = await site.ask("GET", f"/v1/ops/{path}", headers=await operator(site), **about)
    assert heard.status == 200, heard
    return json.loads(heard.body)


async def asked(site: Site, path: str) -> Heard:
    return await site.ask("POST", f"/v1/ops/{path}", headers=await operator(site))


async def a_warehouse(site: Site, redis_url: str) -> str:
    """The account of a platform that can be polled and asked."""
    merchant = await add_merchant(redis_url, platform="shiphero", credentials=PLATFORM)
    await eventually(lambda: site.hub.directory.find_account(merchant.account) is not None)
    return merchant.account


async def test_an_account_of_which_nothing_is_known_is_told_so(site: Site) -> None:
    [one] = (await told(site, "sync"))["accounts"]
    assert one["account"] == site.merchant.account
    assert (one["sync"], one["polls"], one["hooks"]) == (None, None, None)
    assert (one["can_poll"], one["can_check"]) == (False, False)
    assert one["upstream"] == {"breakers": {}, "budget": None}


async def test_a_stalled_account_is_told_with_its_evidence_and_every_age(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ms = now_ms()
    sign_of_life = Evidence(
        kind=Sign.CANARY, strength=Strength.MEDIUM, at_ms=at_ms - 90_000, sentence="It is late."
    )
    known = AccountSync(
        account=site.merchant.account,
        merchant=site.merchant.name,
        platform="standard",
        state=SyncState.STALLED,
        since_ms=at_ms - 60_000,
        suspicion=1.25,
        evidence=(sign_of_life,),
        heard_ms=at_ms - 120_000,
        found=100,
        unseen=3,
        topics={"stock.changed": 0.5},
        judged_ms=at_ms,
    )

    async def read_accounts(_: object) -> dict[str, AccountSync]:
        return {known.account: known}

    monkeypatch.setattr(sync_lag, "read_accounts", read_accounts)
    sync = (await told(site, f"sync/{site.merchant.account}"))["sync"]
    assert (sync["state"], sync["suspicion"]) == ("stalled", 1.25)
    assert 60_000 <= sync["since"]["age_ms"] < 70_000
    [sign] = sync["evidence"]
    assert (sign["kind"], sign["strength"], sign["sentence"]) == ("canary", "medium", "It is late.")
    assert 120_000 <= sync["last_delivery"]["age_ms"] < 130_000
    assert sync["canary"] is None
    assert sync["coverage"] == {"found": 100, "unseen": 3, "ratio": 0.97}


async def test_a_subscription_that_needs_a_person_is_told_in_words(site: Site, redis_url: str) -> None:
    account = await a_warehouse(site, redis_url)
    view = site.hub.directory.find_account(account)
    assert view is not None
    state = GuardState(
        hooks=HookState.DISABLED,
        topics=("Inventory Update",),
        checked_ms=now_ms() - 1000,
        repairs=(now_ms() - 5000,),
        need=Need.EXHAUSTED,
        need_since_ms=now_ms() - 500,
    )
    await guard_store.write(site.hub.redis, view.merchant, account, state)
    one = await told(site, f"sync/{account}")
    assert (one["can_poll"], one["can_check"]) == (True, True)
    hooks = one["hooks"]
    assert (hooks["state"], hooks["needs_person"]) == ("disabled", "exhausted")
    assert "a person is needed" in hooks["sentence"]
    assert 1000 <= hooks["checked"]["age_ms"] < 10_000
    assert len(hooks["repairs"]) == 1


async def test_accounts_and_merchants_come_in_pages_that_end(site: Site, redis_url: str) -> None:
    for _ in range(4):
        await add_merchant(redis_url)
    await eventually(lambda: len(site.hub.directory.accounts()) == 5)
    for what, field in (("sync", "account"), ("merchants", "merchant")):
        listed = "accounts" if what == "sync" else "merchants"
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await told(site, f"{what}?limit=2&after={after}")
            assert (len(page[listed]) <= 2, page["total"]) == (True, 5)
            names += [one[field] for one in page[listed]]
            after = page["next_after"]
        assert names == sorted(set(names))
        assert len(names) == 5


@pytest.mark.parametrize("limit", ["0", "201", "x", "-1"])
async def test_a_page_is_no_larger_than_it_may_be(site: Site, limit: str) -> None:
    heard = await site.ask("GET", f"/v1/ops/sync?limit={limit}", headers=await operator(site))
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


async def test_what_waits_and_what_was_put_aside_is_told(site: Site) -> None:
    await site.hub.client.xadd(keyspace.dead_letters(), {"at": (now_ms() - 60_000) * 1000})
    queue = await told(site, "queue")
    assert queue["ingest"] == {"waiting": 0, "oldest_age_ms": 0}
    assert queue["workers"] >= 0
    assert queue["dead_letters"]["count"] == 1
    assert 60_000 <= queue["dead_letters"]["oldest"]["age_ms"] < 70_000
    assert queue["quarantine"] == {"count": 0, "oldest": None}


async def test_a_merchants_history_is_told_and_whether_it_is_frozen(site: Site) -> None:
    await site.post(body_of(level("TEE", 5), sequence=1))
    await site.drained()
    [one] = (await told(site, "merchants"))["merchants"]
    assert (one["merchant"], one["seq"], one["is_frozen"]) == (site.merchant.name, 1, False)
    assert (await site.stock("TEE"))["epoch"] == one["epoch"]
    assert one["unarchived"] == 1
    await site.hub.redis.execute("HSET", site.merchant.keys.head, "frozen", now_ms() + 60_000)
    [one] = (await told(site, "merchants"))["merchants"]
    assert one["is_frozen"]
    assert one["frozen_until"] is not None


async def test_a_poll_that_is_asked_for_is_due_at_once(site: Site, redis_url: str) -> None:
    account = await a_warehouse(site, redis_url)
    view = site.hub.directory.find_account(account)
    assert view is not None
    assert (await asked(site, f"sync/{account}/poll")).status == 202
    polls = await polling.read_polls(site.hub.redis, view.merchant)
    assert polls[account].due_ms <= now_ms()


async def test_a_check_that_is_asked_for_is_due_at_once(site: Site, redis_url: str) -> None:
    account = await a_warehouse(site, redis_url)
    view = site.hub.directory.find_account(account)
    assert view is not None
    state = replace(GuardState(), due_ms=now_ms() + 600_000)
    await guard_store.write(site.hub.redis, view.merchant, account, state)
    assert (await asked(site, f"sync/{account}/check?repair=1")).status == 202
    assert (await guard_store.read(site.hub.redis, view.merchant))[account].due_ms == 0


@pytest.mark.parametrize("what", ["poll", "check"])
async def test_what_a_platform_cannot_do_is_refused(site: Site, what: str) -> None:
    heard = await asked(site, f"sync/{site.merchant.account}/{what}")
    assert (heard.status, heard.problem["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("what", ["poll", "check"])
async def test_an_unknown_account_is_not_found(site: Site, what: str) -> None:
    assert (await asked(site, f"sync/nobody/{what}")).status == 404


async def test_a_key_that_may_only_read_changes_nothing(site: Site) -> None:
    headers = await operator(site, Scope.OPS_READ)
    for what in ("poll", "check"):
        heard = await site.ask("POST", f"/v1/ops/sync/{site.merchant.account}/{what}", headers=headers)
        assert (heard.status, heard.problem["code"]) == (403, "not_allowed")
