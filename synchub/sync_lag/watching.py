"""The judge: one worker of all, under a lease, looks at every account once a second.

What it remembers of an account is written now and then, with the last observation that is part of it, and
observations stay in their stream until then: who takes over reads the rest again and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from synchub import metrics
from synchub.accounts.rules import can_call
from synchub.errors import Fault, SynchubError
from synchub.ingress.consumer import TROUBLE
from synchub.kit.clock import monotonic_ms, now_ms
from synchub.kit.tasks import end, is_ending
from synchub.logs import get_logger
from synchub.sync_lag import rules, store
from synchub.sync_lag.evidence import duration
from synchub.sync_lag.model import About, AccountSync, Everyone, HookFinding, PollFinding, SyncState, Terms
from synchub.sync_lag.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from synchub.accounts.directory import Directory
    from synchub.accounts.model import AccountView
    from synchub.connector_kit.contract import Connector
    from synchub.lua import Executes
    from synchub.settings import Settings

LEASE_MS: Final = 5000
PAGE: Final = 500
PAGES_MAX: Final = 20
"""Pages of observations in one look."""
REMEMBER_EVERY_MS: Final = 60_000
"""What is known of an account is written that often, and when its state changes."""
TELL_EVERY_MS: Final = 5000
"""What is said of an account is written that often, and when its evidence changes."""
DEAF_MS: Final = 10_000
"""After a pause of so long in judging, no silence before its end counts."""
BEHIND_MS: Final = 10_000
"""Deliveries that waited here for so long say that we are behind."""
RECEIVER_MS: Final = 20_000
"""A receiver that has given no sign of life for so long is gone."""
JITTER: Final = 0.05
_log = get_logger()


class Watcher:
    """Judges while it has the lease; ``ask`` provokes a sign of life where a platform can give one."""

    def __init__(
        self,
        redis: Executes,
        directory: Directory,
        connectors: Mapping[str, Connector],
        settings: Settings,
        ask: Callable[[AccountView, Connector], Awaitable[bool]],
    ) -> None:
        self._redis = redis
        self._directory = directory
        self._connectors = connectors
        self._settings = settings
        self._ask = ask
        self._owner = secrets.token_hex(8)
        self._is_well = True
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._forget_all()

    async def run(self) -> None:
        """Judge, or wait for the one who does to end, until cancelled."""
        every_s = self._settings.sync.look_every_ms / 1000
        try:
            while not is_ending():
                await self._try_turn()
                await asyncio.sleep(every_s)
        finally:
            await end(*self._asking.values())
            if self.has_lease:
                with contextlib.suppress(*TROUBLE):
                    await self.retire()

    async def turn(self, now: int | None = None) -> bool:
        """Look once, if the right to judge is to be had; returns whether it was."""
        ttl_ms = max(LEASE_MS, 3 * self._settings.sync.look_every_ms)
        began_ms = monotonic_ms()
        self.has_lease = await store.take_lease(self._redis, self._owner, ttl_ms)
        if not self.has_lease:
            self._forget_all()
            return False
        at_ms = now_ms() if now is None else now
        if not self._is_loaded:
            await self._load(at_ms)
        await self._look(at_ms, must_end_ms=began_ms + ttl_ms)
        return self.has_lease

    async def retire(self) -> None:
        """Write everything down and let somebody else judge."""
        await self._remember(set(self._watches), now_ms())
        await store.take_lease(self._redis, self._owner, 0)
        self.has_lease = False

    async def _try_turn(self) -> None:
        try:
            await self.turn()
        except TROUBLE as trouble:
            # What was read and not written is read again.
            self._forget_all()
            if self._is_well:
                _log.warning("watch_interrupted", reason=f"{type(trouble).__name__}: {trouble}")
            self._is_well = False
        else:
            if not self._is_well:
                _log.info("watch_resumed")
            self._is_well = True

    def _forget_all(self) -> None:
        self.has_lease = False
        self._is_loaded = False
        self._watches: dict[str, Watch] = {}
        self._known_to: dict[str, tuple[int, int]] = {}
        self._written_ms: dict[str, int] = {}
        self._told: dict[str, AccountSync] = {}
        self._unwritten: set[str] = set()
        self._everyone = Everyone()
        self._everyone_told_ms = self._looked_ms = 0
        self._position = "0-0"
        self._receiver_ms = self._behind_to_ms = 0
        self._asks_due: dict[str, int] = {}

    async def _load(self, at_ms: int) -> None:
        for name, value in (await store.read_memories(self._redis)).items():
            watch = Watch.from_json(value)
            if watch is not None:
                self._watches[name] = watch
                self._known_to[name] = _order(watch.position)
                self._written_ms[name] = at_ms - int(random.random() * REMEMBER_EVERY_MS)  # noqa: S311 - spreads work
        self._told, self._everyone = await store.read_verdicts(self._redis)
        self._looked_ms = self._everyone.judged_ms
        self._is_loaded = True

    async def _look(self, at_ms: int, *, must_end_ms: int) -> None:
        await self._keep_to_accounts(at_ms)
        terms = self._terms()
        await self._take_in(at_ms, terms)
        if at_ms - self._looked_ms > DEAF_MS + self._settings.sync.look_every_ms:
            for watch in self._watches.values():
                rules.go_deaf(watch, at_ms)
        self._looked_ms = at_ms
        ours = self._fault_of_ours(at_ms, terms)
        changed = {name for name in self._watches if self._judge(name, at_ms, terms, ours)}
        if monotonic_ms() >= must_end_ms:
            # It was frozen, and somebody else judges by now: nothing of this may be written.
            self._forget_all()
            return
        self._ask_canaries(at_ms)
        await self._tell(at_ms, terms, ours, changed)
        await self._remember(changed | self._overdue(at_ms), at_ms)

    async def _keep_to_accounts(self, at_ms: int) -> None:
        views = {view.name: view for view in self._directory.accounts()}
        self._about = {name: about for name, view in views.items() if (about := self._about_of(view))}
        for name in self._about.keys() - self._watches.keys():
            self._watches[name] = Watch(from_ms=at_ms, since_ms=at_ms)
            self._unwritten.add(name)
        gone = (self._watches.keys() | self._told.keys()) - self._about.keys()
        # A directory that has not been read yet knows nobody.
        if gone and self._directory.is_loaded:
            await store.forget(self._redis, gone)
        for name in gone:
            for known in (self._watches, self._told, self._known_to, self._asks_due):
                known.pop(name, None)
            self._unwritten.discard(name)

    def _about_of(self, view: AccountView) -> About | None:
        connector = self._connectors.get(view.platform)
        if connector is None:
            return None
        return About(
            account=view.name,
            merchant=view.merchant,
            platform=view.platform,
            is_polled=connector.manifest.polling is not None
            and can_call(connector.manifest, view.credentials),
            posts=bool(connector.manifest.topics),
        )

    def _terms(self) -> Terms:
        sync = self._settings.sync
        streams = sum(max(1, len(watch.topics)) for watch in self._watches.values())
        return Terms(
            silence_floor_ms=sync.silence_floor_ms,
            false_alarm_weeks=sync.false_alarm_weeks,
            learn_hours=sync.learn_hours,
            canary_every_ms=sync.canary_every_ms,
            canary_missed_max=sync.canary_missed_max,
            grace_ms=sync.grace_ms,
            recover_deliveries=sync.recover_deliveries,
            recover_polls=sync.recover_polls,
            tests=max(1, streams),
        )

    async def _take_in(self, at_ms: int, terms: Terms) -> None:
        for _ in range(PAGES_MAX):
            page = await store.observations(self._redis, self._position, PAGE)
            for entry_id, observation in page:
                self._observe(_order(entry_id), observation, at_ms, terms)
                self._position = entry_id
            if len(page) < PAGE:
                return

    def _observe(self, order: tuple[int, int], observation: Any, at_ms: int, terms: Terms) -> None:
        if isinstance(observation, tuple):
            name, finding = observation
            if watch := self._listening(name, order):
                self._find(name, watch, finding, terms)
            return
        if observation["receives"]:
            self._receiver_ms = max(self._receiver_ms, order[0])
        if observation["behind_ms"] > BEHIND_MS:
            self._behind_to_ms = max(self._behind_to_ms, order[0] + BEHIND_MS)
        for name, second in observation["seconds"].items():
            if watch := self._listening(name, order):
                rules.hear(watch, second, min(at_ms, order[0]), terms)

    def _listening(self, name: str, order: tuple[int, int]) -> Watch | None:
        """Return the account's watch, unless the observation is part of it already."""
        watch = self._watches.get(name)
        if watch is None or order <= self._known_to.get(name, (0, 0)):
            return None
        self._unwritten.add(name)
        return watch

    def _find(self, name: str, watch: Watch, finding: PollFinding | HookFinding, terms: Terms) -> None:
        if isinstance(finding, HookFinding):
            rules.learn_of_hooks(watch, finding)
            return
        about = self._about[name]
        rules.find(watch, finding, about, terms)
        if about.posts and not finding.failed:
            metrics.sync_found.labels(about.platform).inc(finding.records)
            metrics.sync_unseen.labels(about.platform).inc(finding.unseen)

    def _fault_of_ours(self, at_ms: int, terms: Terms) -> str:
        if at_ms < self._behind_to_ms:
            return "Deliveries wait here to be applied, so that it cannot be said who is silent."
        if self._receiver_ms and at_ms - self._receiver_ms > RECEIVER_MS:
            ago = duration(at_ms - self._receiver_ms)
            return f"No process that takes deliveries has given a sign of life for {ago}."
        posting = [watch for name, watch in self._watches.items() if self._about[name].posts]
        return rules.everyone_is_silent(posting, at_ms, terms)

    def _judge(self, name: str, at_ms: int, terms: Terms, ours: str) -> bool:
        watch = self._watches[name]
        is_behind = at_ms < self._behind_to_ms
        before = rules.judge(watch, self._about[name], at_ms, terms, ours=ours, is_behind=is_behind)
        if watch.state is before:
            return False
        reasons = [one.sentence for one in (watch.evidence or watch.kept)]
        if watch.state is SyncState.STALLED:
            _log.warning("sync_stalled", account=name, before=before.value, evidence=reasons)
        else:
            state = watch.state.value
            _log.info("sync_state_changed", account=name, before=before.value, state=state, evidence=reasons)
        return True

    async def _tell(self, at_ms: int, terms: Terms, ours: str, changed: set[str]) -> None:
        is_time = (
            at_ms - self._everyone_told_ms >= TELL_EVERY_MS or bool(ours) is not self._everyone.is_silent
        )
        named = set(self._watches) if is_time else changed | self._with_news()
        fresh = [rules.verdict(self._watches[name], self._about[name], at_ms, terms) for name in named]
        news = [one for one in fresh if _differs(one, self._told.get(one.account))]
        everyone = Everyone(is_silent=bool(ours), sentence=ours, judged_ms=at_ms)
        if is_time or news:
            await store.write_verdicts(self._redis, news, everyone)
            self._everyone_told_ms, self._everyone = at_ms, everyone
            self._told.update({one.account: one for one in news})

    def _with_news(self) -> set[str]:
        return {
            name
            for name, watch in self._watches.items()
            if name not in self._told
            or {one.kind for one in (*watch.kept, *watch.evidence)}
            != {one.kind for one in self._told[name].evidence}
        }

    def _overdue(self, at_ms: int) -> set[str]:
        return {
            name for name in self._unwritten if at_ms - self._written_ms.get(name, 0) >= REMEMBER_EVERY_MS
        }

    async def _remember(self, names: set[str], at_ms: int) -> None:
        if not names:
            return
        for name in names:
            self._watches[name].position = self._position
        await store.write_memories(self._redis, {name: self._watches[name].as_json() for name in names})
        self._written_ms.update(dict.fromkeys(names, at_ms))
        self._unwritten -= names
        kept_from = [_order(self._watches[name].position) for name in self._unwritten]
        first = min([*kept_from, _order(self._position)])
        if first > (0, 0):
            await store.drop_observations(self._redis, f"{first[0]}-{first[1]}")

    def _ask_canaries(self, at_ms: int) -> None:
        every_ms = self._settings.sync.canary_every_ms
        for name in self._watches:
            view = self._directory.find_account(name)
            connector = self._connectors.get(view.platform) if view else None
            if view is None or connector is None or connector.canary_client is None:
                continue
            if at_ms < self._asks_due.setdefault(name, at_ms + int(every_ms * random.random())):  # noqa: S311 - spreads calls
                continue
            if name in self._asking and not self._asking[name].done():
                continue
            self._asks_due[name] = at_ms + int(every_ms * (1 - JITTER * random.random()))  # noqa: S311 - spreads calls
            self._asking[name] = asyncio.create_task(self._ask_one(view, connector), name="ask-canary")

    async def _ask_one(self, view: AccountView, connector: Connector) -> None:
        asked_ms = now_ms()
        try:
            is_due = await self._ask(view, connector)
        except (SynchubError, Fault) as problem:
            _log.debug("canary_not_asked", account=view.name, reason=problem.detail)
            return
        watch = self._watches.get(view.name)
        if is_due and watch is not None:
            rules.ask(watch, asked_ms)
            self._unwritten.add(view.name)


def _differs(one: AccountSync, other: AccountSync | None) -> bool:
    return other is None or replace(one, judged_ms=0) != replace(other, judged_ms=0)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
