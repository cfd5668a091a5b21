"""What ``synchub doctor`` says of accounts whose platforms are not well, in words and with the evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.commands.doctor import findings
from synchub.connector_kit.contract import HookState
from synchub.hook_guard import store as guard_store
from synchub.hook_guard.model import GuardState, Need
from synchub.kit.clock import now_ms
from synchub.polling import operations as polling
from synchub.polling.model import PollState
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import AccountSync, Everyone, Evidence, Strength, SyncState
from synchub.sync_lag.model import Kind as Sign
from synchub.upstream import operations as upstream
from synchub.upstream.model import BreakerState, BudgetState, UpstreamState
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import add_merchant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from synchub.hub import Hub
    from tests.support.merchants import Merchant

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
PLATFORM: Final = {
    "shared_signature_secret": "hush",
    "access_token": "token",
    "api_url": "http://127.0.0.1:1/graphql",
}


@pytest.fixture
async def merchant(redis_url: str) -> Merchant:
    return await add_merchant(redis_url, "acme", platform="shiphero", credentials=PLATFORM)


@pytest.fixture
async def hub(redis_url: str, merchant: Merchant) -> AsyncIterator[Hub]:
    settings = settings_with(redis_url, server={"public_url": "http://127.0.0.1:8080"})
    async with opened_hub(settings) as opened:
        assert opened.directory.find_account(merchant.account) is not None
        yield opened


def heard(merchant: Merchant, **about: Any) -> AccountSync:
    told: dict[str, Any] = {
        "account": merchant.account,
        "merchant": merchant.name,
        "platform": "shiphero",
        "state": SyncState.HEALTHY,
        "since_ms": now_ms() - HOUR,
        "suspicion": 0.0,
        "judged_ms": now_ms(),
    }
    return AccountSync(**(told | about))


def stub(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: object) -> None:
    """Let one part say this, whatever lies in the store."""

    async def read(*_: object) -> object:
        return answer

    told: Callable[..., Awaitable[object]] = read
    monkeypatch.setattr(module, name, told)


async def complaints(hub: Hub, merchant: Merchant) -> str:
    _, found = await findings(hub)
    return "\n".join(one for one in found if one.startswith(f"{merchant.account}:") or "ilence" in one)


async def test_accounts_that_are_well_are_counted_and_not_complained_of(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(monkeypatch, sync_lag, "read_accounts", {merchant.account: heard(merchant)})
    notes, _ = await findings(hub)
    assert "Deliveries of 1 account(s): 1 healthy." in notes
    assert await complaints(hub, merchant) == ""


async def test_a_stalled_account_is_told_with_its_evidence_and_its_polls(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = Evidence(
        kind=Sign.CANARY,
        strength=Strength.DECISIVE,
        at_ms=now_ms(),
        sentence="3 signs of life are missing.",
    )
    known = heard(merchant, state=SyncState.STALLED, since_ms=now_ms() - 10 * MINUTE, evidence=(sign,))
    stub(monkeypatch, sync_lag, "read_accounts", {merchant.account: known})
    polls = PollState(last_ms=now_ms() - 5 * MINUTE)
    stub(monkeypatch, polling, "read_polls", {merchant.account: polls})
    said = await complaints(hub, merchant)
    assert "deliveries have not arrived for 10 min. 3 signs of life are missing." in said
    assert "It is polled; the last poll was 5 min ago." in said
    failing = replace(polls, failures=3, last_error="POST failed.")
    stub(monkeypatch, polling, "read_polls", {merchant.account: failing})
    assert "Polls fail, 3 in a row: POST failed." in await complaints(hub, merchant)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"canary_ms": -10 * MINUTE}, "its last sign of life came 10 min ago."),
        ({"found": 200, "unseen": 10}, "10 of 200 changes that polls found in a day were never delivered"),
    ],
    ids=["canary", "coverage"],
)
async def test_what_is_odd_about_deliveries_is_told(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch, about: dict[str, int], sentence: str
) -> None:
    told = {name: value + now_ms() if name.endswith("_ms") else value for name, value in about.items()}
    stub(monkeypatch, sync_lag, "read_accounts", {merchant.account: heard(merchant, **told)})
    assert sentence in await complaints(hub, merchant)


async def test_a_subscription_that_needs_a_person_is_told(hub: Hub, merchant: Merchant) -> None:
    state = GuardState(hooks=HookState.DISABLED, repairs=(now_ms(),) * 3, need=Need.EXHAUSTED)
    await guard_store.write(hub.redis, merchant.name, merchant.account, state)
    assert "3 repairs in a day did not help: a person is needed." in await complaints(hub, merchant)


async def test_an_open_breaker_and_a_spent_budget_are_told(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = UpstreamState(
        breakers={"page": BreakerState(state="open", trips=2, wait_ms=8000)},
        budget=BudgetState(remaining=3, capacity=40, restored_per_s=2),
    )
    stub(monkeypatch, upstream, "read_upstream", state)
    said = await complaints(hub, merchant)
    assert "page calls to its platform fail, and most are not made; the next try is in 8 s." in said
    assert "3 of 40 are left of what its platform allows." in said


async def test_silence_of_everybody_and_a_judge_that_sleeps_are_told(
    hub: Hub, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = Everyone(is_silent=True, sentence="Silence everywhere.", judged_ms=now_ms() - 10 * MINUTE)
    stub(monkeypatch, sync_lag, "read_everyone", everyone)
    said = await complaints(hub, merchant)
    assert "Silence everywhere." in said
    assert "Silence was last judged 10 min ago" in said
