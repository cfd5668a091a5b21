"""Policies in a real store: one writer wins, the head says the version, every process hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from synchub.accounts import operations as accounts
from synchub.accounts.directory import Directory
from synchub.accounts.model import NewAccount
from synchub.errors import Conflict, IdempotencyMismatch, InvalidRequest, Misconfigured, NotFound
from synchub.history.operations import Historian
from synchub.keyspace import MerchantKeys
from synchub.policies import operations as policies
from synchub.policies import store
from synchub.policies.document import shown
from synchub.policies.operations import PolicyDirectory
from synchub.redis import CoalescingRedis
from tests.support.registry import connectors, open_registry
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from synchub.accounts.operations import Registry
    from synchub.policies.model import Written
    from tests.support.valkey import Valkey

ACME: Final = MerchantKeys("acme")


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with open_registry(redis_url) as opened:
        yield opened


async def edit(
    registry: Registry,
    units: int,
    *,
    expected: int,
    operation: str | None = None,
    author: str = "anna",
    **general: Any,
) -> Written:
    document = {"rules": [{"set": {"buffer_units": units}}], "general": general}
    form = policies.read_document(json.dumps(document).encode())
    return await policies.replace(
        registry.redis,
        "acme",
        form,
        expected=expected,
        author=author,
        settings=registry.settings,
        operation=operation,
    )


async def units(registry: Registry, version: int | None = None) -> int:
    document = shown(await policies.show(registry.redis, "acme", version))
    found: int = document["rules"][0]["set"]["buffer_units"]
    return found


async def head(registry: Registry, *names: str) -> list[str]:
    found = await registry.redis.execute("HMGET", ACME.head, *names)
    return [(value or b"").decode() for value in found]


# ---------------------------------------------------------------------------------------------------- editing


async def test_before_the_first_edit_there_is_version_0(registry: Registry) -> None:
    assert await policies.show(registry.redis, "acme") is None
    assert await policies.list_history(registry.redis, "acme") == ()
    directory = PolicyDirectory(registry.redis, registry.settings)
    assert await directory.refresh("acme") == 0
    assert directory.terms("acme", "TEE").low_threshold == registry.settings.stock.low_threshold


async def test_an_edit_is_read_back_with_author_and_time(registry: Registry) -> None:
    written = await edit(registry, 7, expected=0)
    assert (written.edit.version, written.current, written.repeated) == (1, 1, False)
    stored = await policies.show(registry.redis, "acme")
    assert stored is not None
    assert stored.edit == written.edit
    assert (stored.edit.author, await units(registry)) == ("anna", 7)
    assert stored.edit.at_ms > 1_700_000_000_000


async def test_an_edit_of_an_old_version_is_refused_and_says_which_is_new(registry: Registry) -> None:
    await edit(registry, 1, expected=0)
    with pytest.raises(Conflict, match="at version 1 by now"):
        await edit(registry, 2, expected=0)
    with pytest.raises(Conflict):
        await edit(registry, 2, expected=2)
    assert await units(registry) == 1


async def test_of_concurrent_writers_of_one_version_one_wins(registry: Registry, redis_url: str) -> None:
    async with contextlib.AsyncExitStack() as processes:
        others = [await processes.enter_async_context(open_registry(redis_url)) for _ in range(4)]
        tries = [edit(other, number, expected=0) for number, other in enumerate(others * 5)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
    won = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
    assert await units(registry) == won[0]
    assert await head(registry, "policy", "seq") == ["1", "1"]


async def test_a_repeat_gets_the_first_answer_and_writes_nothing(registry: Registry) -> None:
    first = await edit(registry, 1, expected=0, operation="op-1")
    await edit(registry, 2, expected=1)
    again = await edit(registry, 1, expected=0, operation="op-1")
    assert (again.edit, again.current, again.repeated) == (first.edit, 2, True)
    assert await units(registry) == 2
    assert await head(registry, "policy", "seq") == ["2", "2"]


async def test_a_key_is_for_one_edit_of_one_author(registry: Registry) -> None:
    await edit(registry, 1, expected=0, operation="op-1")
    with pytest.raises(IdempotencyMismatch):
        await edit(registry, 2, expected=0, operation="op-1")
    with pytest.raises(IdempotencyMismatch):
        await edit(registry, 1, expected=1, operation="op-1")
    other = await edit(registry, 2, expected=1, operation="op-1", author="ben")
    assert other.edit.version == 2


@pytest.mark.parametrize("operation", ["", " x", "x" * 129, "a\nb"])
async def test_a_key_that_is_no_identifier_is_refused(registry: Registry, operation: str) -> None:
    with pytest.raises(InvalidRequest, match="idempotency key"):
        await edit(registry, 1, expected=0, operation=operation)


async def test_a_hundred_versions_are_kept_and_no_more(registry: Registry) -> None:
    for number in range(105):
        await edit(registry, number, expected=number, operation=f"op|{number}")
    history = await policies.list_history(registry.redis, "acme")
    assert [one.version for one in history] == list(range(105, 5, -1))
    assert (await units(registry), await units(registry, 6)) == (104, 5)
    with pytest.raises(NotFound, match="newest 100"):
        await units(registry, 5)
    # Of each kept version its document, its note and its operation; and the present one.
    assert await registry.redis.execute("HLEN", ACME.policies) == 3 * store.HISTORY_MAX + 2


async def test_an_edit_is_an_effect_in_the_ledger_and_in_the_head(registry: Registry) -> None:
    await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))
    [epoch] = await head(registry, "epoch")
    await edit(registry, 1, expected=0)
    await edit(registry, 2, expected=1, lag_step_ms=60_000, lag_grace_ms=5000)
    entries = await registry.redis.execute("XRANGE", ACME.ledger, "-", "+")
    told = [(number, dict(zip(flat[::2], flat[1::2], strict=True))) for number, flat in entries]
    assert [number for number, _ in told] == [b"1-0", b"2-0"]
    second = told[1][1]
    assert (second[b"field"], second[b"from"], second[b"to"]) == (b"policy", b"1", b"2")
    assert second[b"cause"] == b"policy:anna"
    assert int(second[b"at"]) >= int(told[0][1][b"at"])
    names = ("epoch", "seq", "policy", "lag_step_ms", "lag_grace_ms", "takeover")
    assert await head(registry, *names) == [epoch, "2", "2", "60000", "5000", "cautious"]
    # What agents are told is looked at again by whoever reads the head; the feed has no entry of it.
    assert not await registry.redis.execute("EXISTS", ACME.feed)


async def test_what_scripts_go_by_is_carried_by_the_head_and_makes_answers_be_looked_at(
    registry: Registry,
) -> None:
    await edit(registry, 1, expected=0)
    assert await registry.redis.execute("ZCARD", ACME.due) == 0
    ages = {"fast_ms": 60_000, "slow_ms": 1_800_000}
    general: dict[str, Any] = {
        "max_age_by_velocity": ages,
        "locations": ["B", "A"],
        "confirm_new_sources": True,
    }
    await edit(registry, 2, expected=1, **general)
    names = ("places", "fast_age_ms", "slow_age_ms", "asks_first")
    assert await head(registry, *names) == ["B\x1eA", "60000", "1800000", "1"]
    assert await registry.redis.execute("ZRANGE", ACME.due, 0, -1) == [b"a\x1f\x1f"]
    await edit(registry, 3, expected=2)
    assert await head(registry, *names) == ["", "0", "0", "0"]


async def test_a_first_edit_names_the_history_of_a_merchant_without_accounts(registry: Registry) -> None:
    await edit(registry, 1, expected=0)
    [epoch] = await head(registry, "epoch")
    assert len(epoch) >= 11
    await edit(registry, 2, expected=1)
    assert await head(registry, "epoch") == [epoch]


async def test_the_takeover_of_all_stock_lies_in_the_head(registry: Registry) -> None:
    form = policies.read_document(b'{"rules": [{"set": {"takeover": "trusting"}}]}')
    about: dict[str, Any] = {"expected": 0, "author": "anna", "settings": registry.settings}
    await policies.replace(registry.redis, "acme", form, **about)
    assert await head(registry, "takeover") == ["trusting"]


async def test_a_document_of_another_version_of_the_hub_is_named(registry: Registry) -> None:
    await edit(registry, 1, expected=0)
    await registry.redis.execute("HSET", ACME.policies, "document", '{"rules": 1}')
    directory = PolicyDirectory(registry.redis, registry.settings)
    with pytest.raises(Misconfigured, match="Version 1 of the stored policies"):
        await directory.refresh("acme")


# ------------------------------------------------------------------------------------------- in every process


@contextlib.asynccontextmanager
async def process(url: str) -> AsyncIterator[PolicyDirectory]:
    """What a process of the hub holds of policies, following as it does."""
    async with open_registry(url) as registry:
        known = PolicyDirectory(registry.redis, registry.settings)
        directory = Directory(registry.settings, registry.vault, connectors())
        directory.follow_policies = known.follow
        async with directory.following():
            yield known


async def test_what_exists_at_start_is_known(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))
    await edit(registry, 7, expected=0, locations=["B", "A"])
    async with process(redis_url) as known:
        assert (known.version("acme"), known.terms("acme", "TEE").buffer_units) == (1, 7)
        assert known.general("acme").locations == ("B", "A")
        assert known.terms("other", "TEE").buffer_units == 0


async def test_an_edit_by_another_process_is_followed(registry: Registry, redis_url: str) -> None:
    async with process(redis_url) as one, process(redis_url) as two:
        for number in range(10):
            await edit(registry, number, expected=number)
            await eventually(lambda: one.version("acme") == two.version("acme") == number + 1)  # noqa: B023 - awaited here
            assert two.terms("acme", "TEE").buffer_units == number


async def test_a_merchant_that_is_added_later_is_read_when_it_is_heard_of(
    registry: Registry, redis_url: str
) -> None:
    async with process(redis_url) as known:
        form = policies.read_document(b'{"rules": [{"set": {"buffer_units": 3}}]}')
        # Written, and cut off before anybody was told.
        edition = policies._edition(form, 0, "anna", "op")
        await store.write(registry.redis, ACME, edition, now_ms=1, clock_kind="guarded")
        await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))
        await eventually(lambda: known.version("acme") == 1)


async def test_an_unreadable_document_keeps_what_is_known_and_hides_no_other(
    registry: Registry, redis_url: str
) -> None:
    async with process(redis_url) as known:
        await edit(registry, 1, expected=0)
        await eventually(lambda: known.version("acme") == 1)
        await registry.redis.execute("HSET", ACME.policies, "document", "{", "version", "2")
        with capture_logs() as logs:
            await store.announce(registry.redis, "acme")
            await eventually(lambda: any(line["event"] == "policies_left_out" for line in logs))
        assert known.terms("acme", "TEE").buffer_units == 1
        await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))


async def test_whoever_is_told_that_the_policy_has_moved_reads_it_once_for_all(registry: Registry) -> None:
    counting = Counting(registry.redis)
    known = PolicyDirectory(counting, registry.settings)
    await edit(registry, 5, expected=0)
    seen = known.version("acme")
    versions = await asyncio.gather(*(known.refresh("acme", unless_newer_than=seen) for _ in range(50)))
    assert set(versions) == {1}
    assert counting.reads == 1
    assert await known.refresh("acme", unless_newer_than=seen) == 1
    assert counting.reads == 1
    assert await known.refresh("acme") == 1
    assert counting.reads == 2


async def test_a_caller_that_gives_up_takes_nobodys_answer_away(registry: Registry) -> None:
    known = PolicyDirectory(registry.redis, registry.settings)
    await edit(registry, 5, expected=0)
    first = asyncio.create_task(known.refresh("acme", unless_newer_than=0))
    second = asyncio.create_task(known.refresh("acme", unless_newer_than=0))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1
    assert first.cancelled() or first.cancelling()


@pytest.mark.fault
async def test_edits_made_while_the_store_was_away_for_this_process_are_found(
    own_valkey: Callable[..., Valkey],
) -> None:
    server = own_valkey()
    async with open_registry(server.url) as registry, process(server.url) as known:
        await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name="main"))
        await edit(registry, 1, expected=0)
        await eventually(lambda: known.version("acme") == 1)
        server.restart()
        form = policies.read_document(b'{"rules": [{"set": {"buffer_units": 9}}]}')
        edition = policies._edition(form, 1, "anna", "op")
        async with open_registry(server.url) as another:
            assert isinstance(another.redis, CoalescingRedis)
            Historian(another.redis, another.settings)
            await store.write(another.redis, ACME, edition, now_ms=1, clock_kind="guarded")
        await eventually(lambda: known.version("acme") == 2)
        assert known.terms("acme", "TEE").buffer_units == 9


class Counting:
    """A client that counts how often policies are read."""

    def __init__(self, redis: Any) -> None:
        self.redis: CoalescingRedis = redis
        self.reads = 0

    async def execute(self, *command: Any) -> Any:
        self.reads += command[0] == "HMGET"
        return await self.redis.execute(*command)
