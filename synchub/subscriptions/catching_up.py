"""Finds out what an endpoint has missed, however long it was away, without a queue.

Every answer knows the sequence of its last change, so the answers themselves say what changed after a
position. The feed stream is read where it still reaches back that far; beyond that, and for named SKUs, the
answers are read. Neither costs more memory than a limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.stock import operations as stock
from synchub.subscriptions import store
from synchub.subscriptions.model import EVERYTHING, Missed, Spot
from synchub.subscriptions.rules import earliest, is_before, matches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings
    from synchub.stock.model import Answer, Position, Reading
    from synchub.subscriptions.model import Filter


async def head_of(redis: Executes, keys: MerchantKeys) -> Position:
    """Return where the merchant's history ends now; one without a name is given one."""
    head = await stock.read_head(redis, keys)
    return head if head.epoch else await store.named_head(redis, keys)


async def changed_since(
    redis: Executes, keys: MerchantKeys, spot: Spot, chosen: Filter, settings: Settings
) -> Missed:
    """Return the latest state of what matches and has changed after a position.

    When that is more than ``subscriptions.pending_max``, those that have stood longest: go on from
    ``reach``. A position in another history counts as one before everything.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store does not answer.
    """
    head = await head_of(redis, keys)
    if spot.epoch != head.epoch:
        spot = Spot(epoch=head.epoch, seq=EVERYTHING)
    oldest = await store.read_oldest(redis, keys)
    truncated = is_before(spot, head.feed_seq if oldest is None else oldest)
    if not truncated and not chosen.skus:
        found = await _by_stream(redis, keys, spot, chosen, head.feed_seq, settings)
        if found is not None:
            return found
        truncated = True  # trimmed while it was read
    return await _by_answers(redis, keys, spot, chosen, settings, truncated=truncated)


async def _by_stream(
    redis: Executes, keys: MerchantKeys, spot: Spot, chosen: Filter, upto: int, settings: Settings
) -> Missed | None:
    """Read change after change; None when some of them are gone."""
    changed: dict[str, Answer] = {}
    seq = spot.seq
    while seq < upto and len(changed) < settings.subscriptions.pending_max:
        entries = await store.read_range(redis, keys, after=seq, upto=upto, limit=settings.feed.read_max)
        for entry in entries:
            if entry.previous > seq:
                return None
            seq = entry.seq
            if matches(chosen, entry.answer.sku):
                changed[entry.answer.sku] = entry.answer
        if not entries:
            return None
    reach = Spot(epoch=spot.epoch, seq=max(seq, spot.seq))
    return Missed(changed=changed, reach=reach, is_all=seq >= upto, truncated=False)


async def _by_answers(
    redis: Executes, keys: MerchantKeys, spot: Spot, chosen: Filter, settings: Settings, *, truncated: bool
) -> Missed:
    """Look at every answer there is; the position is that of the first page."""
    most = settings.subscriptions.pending_max + len(chosen.skus)
    changed: dict[str, Answer] = {}
    reach, is_all = -1, True
    async for reading in _pages(redis, keys, chosen, settings.feed.snapshot_part):
        reach = reading.position.feed_seq if reach < 0 else reach
        if reading.position.epoch != spot.epoch:
            # Renamed between two reads: the next look finds everything in the new history.
            return Missed(changed={}, reach=spot, is_all=False, truncated=True)
        changed.update((answer.sku, answer) for answer in reading.answers if answer.seq > spot.seq)
        if len(changed) > most:
            is_all = False
            changed = {answer.sku: answer for answer in earliest(changed.values(), most)}
    if not is_all:
        reach = min(reach, max(answer.seq for answer in changed.values()))
    reach = max(reach, 0)
    return Missed(
        # What has changed since the first page was read is found from there on.
        changed={sku: answer for sku, answer in changed.items() if answer.seq <= reach},
        reach=Spot(epoch=spot.epoch, seq=reach),
        is_all=is_all,
        truncated=truncated,
    )


async def _pages(redis: Executes, keys: MerchantKeys, chosen: Filter, size: int) -> AsyncIterator[Reading]:
    names = sorted(chosen.skus)
    for start in range(0, len(names), size):
        yield await stock.read(redis, keys, names[start : start + size])
    after = ""
    while not names:
        reading = await stock.read_page(redis, keys, prefix=chosen.prefix, after=after, limit=size)
        yield reading
        if len(reading.answers) < size:
            return
        after = reading.answers[-1].sku
