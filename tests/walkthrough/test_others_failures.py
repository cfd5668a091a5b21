"""What went wrong in other shops' and warehouses' software, tried here: each test names the report.

Every one of them is a way to sell a unit twice, to lose one for ever, or to keep one from its buyer.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from synchub.mappings import operations as mappings
from synchub.mappings.model import Part
from synchub.stock import operations as stock
from tests.support.buyers import Shop, left, line, open_shop, problem, told
from tests.support.deliveries import body_of, level, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.support.hub import Heard


@pytest.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    async with open_shop(redis_url) as one:
        yield one


def statuses(answers: Iterable[Heard]) -> Counter[str]:
    return Counter(json.loads(one.body)["status"] for one in answers)


async def in_the_books(shop: Shop) -> tuple[int, int]:
    """Units to sell and units held, of ``TEE``."""
    reading = await stock.read(shop.site.hub.redis, shop.site.merchant.keys, ["TEE"])
    return reading.answers[0].ats, reading.answers[0].held


async def test_501_want_one_of_50(shop: Shop) -> None:
    """medusajs/medusa#16569: reservations made at once went beyond the stock, and the counter lost some."""
    await shop.has(50)
    buyers = [await shop.buyer() for _ in range(3)]
    answers = await asyncio.gather(
        *(buyers[n % 3].post("", {"lines": [line()]}, once=f"k{n}") for n in range(501))
    )
    assert statuses(answers) == {"held": 50, "refused": 451}
    assert await in_the_books(shop) == (0, 50)


async def test_two_lines_of_one_cart_share_the_stock(shop: Shop) -> None:
    """medusajs/medusa#16502: two lines on one item were each checked against all of the stock."""
    await shop.has(5)
    buyer = await shop.buyer()
    assert (await buyer.refused(line(3), line(3)))["reason"] == "insufficient"
    assert (await buyer.refused(line(3, location="WH1"), line(3)))["reason"] == "insufficient"
    assert await in_the_books(shop) == (5, 0)


async def test_what_went_while_it_lay_in_the_cart_cannot_be_bought(shop: Shop) -> None:
    """vendure-ecommerce/vendure#1738: what others had bought since could still be bought from an old cart."""
    await shop.has(20)
    one, other = await shop.buyer(), await shop.buyer()
    cart = await one.stock("TEE", "?quantity=5")
    assert cart["covers"] is True
    told(await other.commit(await other.hold(line(20)), order_id="1001"))
    assert (await one.refused(line(5, checksum=cart["checksum"])))["reason"] == "changed"
    assert (await one.refused(line(5), expected_seq=cart["seq"]))["reason"] == "sequence_moved"
    assert await in_the_books(shop) == (0, 0)


async def test_what_lies_in_a_cart_cannot_be_bought_by_others(shop: Shop) -> None:
    """The same report from the other side: a cart that holds keeps its units."""
    await shop.has(20)
    one, other = await shop.buyer(), await shop.buyer()
    cart = await one.hold(line(5), mode="cart")
    assert (await other.refused(line(20)))["available"] == 15
    told(await other.commit(await other.hold(line(15))))
    assert told(await one.commit(cart))["status"] == "committed"


async def test_one_sale_is_taken_off_once_however_often_it_is_told(shop: Shop) -> None:
    """vendure-ecommerce/vendure#1571: the same allocation came again minutes or days later, and stayed."""
    await shop.has(10)
    buyer = await shop.buyer()
    held = await buyer.hold(line(4), once="k1")
    for _ in range(3):
        told(await buyer.commit(held, order_id="1001", once="k2"))
        await shop.sells("1001", units=4)
        await shop.later(60_000)
    assert await in_the_books(shop) == (6, 0)
    # Shipped and told so: the level contains it, and nothing stays behind.
    shipped = {"order_id": "1001", "line": "1", "quantity": "4", "key": "s1"}
    await shop.tell(body_of(acks=[shipped], sequence=90))
    await shop.tell(body_of(level("TEE", 6), sequence=91))
    assert await in_the_books(shop) == (6, 0)


