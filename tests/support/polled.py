"""A platform that is read page by page, inside the test: what it has, and how it misbehaves."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from synchub.connector_kit.contract import Page, Record
from synchub.connector_kit.events import Delta, Level, Scale, Version
from synchub.connector_kit.manifest import ClientOffer, LimitsOffer, PollingOffer
from synchub.kit.clock import now_ms
from synchub.pipeline import poll_changes
from synchub.polling import operations as polling
from synchub.polling import store
from synchub.stock import operations as stock
from tests.support.hub import opened_hub, settings_with
from tests.support.merchants import CONNECTORS, add_merchant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from synchub.connector_kit.contract import Access, Connector
    from synchub.connector_kit.events import StockEvent
    from synchub.hub import Hub
    from synchub.polling.model import PollState
    from tests.support.merchants import Merchant

TOPIC = "stock.changed"


@dataclass
class Platform:
    """A journal of records; a cursor is the number of those that were read."""

    page_size: int = 3
    overlap: int = 0
    """Records before the end at which the next poll begins."""
    records: list[Record] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Cursors that were asked for."""
    fetched: list[str] = field(default_factory=list)
    """Items that were asked for one by one."""
    problems: list[Exception] = field(default_factory=list)
    """What the next calls end with."""
    pages: dict[str, Page] = field(default_factory=dict)
    """Answers to cursors, whatever the journal has."""
    is_timed: bool = True
    """Whether it can begin at a time."""

    def has(self, quantity: int, *, item: str = "TEE", age_ms: int = 0, topic: str = TOPIC) -> Record:
        """Change a level."""
        version = Version(scale=Scale.SEQUENCE, number=len(self.records) + 1)
        level = Level(item=item, location="WH1", quantity=quantity, version=version)
        return self.tells(level, age_ms=age_ms, topic=topic)

    def moves(self, amount: int, *, item: str = "TEE") -> Record:
        """Change a level by an amount, and say only that."""
        return self.tells(Delta(item=item, location="WH1", amount=amount, reason="sold"))

    def tells(self, *events: StockEvent, age_ms: int = 0, topic: str = TOPIC) -> Record:
        """Have one more record."""
        changed_us = (now_ms() - age_ms) * 1000
        record = Record(key=f"fact-{len(self.records)}", events=events, changed_at_us=changed_us, topic=topic)
        self.records.append(record)
        return record

    def page(self, cursor: str) -> Page:
        """Answer one call."""
        self.asked.append(cursor)
        if self.problems:
            raise self.problems.pop(0)
        if cursor in self.pages:
            return self.pages[cursor]
        start = int(cursor or 0)
        end = min(start + self.page_size, len(self.records))
        is_last = end == len(self.records)
        follows = max(0, end - self.overlap) if is_last else end
        return Page(records=tuple(self.records[start:end]), cursor=str(follows), is_last=is_last)

    def number_at(self, time_ms: int) -> str:
        """Where to begin to see what changed since."""
        if not self.is_timed:
            return ""
        later = (n for n, one in enumerate(self.records) if (one.changed_at_us or 0) >= time_ms * 1000)
        return str(min(later, default=len(self.records)))

    def connector(self, name: str = "standard", *, has_deliveries: bool = True) -> Connector:
        """The connector through which a hub reads it."""
        platform = self

        class Client:
            def __init__(self, access: Access) -> None:
                self.access = access

            def cursor_at(self, time_ms: int) -> str:
                return platform.number_at(time_ms)

            async def fetch_page(self, cursor: str) -> Page:
                return platform.page(cursor)

            async def fetch_levels(self, items: Sequence[str]) -> tuple[StockEvent, ...]:
                platform.fetched += items
                return ()

        shipped = CONNECTORS[name]
        changes: dict[str, Any] = {
            "client": ClientOffer(fetch_levels_max=2),
            "polling": PollingOffer(cursor="event_id", page_max=100),
            "limits": LimitsOffer(capacity=1000, restored_per_s=1000),
        }
        if not has_deliveries:
            changes["topics"] = {}
        return replace(shipped, client=Client, manifest=shipped.manifest.model_copy(update=changes))


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A worker's view of one account of the platform."""

    hub: Hub
    merchant: Merchant
    platform: Platform

    async def poll(self) -> bool:
        """Have one turn."""
        account = self.hub.directory.find_account(self.merchant.account)
        assert account is not None
        return await poll_changes(self.hub, account)

    async def state(self) -> PollState:
        """How its polls go."""
        return (await polling.read_polls(self.hub.redis, self.merchant.name))[self.merchant.account]

    async def number(self, sku: str = "TEE") -> int:
        """What is in stock."""
        [answer] = (await stock.read(self.hub.redis, self.merchant.keys, [sku])).answers
        return answer.ats

    async def wishes(self, items: Mapping[str, int]) -> None:
        """Put items on the list of what is to be fetched."""
        for item, at_ms in items.items():
            key = self.merchant.keys.refetch(self.merchant.account)
            await self.hub.redis.execute("ZADD", key, at_ms, item)

    async def due(self) -> set[str]:
        """What is on that list."""
        keys, account = self.merchant.keys, self.merchant.account
        return set(await store.due_items(self.hub.redis, keys, account, now_ms=now_ms(), limit=1000))


@contextlib.asynccontextmanager
async def a_desk(
    redis_url: str, platform: Platform, *, has_deliveries: bool = True, **sections: Mapping[str, Any]
) -> AsyncIterator[Desk]:
    """A hub that knows the platform, and one account there."""
    merchant = await add_merchant(redis_url)
    async with opened_hub(settings_with(redis_url, **sections)) as hub:
        hub.connectors["standard"] = platform.connector(has_deliveries=has_deliveries)
        yield Desk(hub=hub, merchant=merchant, platform=platform)
