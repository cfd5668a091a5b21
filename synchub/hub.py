"""What a running process holds, and the only place where it is put together."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synchub.accounts.directory import Directory
from synchub.accounts.vault import Vault
from synchub.authority.operations import Authority
from synchub.availability.asking import Questions
from synchub.connector_kit.discovery import discover
from synchub.decisions.operations import DecisionLog
from synchub.errors import SynchubError
from synchub.feed.operations import Feed
from synchub.history.operations import Historian
from synchub.ingress.finishing import Finisher
from synchub.ingress.operations import Gate
from synchub.kit.outbound import guarded_session, networks_of
from synchub.logs import get_logger
from synchub.policies.operations import PolicyDirectory
from synchub.redis import CoalescingRedis, open_redis, store_errors
from synchub.reservations.granting import Granter
from synchub.safety import check_store, durability, refuse_unsafe
from synchub.sync_lag.operations import Arrivals
from synchub.upstream.model import Operation, Priority
from synchub.upstream.operations import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import redis.asyncio as aioredis

    from synchub.connector_kit.contract import Connector, LevelsClient
    from synchub.settings import Settings

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Open resources of one process; everything else is passed around explicitly."""

    settings: Settings
    connectors: dict[str, Connector]
    redis: CoalescingRedis
    """The hot path: one connection, one write per turn."""
    client: aioredis.Redis
    """Everything else that does not block."""
    vault: Vault
    directory: Directory
    """Who may send and ask, in memory: receiving and authentication touch no store."""
    policies: PolicyDirectory
    """What merchants have decided, in memory too."""
    gate: Gate
    finisher: Finisher
    decisions: DecisionLog
    """What agents asked and were told, written down when there is time."""
    feed: Feed
    history: Historian
    granter: Granter
    """Decides on holds, those of one moment in one step."""
    questions: Questions
    """Reads for agents who ask, in the same way."""
    arrivals: Arrivals
    """What this process hears of accounts, for whoever judges their silence."""
    upstream: Upstream
    """The way out to platforms."""
    authority: Authority
    """Asks sources themselves while the store is away."""


@contextlib.asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """Open everything a process needs and close it again, in reverse order.

    The store may be away: the hub opens, says so on ``/readyz`` and heals by itself.

    Raises:
        Misconfigured: a setting, secret key or connector that cannot work.
    """
    connectors = discover()
    vault = await asyncio.to_thread(Vault.open, settings.secrets)
    redis = CoalescingRedis(settings.redis)
    history = Historian(redis, settings)
    client = open_redis(settings.redis)
    directory = Directory(settings, vault, connectors)
    policies = PolicyDirectory(redis, settings)
    feed = Feed(settings, redis, policies)
    finisher = Finisher(client)
    decisions = DecisionLog(redis, settings)
    arrivals = Arrivals(redis)
    policies.on_moved = feed.renew_views
    directory.follow_policies = policies.follow
    directory.on_agent_gone = lambda agent: feed.dismiss(agent.merchant, agent.name)
    directory.on_agent_changed = lambda agent: feed.dismiss(agent.merchant, agent.name, reconnect=True)
    try:
        async with (
            directory.following(),
            history.watching(),
            decisions.writing(),
            arrivals.noting(),
            _way_out(redis, settings) as upstream,
        ):
            yield Hub(
                settings=settings,
                connectors=connectors,
                redis=redis,
                client=client,
                vault=vault,
                directory=directory,
                policies=policies,
                gate=Gate(redis, settings.ingress),
                finisher=finisher,
                decisions=decisions,
                feed=feed,
                history=history,
                granter=Granter(redis, settings),
                questions=Questions(redis),
                arrivals=arrivals,
                upstream=upstream,
                authority=Authority(
                    redis,
                    directory,
                    connectors,
                    settings,
                    presence=history.presence,
                    opens=lambda account: _levels_of(directory, connectors, upstream, settings, account),
                ),
            )
    finally:
        await finisher.close()
        await redis.close()
        await client.aclose()


def _levels_of(
    directory: Directory,
    connectors: Mapping[str, Connector],
    upstream: Upstream,
    settings: Settings,
    account: str,
) -> LevelsClient | None:
    """Open the client that somebody's answer waits for; None where the account cannot be called."""
    view = directory.find_account(account)
    connector = connectors.get(view.platform) if view else None
    if view is None or connector is None or connector.levels_client is None:
        return None
    deadline_ms = settings.authority.deadline_ms
    access = upstream.access(
        view, connector, Operation.LEVELS, priority=Priority.ANSWER, deadline_ms=deadline_ms
    )
    return connector.levels_client(access)


@contextlib.asynccontextmanager
async def _way_out(redis: CoalescingRedis, settings: Settings) -> AsyncIterator[Upstream]:
    """Open connections to platforms; calls that are on their way end before they are closed."""
    limits = settings.upstream
    allowed = networks_of(limits.private_targets)
    async with (
        guarded_session(allowed=allowed, connections_max=limits.connections_max, unpacks=True) as session,
        Upstream(redis, session, settings).following() as upstream,
    ):
        yield upstream


async def check_start(hub: Hub) -> None:
    """Refuse to start on a store that could lose stock; one that is away is waited for.

    Raises:
        UnsafeStore: with what to change.
    """
    try:
        with store_errors():
            problems = await check_store(hub.client)
            mode = await durability(hub.client)
    except SynchubError as error:
        _log.warning("store_away_at_start", reason=error.detail)
        return
    if hub.settings.redis.unsafe == "refuse":
        refuse_unsafe(problems)
    for sentence in problems:
        _log.warning("store_unsafe", reason=sentence)
    if mode != "always":
        _log.warning(
            "store_durability", appendfsync=mode, reason="Power loss may cost what was just acknowledged."
        )
