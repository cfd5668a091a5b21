"""How much agents, buyers, sessions and channels may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.buyers import line, problem, told

if TYPE_CHECKING:
    from tests.support.buyers import Buyer, Shop

SECOND: Final = 1000


async def test_one_agent_has_so_many_units_of_a_sku_in_a_day(shop: Shop, buyer: Buyer) -> None:
    await shop.has(50, "MUG")
    await shop.decide({"set": {"units_per_agent": 5}})
    answer = await buyer.refused(line(6))
    assert (answer["reason"], answer["available"]) == ("unit_limit", 5)
    held = await buyer.hold(line(3))
    assert (await buyer.refused(line(3)))["available"] == 2
    await buyer.hold(line(5, "MUG"))
    told(await buyer.release(held))
    told(await buyer.commit(await buyer.hold(line(5))))
    assert (await buyer.refused(line(1)))["available"] == 0
    await (await shop.buyer()).hold(line(5))


async def test_what_has_ended_counts_for_nobody(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"units_per_agent": 5, "units_per_buyer": 5, "channel_cap": 5}})
    await buyer.hold(line(5), ttl_ms=2000, buyer="b", channel="chat")
    await shop.later(2000)
    await buyer.hold(line(5), buyer="b", channel="chat")


async def test_what_was_sold_counts_when_the_rest_of_its_hold_ends(shop: Shop, buyer: Buyer) -> None:
    await shop.has(9, "MUG")
    await shop.decide({"set": {"units_per_agent": 3}})
    held = await buyer.hold(line(3), line(3, "MUG"), ttl_ms=2000)
    await shop.sells("1001", units=3, reference=held["id"])
    await shop.later(2000)
    assert (await buyer.refused(line(1)))["reason"] == "unit_limit"
    await buyer.hold(line(3, "MUG"))


async def test_a_day_is_the_merchants_own(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"units_per_agent": 5, "on_stale": "answer"}})
    told(await buyer.commit(await buyer.hold(line(5))))
    await shop.later(24 * 3600 * SECOND)
    await buyer.hold(line(5))


async def test_one_buyer_has_so_many_units_wherever_it_asks(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"units_per_buyer": 2}})
    other = await shop.buyer()
    await buyer.hold(line(1), buyer="anna")
    await other.hold(line(1), buyer="anna")
    assert (await other.refused(line(1), buyer="anna"))["reason"] == "unit_limit"
    await other.hold(line(2), buyer="bert")


async def test_a_session_has_so_many_transactions(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"set": {"transactions_per_session": 2}})
    told(await buyer.release(await buyer.hold(session="s1")))
    await buyer.hold(session="s1", once="k1")
    await buyer.hold(session="s1", once="k1")
    assert (await buyer.refused(session="s1"))["reason"] == "transaction_limit"
    await buyer.hold(session="s2")
    await (await shop.buyer()).hold(session="s1")


async def test_a_channel_has_its_cap(shop: Shop, buyer: Buyer) -> None:
    await shop.decide({"scope": {"channel": "chat"}, "set": {"channel_cap": 4}})
    # Named or the only one of the key: it is the same channel.
    bound = await shop.buyer(channels=["chat"])
    await bound.hold(line(3))
    answer = await buyer.refused(line(2), channel="chat")
    assert (answer["reason"], answer["available"]) == ("channel_cap", 1)
    await buyer.hold(line(1), channel="chat")
    assert (await bound.refused(line(1)))["reason"] == "channel_cap"
    await buyer.hold(line(5), channel="shop")


async def test_a_key_with_channels_sells_on_one_of_them(shop: Shop, buyer: Buyer) -> None:
    bound = await shop.buyer(channels=["chat", "voice"])
    heard = await bound.post("", {"lines": [line()]})
    assert problem(heard) == (422, "invalid_request")
    assert problem(await bound.post("", {"lines": [line()], "channel": "shop"})) == (403, "not_allowed")
    await bound.hold(channel="voice")


async def test_of_a_thousand_units_agents_get_nine_hundred(shop: Shop, buyer: Buyer) -> None:
    await shop.has(1000, "HOT")
    await shop.decide({"set": {"buffer_percent": 10}})
    for number in range(9):
        told(await buyer.commit(await buyer.hold(line(100, "HOT")), order_id=f"o{number}"))
    answer = await buyer.refused(line(1, "HOT"))
    assert (answer["reason"], answer["available"]) == ("insufficient", 0)
