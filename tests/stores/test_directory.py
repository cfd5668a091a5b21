"""The copy of all accounts and agents in memory: loaded, followed, and healed after the store was away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from synchub import keyspace
from synchub.accounts import directory as module
from synchub.accounts import operations as accounts
from synchub.accounts.directory import Directory
from synchub.accounts.model import NewAccount
from synchub.accounts.vault import Vault
from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.errors import Misconfigured
from synchub.kit.clock import now_ms
from tests.support.registry import KEY, OTHER_KEY, SHOP_CREDENTIALS, connectors, open_registry, settings_for
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from synchub.accounts.operations import Registry
    from tests.support.valkey import Valkey

STANDARD = NewAccount(platform="standard", merchant="acme", name="main")
SHOP = NewAccount(platform="shop", merchant="acme", name="shop", credentials=SHOP_CREDENTIALS)


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    async with open_registry(redis_url) as opened:
        yield opened


def a_directory(url: str, key: bytes = KEY) -> Directory:
    return Directory(settings_for(url), Vault(key), connectors())


async def test_what_exists_at_start_is_found_without_waiting(registry: Registry, redis_url: str) -> None:
    added = await accounts.add_account(registry, STANDARD)
    issued = await agents.add_agent(registry.redis, NewAgent(merchant="acme"))
    async with a_directory(redis_url).following() as directory:
        view = directory.find_account("main")
        assert view is not None
        assert (view.merchant, view.platform) == ("acme", "standard")
        assert view.secrets_at(now_ms()) == (added.secret,)
        assert directory.find_agent(issued.key) == issued.agent
        assert directory.is_loaded
        assert directory.is_current


async def test_unknown_names_and_keys_are_nobody(registry: Registry, redis_url: str) -> None:
    issued = await agents.add_agent(registry.redis, NewAgent(merchant="acme"))
    async with a_directory(redis_url).following() as directory:
        assert directory.find_account("main") is None
        for key in ("", "sak_", issued.key[:-1], issued.key + "x", issued.agent.key_hash, "sak_" + "A" * 43):
            assert directory.find_agent(key) is None


async def test_a_change_by_another_process_is_followed(registry: Registry, redis_url: str) -> None:
    async with a_directory(redis_url).following() as directory:
        for number in range(20):
            name = f"main-{number}"
            await accounts.add_account(registry, NewAccount(platform="standard", merchant="acme", name=name))
            await eventually(lambda name=name: directory.find_account(name) is not None)  # type: ignore[misc]  # a loop's value
        assert len(directory.accounts()) == 20


async def test_rotation_and_removal_are_followed(registry: Registry, redis_url: str) -> None:
    first = (await accounts.add_account(registry, STANDARD)).secret
    await accounts.add_account(registry, SHOP)
    async with a_directory(redis_url).following() as directory:
        second = (await accounts.rotate_credential(registry, "main")).secret

        def has_both() -> bool:
            view = directory.find_account("main")
            return view is not None and view.secrets_at(now_ms()) == (second, first)

        await eventually(has_both)
        await accounts.remove_account(registry, "main")
        await eventually(lambda: directory.find_account("main") is None)
        assert [view.name for view in directory.accounts()] == ["shop"]


async def test_a_revoked_key_is_unknown_and_others_stay(registry: Registry, redis_url: str) -> None:
    issued = [await agents.add_agent(registry.redis, NewAgent(merchant="acme")) for _ in range(2)]
    async with a_directory(redis_url).following() as directory:
        await agents.revoke_agent(registry.redis, issued[0].agent.name)
        await eventually(lambda: directory.find_agent(issued[0].key) is None)
        assert directory.find_agent(issued[1].key) == issued[1].agent
        assert [agent.name for agent in directory.agents()] == [issued[1].agent.name]


async def test_more_changes_than_one_read_holds_are_all_seen(
    registry: Registry, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHANGES_READ", 2)
    async with a_directory(redis_url).following() as directory:
        for _ in range(30):
            await agents.add_agent(registry.redis, NewAgent(merchant="acme"))
        await eventually(lambda: len(directory.agents()) == 30)


async def test_a_stream_that_was_trimmed_costs_nothing(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, STANDARD)
    await registry.redis.execute("XTRIM", keyspace.registry_changes(), "MAXLEN", 0)
    async with a_directory(redis_url).following() as directory:
        assert directory.find_account("main") is not None
        await accounts.add_account(registry, SHOP)
        await eventually(lambda: directory.find_account("shop") is not None)


async def test_another_key_keeps_the_hub_from_starting(registry: Registry, redis_url: str) -> None:
    await accounts.add_account(registry, STANDARD)
    directory = a_directory(redis_url, OTHER_KEY)
    with pytest.raises(Misconfigured, match="another key"):
        await directory.start()
    await directory.close()


async def test_one_account_that_does_not_open_is_left_out_and_named(
    registry: Registry, redis_url: str
) -> None:
    await accounts.add_account(registry, SHOP)
    await accounts.add_account(registry, STANDARD)
    record = await registry.redis.execute("HGET", keyspace.accounts(), "shop")
    await registry.redis.execute("HSET", keyspace.accounts(), "moved", record)
    await registry.redis.execute("HSET", keyspace.accounts(), "broken", b'{"merchant": 1}')
    await registry.redis.execute("HSET", keyspace.accounts(), "alien", record.replace(b'"shop"', b'"gone"'))
    with capture_logs() as logs:
        async with a_directory(redis_url).following() as directory:
            assert [view.name for view in directory.accounts()] == ["main", "shop"]
    named = {str(line.get("account", "")) + str(line.get("reason", "")) for line in logs}
    assert all(any(name in text for text in named) for name in ("moved", "broken", "alien"))
    assert not any(value in str(logs) for value in SHOP_CREDENTIALS.values())


@pytest.mark.fault
async def test_the_copy_serves_while_the_store_is_away_and_heals_when_it_is_back(
    own_valkey: Callable[..., Valkey],
) -> None:
    server = own_valkey()
    async with (
        open_registry(server.url) as registry,
        a_directory(server.url).following() as directory,
    ):
        await accounts.add_account(registry, STANDARD)
        await eventually(lambda: directory.find_account("main") is not None)
        server.kill()
        with capture_logs() as logs:
            await eventually(lambda: not directory.is_current)
            assert directory.find_account("main") is not None
            server.start()
            await eventually(lambda: directory.is_current)
        events = [line["event"] for line in logs]
        assert set(events) == {"registry_lost", "registry_followed_again"}
        assert events.count("registry_lost") == events.count("registry_followed_again")
        async with open_registry(server.url) as another:
            issued = await agents.add_agent(another.redis, NewAgent(merchant="acme"))
        await eventually(lambda: directory.find_agent(issued.key) is not None)


@pytest.mark.fault
async def test_a_hub_that_starts_before_its_store_loads_as_soon_as_it_can(
    own_valkey: Callable[..., Valkey],
) -> None:
    server = own_valkey()
    async with open_registry(server.url) as registry:
        await accounts.add_account(registry, STANDARD)
    server.stop()
    async with a_directory(server.url).following() as directory:
        assert not directory.is_loaded
        assert directory.find_account("main") is None
        server.start()
        await eventually(lambda: directory.is_loaded)
        assert directory.find_account("main") is not None


@pytest.mark.fault
async def test_changes_made_while_the_connection_was_lost_are_found(
    own_valkey: Callable[..., Valkey],
) -> None:
    server = own_valkey()
    async with (
        open_registry(server.url) as registry,
        a_directory(server.url).following() as directory,
    ):
        await accounts.add_account(registry, STANDARD)
        await eventually(lambda: directory.find_account("main") is not None)
        with server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.hdel(keyspace.accounts(), "main")
        await eventually(lambda: directory.find_account("main") is None)