async def test_two_who_pay_at_once_do_not_both_get_the_last(shop: Shop) -> None:
    """magento/magento2#6363: two checkouts at the same moment left a negative stock."""
    await shop.has(10)
    buyers = [await shop.buyer(), await shop.buyer()]
    wanted = [{"lines": [line(6)]}, {"lines": [line(7)]}]
    answers = await asyncio.gather(
        *(buyer.post("", body) for buyer, body in zip(buyers, wanted, strict=True))
    )
    assert statuses(answers) == {"held": 1, "refused": 1}
    winner = next(
        (buyer, json.loads(one.body)) for buyer, one in zip(buyers, answers, strict=True) if one.status == 201
    )
    paid = await asyncio.gather(*(winner[0].commit(winner[1], once="k") for _ in range(5)))
    assert {one.status for one in paid} == {200}
    assert (await in_the_books(shop))[0] >= 0


async def test_a_bundle_that_was_shipped_and_then_cancelled_comes_back_once(shop: Shop) -> None:
    """magento/inventory#1849: shipment and cancellation of a bundle each gave its units back."""
    await shop.has(100)
    hub, merchant = shop.site.hub, shop.site.merchant
    box_of_five = [Part(sku="TEE", units=5)]
    await mappings.map_parts(
        hub.redis, merchant.keys, merchant.account, "BOX", box_of_five, settings=hub.settings
    )
    box = {"order_id": "1001", "line": "1", "sku": "BOX", "quantity": "1", "status": "placed"}
    await shop.tell(body_of(orders=[box], sequence=10))
    assert await in_the_books(shop) == (95, 0)
    shipped = {"order_id": "1001", "line": "1", "sku": "BOX", "quantity": "1", "key": "s1"}
    await shop.tell(body_of(acks=[shipped], sequence=11))
    await shop.tell(body_of(level("TEE", 95), sequence=12))
    assert await in_the_books(shop) == (95, 0)
    await shop.tell(body_of(orders=[{**box, "quantity": "0", "status": "cancelled"}], sequence=13))
    # They have left the warehouse: only its own level brings them back.
    assert await in_the_books(shop) == (95, 0)
    await shop.tell(body_of(acks=[{**shipped, "quantity": "-1", "key": "r1"}], sequence=14))
    await shop.tell(body_of(level("TEE", 100), sequence=15))
    assert await in_the_books(shop) == (100, 0)


async def test_a_shopper_is_not_in_its_own_way(shop: Shop) -> None:
    """woocommerce/woocommerce#67354: an abandoned payment kept the last unit from its own buyer."""
    await shop.has(1)
    buyer = await shop.buyer()
    abandoned = await buyer.hold(mode="cart", session="s")
    again = await buyer.hold(mode="cart", session="s", replaces=abandoned["id"])
    assert told(await buyer.commit(again))["status"] == "committed"
    assert await in_the_books(shop) == (0, 0)


async def test_a_shoppers_two_payments_do_not_both_get_the_last(shop: Shop) -> None:
    """woocommerce/woocommerce#67931: the mend of the former let both orders be paid."""
    await shop.has(1)
    buyer, other = await shop.buyer(), await shop.buyer()
    abandoned = await buyer.hold(mode="cart", session="s")
    # Without saying what it replaces, it is one more who wants the last unit; nobody else's is replaced.
    assert (await buyer.refused(session="s"))["reason"] == "insufficient"
    assert problem(await other.post("", {"lines": [line()], "replaces": abandoned["id"]}))[0] == 404
    again = await buyer.hold(session="s", replaces=abandoned["id"])
    both = await asyncio.gather(buyer.commit(abandoned, regrant=True), buyer.commit(again))
    assert sorted(one.status for one in both) == [200, 409]
    assert await in_the_books(shop) == (0, 0)


