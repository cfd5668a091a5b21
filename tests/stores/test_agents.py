"""Agents in a real store: a key is shown once, known by its hash, and gone when revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from synchub import keyspace
from synchub.agents import operations as agents
from synchub.agents.model import Scope
from synchub.agents.operations import NewAgent
from synchub.errors import InvalidRequest, NotFound
from tests.support.registry import open_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.lua import Executes


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Executes]:
    async with open_registry(redis_url) as registry:
        yield registry.redis


async def test_a_new_agent_reads_stock_and_feed(redis: Executes) -> None:
    issued = await agents.add_agent(redis, NewAgent(merchant="acme"))
    assert (issued.agent.name, issued.agent.merchant, issued.agent.tier) == ("acme-agent", "acme", "standard")
    assert issued.agent.scopes == {Scope.STOCK_READ, Scope.FEED_READ}
    assert issued.agent.channels == frozenset()


async def test_every_key_is_another_one_and_names_are_numbered(redis: Executes) -> None:
    issued = [await agents.add_agent(redis, NewAgent(merchant="acme")) for _ in range(3)]
    assert [one.agent.name for one in issued] == ["acme-agent", "acme-agent-2", "acme-agent-3"]
    assert len({one.key for one in issued}) == 3


async def test_of_a_key_only_its_hash_is_stored(redis: Executes, redis_url: str) -> None:
    issued = await agents.add_agent(redis, NewAgent(merchant="acme"))
    with Redis.from_url(redis_url) as client:
        stored = repr([client.dump(key) for key in client.scan_iter()]) + repr(
            client.hgetall(keyspace.agents())
        )
    secret = issued.key.removeprefix("sak_")
    assert issued.agent.key_hash in stored
    assert secret not in stored
    assert secret not in repr(issued)
    assert issued.agent.key_hash not in repr(issued.agent)


async def test_what_was_asked_for_is_what_is_read_back(redis: Executes) -> None:
    wanted = NewAgent(
        merchant="acme", name="claude", tier="gold", channels=["chat", "shop"], scopes=["reservations"]
    )
    issued = await agents.add_agent(redis, wanted)
    assert await agents.list_agents(redis, "acme") == (issued.agent,)
    assert await agents.list_agents(redis, "other") == ()


@pytest.mark.parametrize(
    "wanted",
    [
        NewAgent(merchant="Acme"),
        NewAgent(merchant="acme", name="a b"),
        NewAgent(merchant="acme", tier=""),
        NewAgent(merchant="acme", channels=["a b"]),
        NewAgent(merchant="acme", channels=[f"c{number}" for number in range(65)]),
        NewAgent(merchant="acme", scopes=["admin"]),
    ],
)
async def test_an_agent_that_is_refused_is_not_stored(redis: Executes, wanted: NewAgent) -> None:
    with pytest.raises(InvalidRequest):
        await agents.add_agent(redis, wanted)
    assert await agents.list_agents(redis) == ()


async def test_a_name_is_given_once(redis: Executes) -> None:
    await agents.add_agent(redis, NewAgent(merchant="acme", name="claude"))
    with pytest.raises(InvalidRequest, match="already is an agent claude"):
        await agents.add_agent(redis, NewAgent(merchant="other", name="claude"))


async def test_a_revoked_agent_is_gone_and_revoking_again_says_so(redis: Executes) -> None:
    issued = await agents.add_agent(redis, NewAgent(merchant="acme"))
    await agents.revoke_agent(redis, issued.agent.name)
    assert await agents.list_agents(redis) == ()
    with pytest.raises(NotFound):
        await agents.revoke_agent(redis, issued.agent.name)


async def test_one_unreadable_record_hides_no_other(redis: Executes) -> None:
    await agents.add_agent(redis, NewAgent(merchant="acme"))
    await redis.execute("HSET", keyspace.agents(), "broken", "{}")
    assert [agent.name for agent in await agents.list_agents(redis)] == ["acme-agent"]
