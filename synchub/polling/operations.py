"""What can be done about polls and fetches: poll an account, ask for it, look at it, fetch what is due."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from synchub import metrics
from synchub.accounts.rules import can_call
from synchub.errors import UpstreamFailed, UpstreamRefused, UpstreamThrottled
from synchub.keyspace import MerchantKeys
from synchub.kit.backoff import full_jitter_s
from synchub.kit.clock import now_ms
from synchub.polling import rules, store
from synchub.polling.fetching import count_due, fetch_due, is_free, oldest_due_ms, wish_sweep
from synchub.polling.leases import held
from synchub.polling.model import Mode, PollState
from synchub.polling.turns import Line, Turn
from synchub.stock import operations as stock
from synchub.sync_lag import operations as sync_lag
from synchub.sync_lag.model import PollFinding
from synchub.upstream.model import Operation, Priority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector, PagesClient
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.sync_lag.model import AccountSync
    from synchub.upstream.operations import Upstream

__all__ = [
    "can_poll", "count_due", "fetch_due", "find_due", "is_free", "oldest_due_ms", "poll_soon", "read_polls",
    "turn", "wish_sweep",
]  # fmt: skip

Problem = UpstreamThrottled | UpstreamRefused | UpstreamFailed

_PRIORITIES = {Mode.SAFETY: Priority.SWEEP, Mode.PROBE: Priority.PROBE, Mode.FULL: Priority.REPAIR}


async def read_polls(redis: Executes, merchant: str) -> dict[str, PollState]:
    """Return how the polls of each of a merchant's accounts go; one that was never polled is not named.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    places = await stock.read_places(redis, MerchantKeys(merchant))
    states = await store.read_polls(redis, merchant)
    return {
        name: replace(
            states.get(name, PollState()), cursor_ms=place.asked_ms, complete_to_ms=place.complete_to_ms
        )
        for name, place in places.items()
    } | {name: state for name, state in states.items() if name not in places}


def can_poll(account: AccountView, connector: Connector) -> bool:
    """Say whether the platform can be read page by page, with what the merchant has given for it."""
    return connector.pages_client is not None and can_call(connector.manifest, account.credentials)


async def find_due(
    redis: Executes,
    accounts: Mapping[str, AccountView],
    connectors: Mapping[str, Connector],
    settings: Settings,
    *,
    first_ms: Mapping[str, int],
) -> list[tuple[AccountView, int]]:
    """Return the accounts whose poll is due, the longest due first, with when their last turn began.

    ``first_ms`` is since when each account is known to the asker, which spreads first polls.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store did not answer.
    """
    polled = {
        name: account for name, account in accounts.items() if can_poll(account, connectors[account.platform])
    }
    merchants = sorted({account.merchant for account in polled.values()})
    # Together, so that they leave in one write.
    synced, states = await asyncio.gather(
        sync_lag.read_accounts(redis),
        asyncio.gather(*(store.read_polls(redis, merchant) for merchant in merchants)),
    )
    by_merchant = dict(zip(merchants, states, strict=True))
    due: list[tuple[int, AccountView, int]] = []
    for name, account in polled.items():
        state = by_merchant[account.merchant].get(name, PollState())
        planned = rules.plan(
            name,
            state,
            synced.get(name),
            has_deliveries=bool(connectors[account.platform].manifest.topics),
            first_ms=first_ms[name],
            now_ms=now_ms(),
            settings=settings.polling,
        )
        if planned.due_ms <= now_ms():
            due.append((planned.due_ms, account, state.last_ms))
    return [(account, last_ms) for _, account, last_ms in sorted(due, key=lambda one: one[0])]


async def poll_soon(redis: Executes, merchant: str, account: str) -> None:
    """Make an account's next poll due at once. Repeatable; the first turn that begins later serves it.

    Raises:
        OutcomeUnknown, StoreUnavailable: it may not have been taken.
    """
    await store.wish(redis, merchant, account, store.SOON, at_ms=now_ms())


