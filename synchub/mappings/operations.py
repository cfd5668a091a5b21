"""What can be done with an account's maps: set them, show them, show what waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.connector_kit.events import Catalogue, CatalogueStatus
from synchub.kit.clock import now_ms
from synchub.mappings import rules, store
from synchub.mappings.model import Counts, Mappings, ParkedPage, Part
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, mapping_row, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.mappings.model import Decided
    from synchub.settings import Settings


async def map_item(
    redis: Executes, keys: MerchantKeys, account: str, item: str, sku: str, *, settings: Settings
) -> None:
    """Say which SKU a platform's item is (see :func:`map_parts`)."""
    await map_parts(redis, keys, account, item, [Part(sku=sku)], settings=settings)


async def map_parts(
    redis: Executes,
    keys: MerchantKeys,
    account: str,
    item: str,
    parts: Sequence[Part],
    *,
    settings: Settings,
) -> tuple[Part, ...]:
    """Say what a platform's item is: a SKU, a pack of one, or a kit of several.

    Events that waited for it are applied in the same step. An item that was something else before takes
    its stock and its open sales along: the old SKU loses the stock at once, a new one gains it with the
    next report, which is asked for. Returns the parts as they are stored. Repeatable.

    Raises:
        InvalidRequest: the item or a SKU is not an identifier, no parts, too many, one twice, or units
            out of range.
    """
    item = rules.check_identifier(item, "The item")
    checked = rules.check_parts(parts)
    row = mapping_row(account, item, rules.text_of(checked), at_ms=now_ms())
    await stock.apply(redis, keys, [row], settings=settings)
    return checked


async def decide(
    redis: Executes,
    keys: MerchantKeys,
    account: str,
    decided: Decided,
    *,
    settings: Settings,
) -> int:
    """Say how one more source of a SKU counts, and apply what waited for that.

    Returns how many waiting items were tried. Repeatable, also after a failure half-way.

    Raises:
        InvalidRequest: not identifiers, or only one of SKU and location is named.
    """
    decided = rules.check_decided(decided)
    await store.write_decision(redis, keys, account, decided)
    waiting = await store.read_parked(redis, keys, account)
    return await stock.release(redis, keys, account, list(waiting), settings=settings)


async def map_location(
    redis: Executes,
    keys: MerchantKeys,
    account: str,
    theirs: str,
    ours: str,
    *,
    covers: Sequence[str] = (),
    settings: Settings,
) -> int:
    """Say which of the merchant's locations a platform's location is, and apply what waited for it.

    With ``covers`` the location is a total: of these locations, or with ``*`` of all. It counts only for
    SKUs of which nobody counts any of them. Returns how many waiting items were tried. Repeatable,
    also after a failure half-way.

    Raises:
        InvalidRequest: not identifiers, mapped elsewhere already, or ours is taken by another one.
    """
    theirs = rules.check_identifier(theirs, "The platform's location")
    ours = rules.check_identifier(ours, "The merchant's location")
    members = rules.check_members(covers, ours)
    present = await store.read_locations(redis, keys, account)
    is_mapped = rules.is_mapped(theirs, ours, present)
    if members:
        await store.write_group(redis, keys, ours, members)
        await store.look_again(redis, keys, account)
    if not is_mapped:
        await store.write_location(redis, keys, account, theirs, ours)
    waiting = await store.read_parked(redis, keys, account)
    return await stock.release(redis, keys, account, list(waiting), settings=settings)


async def look_again(redis: Executes, keys: MerchantKeys, account: str) -> None:
    """Have every SKU settled anew that the account is a source of; the workers do it, a part at a time."""
    await store.look_again(redis, keys, account)


async def list_mappings(redis: Executes, keys: MerchantKeys, account: str, *, limit: int = 1000) -> Mappings:
    """Return the account's stored maps; of the items the first ``limit`` found."""
    parts = {
        item: rules.parts_of(text)
        for item, text in (await store.read_items(redis, keys, account, limit)).items()
    }
    return Mappings(
        items={item: one[0].sku for item, one in parts.items() if not rules.is_kit(one)},
        kits={item: several for item, several in parts.items() if rules.is_kit(several)},
        items_total=await store.count_items(redis, keys, account),
        locations=await store.read_locations(redis, keys, account),
        decided=await store.read_decisions(redis, keys, account),
        totals=await store.read_groups(redis, keys),
    )


async def list_locations(redis: Executes, keys: MerchantKeys, account: str) -> Mapping[str, str]:
    """Return which of the merchant's locations each mapped location of the account is."""
    return await store.read_locations(redis, keys, account)


async def list_parked(redis: Executes, keys: MerchantKeys, account: str, *, limit: int = 100) -> ParkedPage:
    """Return the items whose events wait for a mapping or a decision, those that wait longest first."""
    waiting = await store.read_parked(redis, keys, account)
    names = await store.read_names(redis, keys, account)
    items = []
    for item, since_ms in list(waiting.items())[:limit]:
        fields = await store.read_parked_fields(redis, keys, account, item)
        mapped = await store.read_map(redis, keys, account, item)
        items.append(rules.parked_from(item, fields, since_ms, mapped=mapped, names=names))
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