async def test_a_level_that_has_not_heard_of_a_sale_does_not_bring_it_back(shop: Shop) -> None:
    """OCA/connector-magento#226: between two pickings the warehouse's level returned what was sold."""
    await shop.has(5)
    buyer = await shop.buyer()
    sold = [await buyer.hold(), await buyer.hold()]
    for held in sold:
        told(await buyer.commit(held))
    await shop.has(5)
    assert await in_the_books(shop) == (3, 0)
    # Each is picked at its time: the level contains the one before it contains the other.
    for number, held in enumerate(sold):
        picked = {"reference": held["id"], "sku": "TEE", "quantity": "1", "key": f"picked-{number}"}
        await shop.tell(body_of(acks=[picked], sequence=20 + number))
        await shop.tell(body_of(level("TEE", 4 - number), sequence=30 + number))
        assert await in_the_books(shop) == (3, 0)


async def test_a_hold_that_ends_does_not_return_what_was_sold(shop: Shop) -> None:
    """openlinker-project/openlinker#2346: a naive expiry returns units that an order has taken."""
    await shop.has(5)
    buyer = await shop.buyer()
    held = await buyer.hold(line(3), ttl_ms=2000)
    await shop.sells("1001", units=3, reference=held["id"])
    await shop.later(60_000)
    assert await in_the_books(shop) == (2, 0)
    lost = await buyer.hold(line(2), ttl_ms=2000, once="k1")
    told(await buyer.commit(lost, order_id="1002", once="k2"))
    await shop.later(60_000)
    # The answer was lost, so the caller tries again: once is once.
    assert told(await buyer.commit(lost, order_id="1002", once="k2"))["status"] == "committed"
    assert await in_the_books(shop) == (0, 0)


async def test_takers_of_every_kind_share_the_same_units(shop: Shop) -> None:
    """inventree/InvenTree#12478: allocations of different kinds were each checked by themselves."""
    await shop.has(5)
    await shop.has(5, location="WH2")
    buyers = [await shop.buyer(channels=[channel]) for channel in ("chat", "voice", "shop")]
    bodies = [
        {"lines": [line(5, location="WH1")], "mode": "intent"},
        {"lines": [line(5)], "mode": "hold"},
        {"lines": [line(5, location="WH2")], "mode": "cart"},
    ]
    answers = await asyncio.gather(
        *(buyer.post("", body) for _ in range(5) for buyer, body in zip(buyers, bodies, strict=True))
    )
    assert statuses(answers)["held"] == 2
    assert await in_the_books(shop) == (0, 10)


async def test_a_zero_that_means_nothing_wipes_nothing_out(shop: Shop) -> None:
    """woocommerce/woocommerce-square#529: "not tracked" came as zero and wiped the stock out."""
    await shop.has(7)
    for quantity, state in ((None, "sellable"), (0, "untracked"), ("", "sellable")):
        row = level("TEE", quantity, state=state)
        heard = await shop.site.post(body_of(row, sequence=30))
        assert heard.status == 202
        await shop.site.drained()
        assert (await in_the_books(shop))[0] == 7


async def test_the_same_word_of_a_payment_takes_nothing_twice(shop: Shop) -> None:
    """woocommerce/woocommerce-gateway-stripe#3327: webhook and browser both took the units off."""
    await shop.has(10)
    buyer = await shop.buyer()
    held = await buyer.hold(line(3))
    order = {"order_id": "1001", "line": "1", "sku": "TEE", "quantity": "3", "status": "placed"}
    body = body_of(orders=[{**order, "reference": held["id"]}], sequence=40)
    merchant = shop.site.merchant
    headers = signed(merchant, body, message_id="msg_same")
    told_of, bought = await asyncio.gather(
        asyncio.gather(*(shop.site.ask("POST", merchant.hook, data=body, headers=headers) for _ in range(5))),
        asyncio.gather(*(buyer.commit(held, order_id="1001", once=f"k{n}") for n in range(5))),
    )
    await shop.site.drained()
    assert {one.status for one in told_of} == {202}
    assert {one.status for one in bought} <= {200, 409}
    assert (await buyer.look(held))["status"] == "committed"
    assert await in_the_books(shop) == (7, 0)
    assert await left(buyer) == 7
