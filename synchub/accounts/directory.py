"""All accounts and agents in memory, so that receiving and authenticating never wait for Redis.

A copy is loaded at start and follows the registry's stream of changes, within
milliseconds. While the store is away the last copy goes on serving: a platform's
delivery can be verified even when it cannot be stored. After every reconnect, and
whenever more changed than one read returns, everything is loaded anew, so a stream
that was trimmed or emptied meanwhile costs nothing but that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from redis.exceptions import RedisError

from synchub import keyspace
from synchub.accounts import operations, store
from synchub.agents.operations import list_agents, read_agents
from synchub.agents.rules import hash_of, is_key
from synchub.errors import Fault, Misconfigured
from synchub.kit.clock import now_ms
from synchub.kit.tasks import end
from synchub.logs import get_logger
from synchub.redis import CoalescingRedis, open_redis, store_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping

    from redis.asyncio import Redis

    from synchub.accounts.model import Account, AccountView
    from synchub.accounts.vault import Vault
    from synchub.agents.model import Agent
    from synchub.connector_kit.contract import Connector
    from synchub.settings import Settings

CHANGES_READ: Final = 200
"""Changes taken in one read; as many as that, and everything is loaded anew."""

BLOCK_MS: Final = 5000
"""How long one read waits for changes; also how soon a silently lost connection is noticed."""

RETRY_S: Final = 0.1
"""Pause before the store is tried again."""

_Known = TypeVar("_Known")
_log: Final = get_logger()


class Directory:
    """Finds accounts by name and agents by key, without IO."""

    def __init__(self, settings: Settings, vault: Vault, connectors: Mapping[str, Connector]) -> None:
        self.loaded = asyncio.Event()
        """Set once everything has been loaded for the first time."""
        self.is_current = False
        """False while the store is away and changes made meanwhile are not known."""
        self._settings = settings
        self._vault = vault
        self._connectors = connectors
        self._redis = CoalescingRedis(settings.redis)
        self._accounts: dict[str, AccountView] = {}
        self._agents: dict[str, Agent] = {}
        self._agents_by_hash: dict[str, Agent] = {}
        self._position = "0-0"
        self._is_lost = False
        self._task: asyncio.Task[None] | None = None
        self.on_agent_gone: Callable[[Agent], object] | None = None
        """Told each agent that is no longer known, so that what it has open can be ended."""
        self.on_agent_changed: Callable[[Agent], object] | None = None
        """Told each agent that kept its key and may do something else with it, as it was before."""
        self.follow_policies: Callable[[Collection[str]], Awaitable[None]] | None = None
        """Told the merchants whose policies are to be read: all of them at first, then each edited one's."""
        self._merchants: set[str] = set()

    @property
    def is_loaded(self) -> bool:
        """Whether everything has been loaded at least once."""
        return self.loaded.is_set()

    def find_account(self, name: str) -> AccountView | None:
        """Return the account of that name."""
        return self._accounts.get(name)

    def find_agent(self, key: str) -> Agent | None:
        """Return whoever has this key: an agent, a merchant or an operator.

        The time it takes depends on the hash of what was presented, which tells nothing about the
        keys that exist.
        """
        return self._agents_by_hash.get(hash_of(key)) if is_key(key) else None

    def find_by_hash(self, key_hash: str) -> Agent | None:
        """Return whoever has the key of this hash, for what was made with a key and lasts as long as it."""
        return self._agents_by_hash.get(key_hash)

    def accounts(self) -> tuple[AccountView, ...]:
        """Return all accounts that can be used, by name."""
        return tuple(self._accounts[name] for name in sorted(self._accounts))

    def agents(self) -> tuple[Agent, ...]:
        """Return all agents, by name."""
        return tuple(self._agents[name] for name in sorted(self._agents))

    def agents_of(self, merchant: str) -> tuple[Agent, ...]:
        """Return whoever has a key of the merchant, by name."""
        found = [agent for agent in self._agents.values() if agent.merchant == merchant]
        return tuple(sorted(found, key=lambda agent: agent.name))

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[Directory]:
        """Follow the registry for as long as the block runs (see :meth:`start`)."""
        try:
            await self.start()
            yield self
        finally:
            await self.close()

    async def start(self) -> None:
        """Load everything and begin to follow; with the store away, as soon as it is back.

        Raises:
            Misconfigured: the records were encrypted with another key.
        """
        try:
            await self._load()
        except Fault as fault:
            self._say_lost(fault)
        self._task = asyncio.create_task(self._follow(), name="directory")

    async def close(self) -> None:
        """Stop following; what is loaded stays."""
        await end(self._task)
        await self._redis.close()

    async def _follow(self) -> None:
        # Its own client: a blocking read would hold up every other command of a shared one.
        client = open_redis(self._settings.redis, blocking_ms=BLOCK_MS, connections_max=2)
        try:
            while True:
                try:
                    await self._follow_until_lost(client)
                except (Fault, Misconfigured, RedisError) as problem:
                    self._say_lost(problem)
                await asyncio.sleep(RETRY_S)
        finally:
            await client.aclose()

    async def _follow_until_lost(self, client: Redis) -> None:
        if not self.is_current:
            await self._load()
        while True:
            changed = await self._wait_for_changes(client)
            if len(changed) >= CHANGES_READ:
                await self._load()
            elif changed:
                await self._renew(set(changed))

    async def _wait_for_changes(self, client: Redis) -> list[tuple[str, str]]:
        stream = keyspace.registry_changes()
        with store_errors():
            answer = await client.xread({stream: self._position}, count=CHANGES_READ, block=BLOCK_MS)
        entries = answer[0][1] if answer else []
        if entries:
            self._position = entries[-1][0].decode()
        return [(fields[b"kind"].decode(), fields[b"name"].decode()) for _, fields in entries]

    async def _load(self) -> None:
        await operations.require_key(self._redis, self._vault)
        # The position first: what changes while the records are read is then read once more.
        self._position = await store.read_newest_change(self._redis)
        accounts = await store.read_all(self._redis)
        agents = await list_agents(self._redis)
        self._accounts = self._opened(accounts)
        self._set_agents(agents)
        self._merchants.clear()
        await self._follow_policies(())
        self.is_current = True
        self.loaded.set()
        if self._is_lost:
            self._is_lost = False
            _log.info("registry_followed_again", accounts=len(accounts), agents=len(agents))

    async def _renew(self, changed: set[tuple[str, str]]) -> None:
        names = sorted(name for kind, name in changed if kind == "account")
        if names:
            found = self._opened(await store.read_some(self._redis, names))
            self._accounts = _without(self._accounts, names) | found
        names = sorted(name for kind, name in changed if kind == "agent")
        if names:
            present = {agent.name: agent for agent in await read_agents(self._redis, names)}
            self._set_agents((_without(self._agents, names) | present).values())
        await self._follow_policies(name for kind, name in changed if kind == "policy")

    async def _follow_policies(self, edited: Iterable[str]) -> None:
        """Have edited policies read, and those of merchants that were not known before."""
        merchants = {account.merchant for account in self._accounts.values()}
        merchants |= {agent.merchant for agent in self._agents.values() if agent.merchant}
        unread = (merchants - self._merchants) | set(edited)
        if unread and self.follow_policies is not None:
            await self.follow_policies(unread)
        self._merchants |= merchants

    def _set_agents(self, agents: Collection[Agent]) -> None:
        before = self._agents_by_hash
        self._agents = {agent.name: agent for agent in agents}
        self._agents_by_hash = {agent.key_hash: agent for agent in agents}
        if self.on_agent_gone is not None:
            for key_hash in before.keys() - self._agents_by_hash.keys():
                self.on_agent_gone(before[key_hash])
        if self.on_agent_changed is not None:
            for key_hash in before.keys() & self._agents_by_hash.keys():
                now = self._agents_by_hash[key_hash]
                if now is not before[key_hash] and _rights(now) != _rights(before[key_hash]):
                    self.on_agent_changed(before[key_hash])

    def _opened(self, found: Collection[Account]) -> dict[str, AccountView]:
        views = {account.name: self._open(account) for account in found}
        return {name: view for name, view in views.items() if view is not None}

    def _open(self, account: Account) -> AccountView | None:
        """An account that cannot be opened is left out: its deliveries are refused, the others' are not."""
        connector = self._connectors.get(account.platform)
        if connector is None:
            _log.error("account_left_out", account=account.name, reason=f"no connector {account.platform}")
            return None
        try:
            return operations.open_view(self._vault, account, connector.manifest, at_ms=now_ms())
        except Misconfigured as problem:
            _log.error("account_left_out", account=account.name, reason=problem.detail)
            return None

    def _say_lost(self, problem: Exception) -> None:
        """Changes of health are logged once, not every try."""
        self.is_current = False
        if not self._is_lost:
            self._is_lost = True
            _log.warning("registry_lost", reason=str(problem))


def _rights(agent: Agent) -> tuple[object, ...]:
    """What decides what the agent may do and see; how often it may ask does not."""
    return agent.merchant, agent.kind, agent.tier, agent.channels, agent.scopes


def _without(known: Mapping[str, _Known], names: Collection[str]) -> dict[str, _Known]:
    return {name: value for name, value in known.items() if name not in names}