@contextlib.asynccontextmanager
async def turn(
    redis: Executes,
    upstream: Upstream,
    account: AccountView,
    connector: Connector,
    settings: Settings,
    *,
    after_ms: int | None = None,
) -> AsyncIterator[Turn | None]:
    """Hold an account's turn; ``None`` where it cannot be polled or somebody else is at it.

    ``after_ms`` is when the last turn began that the caller knows of: if there was another one
    meanwhile, this one is not needed. However the block ends, unless the store is away, the account's
    next poll is planned and whoever judges its deliveries hears what was found.

    Raises:
        OutcomeUnknown, StoreUnavailable: it ended in the middle; the next turn goes on from there.
    """
    if connector.pages_client is None:
        yield None
        return
    line = Line(redis=redis, account=account, connector=connector, settings=settings)
    take = partial(store.take_poll_lease, redis, account.merchant, account.name)
    async with held(take) as is_held:
        state = (await store.read_polls(redis, account.merchant)).get(account.name, PollState())
        if not is_held or (after_ms is not None and state.last_ms > after_ms):
            yield None
            return
        sync = (await sync_lag.read_accounts(redis)).get(account.name)
        opened = await _open(line, upstream, connector.pages_client, state, sync)
        problem: Problem | None = None
        try:
            yield opened
        except (UpstreamThrottled, UpstreamRefused, UpstreamFailed) as met:
            problem = met
        _measure(connector.name, opened, problem)
        if not opened.is_overtaken:  # otherwise whoever has gone on says how it went
            await _plan_next(line, opened, _state_after(state, opened, problem, settings), sync)
            await _tell(line, opened, problem)


async def _open(
    line: Line, upstream: Upstream, client: type[PagesClient], state: PollState, sync: AccountSync | None
) -> Turn:
    mode = rules.mode_of(sync, has_deliveries=line.has_deliveries)
    access = upstream.access(line.account, line.connector, Operation.PAGE, priority=_PRIORITIES[mode])
    return Turn(
        line,
        client(access),
        state=state,
        mode=mode,
        # In this order: a history that is renamed in between is then noticed.
        place=await stock.read_place(line.redis, line.keys, line.account.name),
        epoch=(await stock.read_head(line.redis, line.keys)).epoch,
    )


async def _plan_next(line: Line, done: Turn, after: PollState, sync: AccountSync | None) -> None:
    planned = rules.plan(
        line.account.name,
        after,
        sync,
        has_deliveries=line.has_deliveries,
        first_ms=done.began_ms,
        now_ms=now_ms(),
        settings=line.settings.polling,
    )
    state = replace(after, due_ms=planned.due_ms)
    await store.write_poll(line.redis, line.account.merchant, line.account.name, state)


async def _tell(line: Line, done: Turn, problem: Problem | None) -> None:
    """Have what was read with everything else struck off, and tell who judges deliveries what was found."""
    if done.sweep_from_ms:
        await store.strike_off_all(line.redis, line.keys, line.account.name, upto_ms=done.sweep_from_ms)
    finding = PollFinding(
        at_ms=done.began_ms,
        reached_end=done.reached_end,
        records=done.tally.found,
        unseen=done.tally.unseen,
        oldest_unseen_ms=done.tally.oldest_unseen_ms,
        newest_ms=done.tally.newest_ms,
        failed=problem.detail if problem else "",
    )
    await sync_lag.note_poll(line.redis, line.account.name, finding)


def _state_after(
    before: PollState,
    done: Turn,
    problem: Problem | None,
    settings: Settings,
) -> PollState:
    begun = replace(
        before,
        mode=done.mode,
        last_ms=done.began_ms,
        sweep_ms=before.sweep_wished_ms if done.tally.pages else before.sweep_ms,
        is_sweeping=done.is_sweeping,
    )
    if problem is None:
        has_more = done.has_more and done.mode is not Mode.PROBE
        rows = len(done.left_out)
        error = f"{rows} rows cannot be used and were left out: {done.left_out[0]}" if rows else ""
        return replace(begun, failures=0, retry_ms=0, has_more=has_more, last_error=error)
    failures = before.failures + 1
    polling = settings.polling
    pause_s = float(problem.retry_after_s or 0) or full_jitter_s(
        failures, base_s=polling.retry_base_ms / 1000, max_s=polling.retry_max_ms / 1000
    )
    return replace(
        begun,
        failures=failures,
        retry_ms=now_ms() + int(pause_s * 1000),
        has_more=False,
        last_error=problem.detail,
    )


def _measure(platform: str, done: Turn, problem: Problem | None) -> None:
    result = "overtaken" if done.is_overtaken else "ok"
    if problem is not None:
        result = _kind(problem)
    metrics.polls.labels(platform, done.mode.value, result).inc()
    metrics.poll_pages.labels(platform).inc(done.tally.pages)
    metrics.poll_records.labels(platform).inc(done.tally.records)
    metrics.poll_put_aside.labels(platform).inc(done.tally.put_aside + len(done.left_out))


def _kind(problem: Problem) -> str:
    if isinstance(problem, UpstreamThrottled):
        return "throttled"
    return "refused" if isinstance(problem, UpstreamRefused) else "failed"
