"""What can be done with an account's maps: set them, show them, show what waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.connector_kit.events import Catalogue, CatalogueStatus
from synchub.kit.clock import now_ms
from synchub.mappings import rules, store
from synchub.mappings.model import Counts, Mappings, ParkedPage
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.settings import Settings


async def map_item(
    redis: Executes, keys: MerchantKeys, account: str, item: str, sku: str, *, settings: Settings
) -> None:
    """Say which SKU a platform's item is; events that waited for it are applied in the same step.

    An item that was another SKU before takes its stock along: the old SKU loses it at once, the
    new one gains it with the next report, which is asked for. Repeatable.

    Raises:
        InvalidRequest: the item or the SKU is not an identifier.
    """
    item = rules.check_identifier(item, "The item")
    event = Catalogue(item=item, sku=rules.check_identifier(sku, "The SKU"))
    await _tell(redis, keys, account, [event], settings=settings)


async def map_location(
    redis: Executes, keys: MerchantKeys, account: str, theirs: str, ours: str, *, settings: Settings
) -> int:
    """Say which of the merchant's locations a platform's location is, and apply what waited for it.

    Returns how many waiting items were tried. Repeatable, also after a failure half-way.

    Raises:
        InvalidRequest: not identifiers, mapped elsewhere already, or ours is taken by another one.
    """
    theirs = rules.check_identifier(theirs, "The platform's location")
    ours = rules.check_identifier(ours, "The merchant's location")
    present = await store.read_locations(redis, keys, account)
    if not rules.is_mapped(theirs, ours, present):
        await store.write_location(redis, keys, account, theirs, ours)
    waiting = await store.read_parked(redis, keys, account)
    return await stock.release(redis, keys, account, list(waiting), settings=settings)


async def list_mappings(redis: Executes, keys: MerchantKeys, account: str, *, limit: int = 1000) -> Mappings:
    """Return the account's stored maps; of the items the first ``limit`` found."""
    return Mappings(
        items=await store.read_items(redis, keys, account, limit),
        items_total=await store.count_items(redis, keys, account),
        locations=await store.read_locations(redis, keys, account),
    )


async def list_parked(redis: Executes, keys: MerchantKeys, account: str, *, limit: int = 100) -> ParkedPage:
    """Return the items whose events wait for a mapping, those that wait longest first."""
    waiting = await store.read_parked(redis, keys, account)
    items = []
    for item, since_ms in list(waiting.items())[:limit]:
        fields = await store.read_parked_fields(redis, keys, account, item)
        items.append(rules.parked_from(item, fields, since_ms))
    return ParkedPage(items=tuple(items), total=len(waiting))


async def count(redis: Executes, keys: MerchantKeys, account: str) -> Counts:
    """Return how much is mapped and how much waits."""
    return Counts(
        items=await store.count_items(redis, keys, account),
        locations=len(await store.read_locations(redis, keys, account)),
        parked=len(await store.read_parked(redis, keys, account)),
    )


async def withdraw(redis: Executes, keys: MerchantKeys, account: str, *, settings: Settings) -> None:
    """Take the account's reports out of every SKU, page by page; answers follow at once. Repeatable."""
    mapped = await store.read_items(redis, keys, account, await store.count_items(redis, keys, account))
    await _remove(redis, keys, account, list(mapped), settings=settings)
    # An item that is its own SKU has no entry in the map.
    size = settings.ingress.batch_max
    after = ""
    while True:
        page = await stock.read_page(redis, keys, after=after, limit=size)
        skus = [answer.sku for answer in page.answers]
        await _remove(redis, keys, account, skus, settings=settings)
        if len(skus) < size:
            return
        after = skus[-1]


async def forget(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Delete the account's maps and waiting events. Repeatable."""
    await store.forget(redis, keys, account)


async def _remove(
    redis: Executes, keys: MerchantKeys, account: str, items: Sequence[str], *, settings: Settings
) -> None:
    events = [Catalogue(item=item, status=CatalogueStatus.REMOVED) for item in items]
    await _tell(redis, keys, account, events, settings=settings)


async def _tell(
    redis: Executes, keys: MerchantKeys, account: str, events: Sequence[Catalogue], *, settings: Settings
) -> None:
    about = Circumstances(account=account, at_ms=now_ms(), is_read=False, op="", cause="mapping")
    await stock.apply(redis, keys, rows_of(events, about), settings=settings)
