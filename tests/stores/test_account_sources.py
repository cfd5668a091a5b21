"""What people decide about accounts, through the operations: maps, several sources, roles, evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from synchub.accounts import evidence
from synchub.accounts import operations as accounts
from synchub.accounts.evidence_rules import Way
from synchub.accounts.model import NewAccount, Role
from synchub.connector_kit.events import Level, OrderLine, OrderStatus, Scale, Version
from synchub.errors import InvalidRequest, NotFound
from synchub.keyspace import MerchantKeys
from synchub.kit.clock import now_ms
from synchub.mappings import operations as mappings
from synchub.mappings.model import Decided, Decision, Part
from synchub.stock import operations as stock
from synchub.stock.rules import Circumstances, rows_of
from tests.support.registry import SHOP_CREDENTIALS, open_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from synchub.accounts.operations import Registry
    from synchub.connector_kit.events import StockEvent
    from synchub.stock.model import Answer

ACME = MerchantKeys("acme")


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    """A merchant with a warehouse that names SKUs, and a shop."""
    async with open_registry(redis_url) as opened:
        await accounts.add_account(opened, NewAccount(platform="standard", merchant="acme", name="wms"))
        shop = NewAccount(platform="shop", merchant="acme", name="shop", credentials=SHOP_CREDENTIALS)
        await accounts.add_account(opened, shop)
        await mappings.map_location(opened.redis, ACME, "shop", "7", "WH1", settings=opened.settings)
        yield opened


async def tell(registry: Registry, account: str, *events: StockEvent) -> list[str]:
    about = Circumstances(account=account, at_ms=now_ms(), is_read=False, op=f"op-{events}", cause="test")
    applied = await stock.apply(registry.redis, ACME, rows_of(events, about), settings=registry.settings)
    return [one.outcome.value for one in applied]


def level(item: str, quantity: int, *, place: str = "WH1", number: int = 1) -> Level:
    version = Version(scale=Scale.SEQUENCE, number=number)
    return Level(item=item, location=place, quantity=quantity, version=version)


def sale(item: str, quantity: int, *, order: str = "1001") -> OrderLine:
    return OrderLine(order=order, line="1", item=item, quantity=quantity, status=OrderStatus.PLACED)


async def answer(registry: Registry, sku: str = "TEE") -> Answer:
    return (await stock.read(registry.redis, ACME, [sku])).answers[0]


async def settled(registry: Registry) -> None:
    """Let the reaper do what is due."""
    while (await stock.let_time_pass(registry.redis, ACME, settings=registry.settings)).left:
        pass


async def map_parts(registry: Registry, item: str, *parts: Part) -> tuple[Part, ...]:
    return await mappings.map_parts(registry.redis, ACME, "shop", item, parts, settings=registry.settings)


async def decide(registry: Registry, account: str, decision: Decision, **about: str) -> int:
    decided = Decided(sku=about.get("sku", ""), place=about.get("place", ""), decision=decision)
    return await mappings.decide(registry.redis, ACME, account, decided, settings=registry.settings)


# Maps


async def test_a_kit_is_kept_and_shown_with_its_parts(registry: Registry) -> None:
    await tell(registry, "wms", level("TEE", 10), level("MUG", 10))
    assert await tell(registry, "shop", sale("9", 2)) == ["parked"]
    kit = (Part(sku="TEE", units=3), Part(sku="MUG"))
    assert await map_parts(registry, "9", *kit) == kit
    assert [(await answer(registry, sku)).ats for sku in ("TEE", "MUG")] == [4, 8]
    found = await mappings.list_mappings(registry.redis, ACME, "shop")
    assert (found.items, found.kits, found.items_total) == ({}, {"9": kit}, 1)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "1 to 50 parts"),
        ([Part(sku=f"S{n}") for n in range(51)], "1 to 50 parts"),
        ([Part(sku="TEE", units=0)], "1 to 10000 units"),
        ([Part(sku="TEE", units=10_001)], "1 to 10000 units"),
        ([Part(sku="TEE"), Part(sku="TEE", units=2)], "stands there twice"),
        ([Part(sku="TE\x1fE")], "The SKU"),
    ],
)
async def test_parts_that_make_no_sense_are_refused(
    registry: Registry, parts: list[Part], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        await map_parts(registry, "9", *parts)
    assert (await mappings.list_mappings(registry.redis, ACME, "shop")).items_total == 0


async def test_the_waiting_list_tells_a_decision_from_a_mapping(registry: Registry) -> None:
    await accounts.change_role(registry, "shop", Role.AUTHORITY)
    await map_parts(registry, "9", Part(sku="TEE"))
    await map_parts(registry, "8", Part(sku="TEE"))
    assert await tell(registry, "shop", level("9", 5, place="7")) == ["applied"]
    assert await tell(registry, "shop", level("8", 4, place="7"), level("6", 1, place="7")) == [
        "parked",
        "parked",
    ]
    page = await mappings.list_parked(registry.redis, ACME, "shop")
    assert {one.item: one.undecided for one in page.items} == {"8": (("TEE", "WH1"),), "6": ()}
    assert await decide(registry, "shop", Decision.SUM, sku="TEE", place="WH1") == 2
    assert (await answer(registry)).ats == 9
    assert [one.item for one in (await mappings.list_parked(registry.redis, ACME, "shop")).items] == ["6"]
    told = (await mappings.list_mappings(registry.redis, ACME, "shop")).decided
    assert told == (Decided(sku="TEE", place="WH1", decision=Decision.SUM),)


async def test_a_decision_may_be_changed_and_counts_within_a_turn_of_the_reaper(registry: Registry) -> None:
    await accounts.change_role(registry, "shop", Role.AUTHORITY)
    await decide(registry, "shop", Decision.SUM)
    for item, quantity in (("9", 5), ("8", 4)):
        await map_parts(registry, item, Part(sku="TEE"))
        await tell(registry, "shop", level(item, quantity, place="7"))
    assert (await answer(registry)).ats == 9
    await decide(registry, "shop", Decision.SAME_POOL)
    await settled(registry)
    assert (await answer(registry)).ats == 4


async def test_a_decision_about_half_a_cell_is_refused(registry: Registry) -> None:
    with pytest.raises(InvalidRequest, match="both the SKU and the merchant's location"):
        await decide(registry, "shop", Decision.SUM, sku="TEE")


# Roles


async def test_a_change_of_role_reaches_every_sku_of_the_account(registry: Registry) -> None:
    await tell(registry, "wms", *(level(f"S{n:03}", 10) for n in range(150)))
    await tell(registry, "shop", sale("9", 2))
    await map_parts(registry, "9", Part(sku="S149"))
    changed = await accounts.change_role(registry, "wms", Role.CONTRIBUTOR)
    assert (changed.role, changed.rank) == (Role.CONTRIBUTOR, 1)
    await settled(registry)
    assert not any([(await answer(registry, f"S{n:03}")).known for n in range(150)])
    await accounts.change_role(registry, "wms", Role.AUTHORITY, 4)
    await settled(registry)
    assert (await answer(registry, "S000")).ats == 10
    assert (await answer(registry, "S149")).ats == 8
    assert (await accounts.find_account(registry.redis, "wms")).rank == 4
    assert (await accounts.check_account(registry, "wms")).is_sound


async def test_what_the_hub_writes_to_is_no_authority_at_once(registry: Registry) -> None:
    await accounts.change_role(registry, "shop", Role.MIRROR)
    with pytest.raises(InvalidRequest, match="the hub's own"):
        await accounts.change_role(registry, "shop", Role.AUTHORITY)
    await accounts.change_role(registry, "shop", Role.CONTRIBUTOR)
    changed = await accounts.change_role(registry, "shop", Role.AUTHORITY)
    assert (changed.role, changed.rank) == (Role.AUTHORITY, 2)


async def test_a_rank_alone_may_change_and_is_kept_in_bounds(registry: Registry) -> None:
    assert (await accounts.change_role(registry, "wms", Role.AUTHORITY, 7)).rank == 7
    assert (await accounts.change_role(registry, "wms", Role.AUTHORITY)).rank == 7
    with pytest.raises(InvalidRequest, match="from 1"):
        await accounts.change_role(registry, "wms", Role.AUTHORITY, 0)
    with pytest.raises(NotFound):
        await accounts.change_role(registry, "nobody", Role.AUTHORITY)


# Evidence


async def choose(registry: Registry, way: Way, lag_ms: int | None = None, **about: str) -> Any:
    authority, origin = about.get("authority", "wms"), about.get("origin", "shop")
    return await evidence.choose_evidence(
        registry.redis, "acme", authority, origin, way, lag_ms=lag_ms, manifests=registry.manifests
    )


async def test_a_time_is_chosen_shown_and_taken_back(lagging: Registry) -> None:
    chosen = await choose(lagging, Way.LAG, 30_000)
    assert (chosen.ways, chosen.lag_ms) == ((Way.REF, Way.LAG), 30_000)
    listed = await evidence.list_evidence(lagging.redis, "acme", lagging.manifests)
    assert {(one.authority, one.origin): one.lag_ms for one in listed} == {
        ("wms", "shop"): 30_000,
        ("wms", "wms"): None,
    }
    assert (await choose(lagging, Way.REF)).ways == (Way.REF,)
    assert (await choose(lagging, Way.LAG, 5, origin="*")).lag_ms == 5


@pytest.fixture
async def lagging(redis_url: str) -> AsyncIterator[Registry]:
    """The same merchant, with a warehouse to whom a time can be said."""
    async with open_registry(redis_url) as opened:
        manifest = opened.manifests["standard"]
        offers = manifest.evidence.model_copy(update={"offers": ("ref", "lag")})
        manifests = {**opened.manifests, "standard": manifest.model_copy(update={"evidence": offers})}
        object.__setattr__(opened, "manifests", manifests)
        await accounts.add_account(opened, NewAccount(platform="standard", merchant="acme", name="wms"))
        shop = NewAccount(platform="shop", merchant="acme", name="shop", credentials=SHOP_CREDENTIALS)
        await accounts.add_account(opened, shop)
        yield opened


async def test_what_a_platform_does_not_offer_cannot_be_chosen(registry: Registry) -> None:
    for way, lag_ms, about, reason in (
        (Way.LAG, 5, {}, "does not offer lag"),
        (Way.OWN, None, {}, "took itself"),
        (Way.OWN, None, {"origin": "wms"}, "does not offer own"),
        (Way.NEVER, 5, {}, "Only lag takes a time"),
        (Way.REF, None, {"authority": "shop"}, "is about an authority"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await choose(registry, way, lag_ms, **about)
    with pytest.raises(NotFound):
        await choose(registry, Way.REF, origin="stranger")


async def test_a_lag_needs_a_time_within_a_day(lagging: Registry) -> None:
    for lag_ms in (None, -1, 86_400_001):
        with pytest.raises(InvalidRequest, match="how many milliseconds"):
            await choose(lagging, Way.LAG, lag_ms)


async def test_an_authority_that_nothing_proves_is_told_when_it_is_checked(registry: Registry) -> None:
    manifest = registry.manifests["standard"]
    silent = manifest.model_copy(update={"evidence": manifest.evidence.model_copy(update={"offers": ()})})
    object.__setattr__(registry, "manifests", {**registry.manifests, "standard": silent})
    checked = await accounts.check_account(registry, "wms")
    assert any("contains sales of shop" in sentence for sentence in checked.sentences)


async def test_an_interruption_is_noted_counted_and_ends(lagging: Registry) -> None:
    about = {"redis": lagging.redis, "merchant": "acme", "authority": "wms", "origin": "shop"}
    assert not await evidence.suspend_evidence(**about, at_ms=1000)  # type: ignore[arg-type]  # by name
    await choose(lagging, Way.LAG, 50, origin="*")
    assert await evidence.suspend_evidence(**about, at_ms=1000)  # type: ignore[arg-type]  # by name
    assert not await evidence.suspend_evidence(**about, at_ms=2000)  # type: ignore[arg-type]  # by name
    (one,) = [
        one
        for one in await evidence.list_evidence(lagging.redis, "acme", lagging.manifests)
        if one.origin == "shop"
    ]
    assert (one.lag_ms, one.suspended_ms) == (50, 1000)
    assert await accounts.count_evidence(lagging.redis, "acme") == (1, 0)
    assert await evidence.resume_evidence(**about, at_ms=3000)  # type: ignore[arg-type]  # by name
    assert not await evidence.resume_evidence(**about, at_ms=4000)  # type: ignore[arg-type]  # by name
    assert await accounts.count_evidence(lagging.redis, "acme") == (0, 0)
    assert await evidence.suspend_evidence(**about, at_ms=5000)  # type: ignore[arg-type]  # by name
    stored = await lagging.redis.execute("HGET", ACME.evidence, "wms\x1fshop")
    assert stored == b"lag|50|1000"


async def test_a_removed_account_takes_its_choices_along(lagging: Registry) -> None:
    await choose(lagging, Way.LAG, 50)
    await decide(lagging, "wms", Decision.YES)
    await accounts.remove_account(lagging, "wms")
    assert await lagging.redis.execute("EXISTS", ACME.evidence, ACME.decided) == 0
