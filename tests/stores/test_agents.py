"""Agents in a real store: a key is shown once, known by its hash, and gone when revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from synchub import keyspace
from synchub.agents import operations as agents
from synchub.agents.model import Kind, Rate, Scope
from synchub.agents.operations import NewAgent
from synchub.errors import InvalidRequest, NotFound
from synchub.keyspace import MerchantKeys
from tests.support.registry import open_registry
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.agents.model import Agent
    from synchub.lua import Executes


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Executes]:
    async with open_registry(redis_url) as registry:
        yield registry.redis


async def test_a_new_agent_reads_stock_and_feed_and_reserves(redis: Executes) -> None:
    issued = await agents.add_agent(redis, NewAgent(merchant="acme"))
    assert (issued.agent.name, issued.agent.merchant, issued.agent.tier) == ("acme-agent", "acme", "standard")
    assert issued.agent.scopes == {Scope.STOCK_READ, Scope.FEED_READ, Scope.RESERVATIONS}
    assert (issued.agent.channels, issued.agent.kind) == (frozenset(), Kind.AGENT)
    assert issued.key.startswith("sak_")


async def test_a_merchant_and_an_operator_have_keys_of_their_own_kind(redis: Executes) -> None:
    merchant = await agents.add_agent(redis, NewAgent(kind=Kind.MERCHANT, merchant="acme"))
    assert (merchant.agent.name, merchant.agent.merchant) == ("acme-merchant", "acme")
    assert merchant.agent.scopes == {Scope.MERCHANT_READ, Scope.MERCHANT_WRITE}
    operator = await agents.add_agent(redis, NewAgent(kind=Kind.OPERATOR))
    assert (operator.agent.name, operator.agent.merchant) == ("operator", "")
    assert operator.agent.scopes == {Scope.OPS_READ, Scope.OPS_WRITE}
    assert (merchant.key[:4], operator.key[:4]) == ("smk_", "sok_")
    assert await agents.list_agents(redis) == (merchant.agent, operator.agent)


async def test_a_record_from_when_there_were_agents_only_is_one_of_an_agent(redis: Executes) -> None:
    record = '{"merchant":"acme","tier":"x","channels":[],"scopes":[],"key_hash":"ab","created_at":1}'
    await redis.execute("HSET", keyspace.agents(), "old", record)
    [old] = await agents.list_agents(redis)
    assert (old.kind, old.rate_per_s, old.burst) == (Kind.AGENT, None, None)


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
        merchant="acme",
        name="claude",
        tier="gold",
        channels=["chat", "shop"],
        scopes=["reservations"],
        rate_per_s=7,
        burst=9,
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
        NewAgent(merchant="acme", scopes=["merchant:write"]),
        NewAgent(merchant="acme", kind=Kind.MERCHANT, scopes=["stock:read"]),
        NewAgent(merchant="acme", kind=Kind.OPERATOR),
        NewAgent(kind=Kind.MERCHANT),
        NewAgent(),
        NewAgent(merchant="acme", rate_per_s=0),
        NewAgent(merchant="acme", rate_per_s=10_001),
        NewAgent(merchant="acme", burst=0),
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


async def test_an_agent_of_another_merchant_cannot_be_revoked(redis: Executes) -> None:
    issued = await agents.add_agent(redis, NewAgent(merchant="acme"))
    own_key = await agents.add_agent(redis, NewAgent(merchant="other", kind=Kind.MERCHANT))
    for name in (issued.agent.name, own_key.agent.name, "nobody"):
        with pytest.raises(NotFound, match=f"There is no agent {name}"):
            await agents.revoke_agent(redis, name, merchant="other")
    await agents.revoke_agent(redis, issued.agent.name, merchant="acme")
    assert await agents.list_agents(redis, "acme") == ()


async def test_one_unreadable_record_hides_no_other(redis: Executes) -> None:
    await agents.add_agent(redis, NewAgent(merchant="acme"))
    await redis.execute("HSET", keyspace.agents(), "broken", "{}")
    assert [agent.name for agent in await agents.list_agents(redis)] == ["acme-agent"]


# ------------------------------------------------------------------------------------------------------ rates


@pytest.fixture
async def agent(redis: Executes) -> Agent:
    return (await agents.add_agent(redis, NewAgent(merchant="acme"))).agent


# Slow enough that nothing is given back while a test runs.
HOURLY_US = 3_600_000_000


async def test_a_burst_may_come_at_once_and_no_more(redis: Executes, agent: Agent) -> None:
    rate = Rate(interval_us=HOURLY_US, burst=5)
    waits = [await agents.take_token(redis, agent, rate) for _ in range(8)]
    assert waits[:5] == [0] * 5
    assert all(0 < wait <= HOURLY_US for wait in waits[5:])


async def test_a_refused_request_is_not_counted(redis: Executes, agent: Agent) -> None:
    rate = Rate(interval_us=HOURLY_US, burst=1)
    waits = [await agents.take_token(redis, agent, rate) for _ in range(50)]
    assert waits[0] == 0
    # None of them has moved the time at which there is room again.
    assert waits[1:] == sorted(waits[1:], reverse=True)


async def test_after_one_interval_there_is_room_for_one(redis: Executes, agent: Agent) -> None:
    rate = Rate(interval_us=20_000, burst=1)
    assert await agents.take_token(redis, agent, rate) == 0
    taken = []

    async def has_room() -> bool:
        taken.append(await agents.take_token(redis, agent, rate))
        return taken[-1] == 0

    await eventually(has_room)
    assert 0 < await agents.take_token(redis, agent, rate) <= 20_000


async def test_what_is_counted_is_forgotten_once_it_is_used_up(redis: Executes, agent: Agent) -> None:
    await agents.take_token(redis, agent, Rate(interval_us=5_000_000, burst=10))
    key = MerchantKeys("acme").rate(agent.name)
    assert 0 < await redis.execute("PTTL", key) <= 5000


async def test_a_clock_set_back_locks_nobody_out_for_longer_than_a_burst(
    redis: Executes, agent: Agent
) -> None:
    rate = Rate(interval_us=1000, burst=10)
    key = MerchantKeys("acme").rate(agent.name)
    seconds, micros = await redis.execute("TIME")
    hour_ahead = (int(seconds) + 3600) * 1_000_000 + int(micros)
    await redis.execute("SET", key, hour_ahead)
    assert 0 < await agents.take_token(redis, agent, rate) <= 1000
    assert int(await redis.execute("GET", key)) < hour_ahead - 3_000_000_000
    assert 0 < await redis.execute("PTTL", key) <= 10


async def test_a_smaller_burst_counts_from_the_next_request(redis: Executes, agent: Agent) -> None:
    for _ in range(10):
        assert await agents.take_token(redis, agent, Rate(interval_us=HOURLY_US, burst=10)) == 0
    assert 0 < await agents.take_token(redis, agent, Rate(interval_us=HOURLY_US, burst=2)) <= HOURLY_US


async def test_agents_count_apart(redis: Executes, agent: Agent) -> None:
    other = (await agents.add_agent(redis, NewAgent(merchant="other"))).agent
    rate = Rate(interval_us=HOURLY_US, burst=1)
    assert [await agents.take_token(redis, one, rate) for one in (agent, other)] == [0, 0]
