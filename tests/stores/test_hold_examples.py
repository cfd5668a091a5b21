"""Holds, commits and shares of the stock, one rule at a time, with numbers worked out by hand.

Every example runs on the shipped scripts in a real Valkey and on the reference model. Times are
milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.reference_answer import Role
from tests.support.reference_holds import Terms, Wish
from tests.support.rows import ITEM, ack, order, push
from tests.support.sales_examples import DAY, MAX_AGE, ONE, ats, tell

if TYPE_CHECKING:
    from tests.support.sales_examples import Hub


def test_a_hold_lowers_what_others_may_have_and_a_commit_moves_nothing(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant([Wish(ITEM, 3)], 20)
    assert (held.first, ats(hub), hub.answer(ITEM).held) == ("held", 7, 3)
    assert hub.commit(held.hold, 30).first == "done"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (7, 0, {"WH1": 3})


def test_a_hold_is_granted_on_all_lines_or_none(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(1, version=1, at=10, item="MUG-0001"), now=10)
    refused = hub.grant([Wish(ITEM, 3), Wish("MUG-0001", 2)], 20)
    assert (refused.reason, ats(hub)) == ("insufficient", 10)


def test_lines_of_one_sku_are_summed(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    assert hub.grant([Wish(ITEM, 3), Wish(ITEM, 3)], 20).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 3), Wish(ITEM, 2)], 20).first == "held"


def test_lines_of_one_place_are_summed(hub: Hub) -> None:
    tell(hub, push(4, version=1, at=10), push(50, version=1, at=10, location="WH2"), now=10)
    assert hub.grant([Wish(ITEM, 3, "WH1"), Wish(ITEM, 3, "WH1")], 20).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 3, "WH1")], 20).first == "held"
    assert hub.grant([Wish(ITEM, 2, "WH1")], 20).reason == "insufficient"


def test_what_is_not_split_must_lie_in_one_place(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), push(4, version=1, at=10, location="WH2"), now=10)
    whole = Terms(split=False)
    assert hub.grant([Wish(ITEM, 5)], 20, terms=whole).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 4)], 20, terms=whole).first == "held"


def test_at_its_deadline_a_hold_is_over_in_every_verb(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, ttl_ms=2000).hold
    assert hub.renew(held, 2000, 2999).deadline == 4999
    assert [hub.renew(held, 9, 4999).first, hub.commit(held, 4999).first] == ["over", "over"]
    assert (ats(hub), hub.answer(ITEM).held) == (10, 0)


def test_renewing_never_shortens_and_ends_at_three_lives(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, mode="intent", ttl_ms=5000).hold
    assert [hub.renew(held, 1000, 2000).deadline, hub.renew(held, 5000, 5000).deadline] == [6000, 10_000]
    hub.renew(held, 5000, 9000)
    assert hub.renew(held, 5000, 13_000).deadline == 16_000


def test_time_alone_ends_a_hold(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    hub.grant(ONE, 1000, ttl_ms=2000)
    head = hub.head
    hub.pass_time(3000)
    assert (ats(hub), hub.head[0]) == (10, head[0] + 1)
    hub.pass_time(3001)
    assert hub.head[0] == head[0] + 1


def test_a_repeat_gets_the_first_answer_and_the_present_status(hub: Hub) -> None:
    tell(hub, push(1, version=1, at=10), now=10)
    first = hub.grant(ONE, 1000, key="k")
    hub.commit(first.hold, 1100, key="c")
    again = hub.grant(ONE, 1200, key="k")
    assert (again.hold, again.deadline, again.status) == (first.hold, first.deadline, "committed")
    assert hub.commit(first.hold, 90_000, key="c").first == "done"
    assert hub.grant([Wish(ITEM, 2)], 1300, key="k").first == "mismatch"
    assert (ats(hub), hub.open(ITEM)) == (0, {"WH1": 1})


def test_replacing_a_hold_does_not_stand_in_its_own_way(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), now=10)
    first = hub.grant([Wish(ITEM, 2)], 20).hold
    assert hub.grant([Wish(ITEM, 3)], 30, replaces=first).first == "held"
    assert (ats(hub), hub.commit(first, 40).first) == (0, "over")


def test_what_an_order_took_of_a_hold_cannot_be_replaced(hub: Hub) -> None:
    tell(hub, push(4, version=1, at=10), push(9, version=1, at=10, item="MUG-0001"), now=10)
    first = hub.grant([Wish(ITEM, 2), Wish("MUG-0001", 1)], 20).hold
    tell(hub, order(2, at=30, references=(first,)), now=30)
    assert (ats(hub), hub.answer("MUG-0001").held) == (2, 1)
    assert hub.grant([Wish(ITEM, 3)], 40, replaces=first).reason == "insufficient"


def test_an_order_that_names_a_live_hold_is_its_commit(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant([Wish(ITEM, 2)], 20).hold
    tell(hub, order(2, at=30, references=(held,)), now=30)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (8, 0, {"WH1": 2})
    assert hub.commit(held, 40).status == "committed"
    assert ats(hub) == 8


def test_a_known_order_that_names_a_live_hold_later_takes_it_in(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(2, at=15, version=1), now=15)
    held = hub.grant([Wish(ITEM, 3)], 20).hold
    tell(hub, order(2, at=30, version=2, references=(held,)), now=30)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (8, 0, {"WH1": 2})


def test_a_hold_that_an_order_names_is_no_other_shops_order_of_that_number(hub: Hub) -> None:
    hub.set_role("market", Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True))
    tell(hub, push(10, version=1, at=10), order(1, at=15, account="market"), now=15)
    held = hub.grant([Wish(ITEM, 2)], 20).hold
    tell(hub, order(2, at=30, references=(held,)), now=30)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (7, 0, {"WH1": 3})


def test_a_repeated_order_takes_in_one_more_hold_that_it_names(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    first, second = (hub.grant(ONE, at).hold for at in (20, 30))
    assert tell(hub, order(2, at=40, version=1, references=(first,)), now=40) == ["applied"]
    tell(hub, order(2, at=40, version=1, references=(second,), op="again"), now=50)
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (8, 0, {"WH1": 2})


def test_an_ack_of_another_line_leaves_a_line_its_name(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), ack(-1, at=20, version=5, name="1002", line="1"), now=20)
    about: dict[str, Any] = {"version": 2, "name": "1002", "line": "2", "references": ("R2",)}
    tell(hub, order(4, at=30, **about), now=30)
    tell(hub, ack(1, at=40, version=3, name="1002", line="1", references=("R2",)), now=40)
    assert tell(hub, order(2, at=50, **about), now=50) == ["superseded"]
    assert hub.open(ITEM) == {"WH1": 4}


def test_an_order_that_names_a_dead_hold_is_a_sale_of_its_own_and_told(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 1000, ttl_ms=2000).hold
    tell(hub, order(1, at=4000, references=(held,)), now=4000)
    assert ats(hub) == 9
    assert f"dead_hold:{held}" in hub.ledger[-1].cause


def test_the_commit_of_an_order_that_is_known_already_joins_it(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    held = hub.grant(ONE, 20).hold
    tell(hub, order(1, at=30), now=30)
    assert ats(hub) == 8
    hub.commit(held, 40, order="1001")
    assert (ats(hub), hub.open(ITEM)) == (9, {"WH1": 1})


def test_what_is_beyond_the_stock_is_a_conflict_by_rank(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    terms = Terms(conflict="void")
    first, second = (hub.grant(ONE, at, terms=terms).hold for at in (20, 30))
    tell(hub, push(1, version=2, at=40), now=40)
    assert [hub.commit(first, 50).first, hub.commit(second, 60).first] == ["done", "conflict"]
    assert (ats(hub), hub.answer(ITEM).held) == (0, 0)


def test_a_conflict_may_be_honoured(hub: Hub) -> None:
    tell(hub, push(1, version=1, at=10), now=10)
    held = hub.grant(ONE, 20).hold
    tell(hub, push(0, version=2, at=30), now=30)
    told = hub.commit(held, 40)
    assert (told.first, told.reason, told.status, ats(hub)) == ("done", "conflict", "committed", -1)


def test_who_pays_late_gets_it_if_it_is_still_there(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    first, second = (hub.grant([Wish(ITEM, 2)], at, ttl_ms=1000).hold for at in (1000, 3000))
    assert hub.commit(first, 3500, regrants=True).first == "over"
    assert hub.commit(second, 5000, regrants=True).first == "done"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (0, 0, {"WH1": 2})


def test_a_commit_may_buy_a_part_and_the_rest_is_anybodys_again(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, item="MUG-0001"), now=10)
    held = hub.grant([Wish(ITEM, 4), Wish("MUG-0001", 2)], 20).hold
    told = hub.commit(held, 30, lines=[Wish(ITEM, 3)], key="k")
    assert (told.first, told.status) == ("done", "committed")
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (7, 0, {"WH1": 3})
    assert (hub.answer("MUG-0001").ats, hub.answer("MUG-0001").held, hub.open("MUG-0001")) == (5, 0, {})
    effects = [(one.sku, one.after) for one in hub.ledger if one.field == "hold"]
    assert [after for sku, after in effects if sku == ITEM] == ["held:4", "held:3", "committed"]
    assert [after for sku, after in effects if sku != ITEM] == ["held:2", "released"]
    assert hub.commit(held, 90_000, lines=[Wish(ITEM, 3)], key="k").first == "done"
    assert hub.commit(held, 90_000, lines=[Wish(ITEM, 2)], key="k").first == "mismatch"
    assert ats(hub) == 7


def test_a_commit_buys_no_more_than_is_held_and_then_nothing(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, item="MUG-0001"), now=10)
    held = hub.grant([Wish(ITEM, 4)], 20).hold
    for lines in ([Wish(ITEM, 5)], [Wish(ITEM, 1), Wish("MUG-0001", 1)], [Wish(ITEM, 1, "WH2")]):
        assert hub.commit(held, 30, lines=lines, key="k").first == "not held"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (6, 4, {})
    assert hub.commit(held, 40, lines=[Wish(ITEM, 4)], key="k").first == "done"


def test_a_part_of_a_hold_at_several_places_is_named_by_its_place(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), push(5, version=1, at=10, location="WH2"), now=10)
    held = hub.grant([Wish(ITEM, 4, "WH1"), Wish(ITEM, 3, "WH2")], 20).hold
    assert hub.commit(held, 30, lines=[Wish(ITEM, 1)]).first == "not held"
    assert hub.commit(held, 30, lines=[Wish(ITEM, 2, "WH2")]).first == "done"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (13, 0, {"WH2": 2})
    # Nothing of it stays held at a place, so all of it can be had there.
    assert hub.grant([Wish(ITEM, 10, "WH1"), Wish(ITEM, 3, "WH2")], 40).first == "held"


def test_the_part_that_is_bought_is_judged_and_not_all_that_was_held(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    held = hub.grant([Wish(ITEM, 5)], 20, terms=Terms(conflict="void")).hold
    tell(hub, push(2, version=2, at=30), now=30)
    told = hub.commit(held, 40, lines=[Wish(ITEM, 2)])
    assert (told.first, told.status, ats(hub), hub.open(ITEM)) == ("done", "committed", 0, {"WH1": 2})


def test_what_a_part_gives_back_is_not_counted_for_the_channel(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    capped = Terms(channel_cap=4)
    hub.commit(hub.grant([Wish(ITEM, 4)], 20, terms=capped).hold, 30, lines=ONE)
    assert hub.grant([Wish(ITEM, 4)], 40, terms=capped).reason == "channel_cap"
    assert hub.grant([Wish(ITEM, 3)], 50, terms=capped).first == "held"


def test_a_part_of_a_hold_ranks_as_the_whole_did(hub: Hub) -> None:
    tell(hub, push(4, version=1, at=10), now=10)
    terms = Terms(conflict="void", confirm_ms=1000)
    first = hub.grant([Wish(ITEM, 2)], 20, terms=terms).hold
    second = hub.grant([Wish(ITEM, 2)], 30, terms=terms).hold
    assert hub.commit(first, 40, lines=ONE).status == "confirming"
    tell(hub, push(2, version=2, at=50), now=50)
    # One is sold and two are held of two: what was granted first is there, and what came later is not.
    hub.pass_time(1040)
    assert [hub.commit(first, 1050).status, hub.commit(second, 1060).first] == ["committed", "conflict"]


def test_who_pays_late_for_a_part_needs_no_more_than_that(hub: Hub) -> None:
    tell(hub, push(3, version=1, at=10), now=10)
    late = hub.grant([Wish(ITEM, 3)], 1000, ttl_ms=1000).hold
    hub.grant([Wish(ITEM, 2)], 3000)
    assert hub.commit(late, 3100, regrants=True, lines=[Wish(ITEM, 2)]).first == "over"
    assert hub.commit(late, 3200, regrants=True, lines=[Wish(ITEM, 4)]).first == "not held"
    assert hub.commit(late, 3300, regrants=True, lines=ONE).status == "committed"
    assert (ats(hub), hub.answer(ITEM).held, hub.open(ITEM)) == (0, 2, {"WH1": 1})


def test_a_confirmation_is_final_at_its_deadline_or_void(hub: Hub) -> None:
    tell(hub, push(2, version=1, at=10), now=10)
    terms = Terms(conflict="void", confirm_ms=5000)
    first, second = (hub.grant(ONE, at, terms=terms).hold for at in (20, 30))
    hub.commit(first, 100)
    told = hub.commit(second, 200)
    assert (told.status, ats(hub)) == ("confirming", 0)
    hub.pass_time(5100)
    tell(hub, push(1, version=2, at=5150), now=5150)
    assert ats(hub) == -1
    hub.pass_time(5200)
    assert (ats(hub), hub.commit(first, 5300).status, hub.commit(second, 5300).status) == (
        0,
        "committed",
        "voided",
    )


def test_a_share_is_taken_of_what_was_received(hub: Hub) -> None:
    tell(hub, push(1000, version=1, at=10), now=10)
    share = Terms(buffer_bp=1000)
    assert hub.grant([Wish(ITEM, 901)], 20, terms=share).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 900)], 20, terms=share).first == "held"
    assert hub.grant(ONE, 30, terms=share).reason == "insufficient"
    tell(hub, push(1100, version=2, at=40), now=40)
    assert hub.answer(ITEM).ref == 1100
    assert hub.grant([Wish(ITEM, 91)], 50, terms=share).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 90)], 50, terms=share).first == "held"


def test_a_share_is_taken_anew_each_day(hub: Hub) -> None:
    tell(hub, push(1000, version=1, at=10), now=10)
    tell(hub, push(500, version=2, at=20), now=20)
    assert hub.answer(ITEM).ref == 1000
    tell(hub, push(490, version=3, at=DAY), now=DAY)
    assert hub.answer(ITEM).ref == 490


def test_buffers_are_rounded_up_and_allowances_down(hub: Hub) -> None:
    tell(hub, push(9, version=1, at=10), now=10)
    assert hub.grant([Wish(ITEM, 9)], 20, terms=Terms(buffer_bp=1)).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 10)], 20, terms=Terms(allowance_bp=1111)).reason == "insufficient"
    assert hub.grant([Wish(ITEM, 10)], 20, terms=Terms(allowance_bp=1112)).first == "held"
    assert ats(hub) == -1


def test_a_channel_has_no_more_than_its_cap(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), now=10)
    capped = Terms(channel_cap=2)
    hub.commit(hub.grant(ONE, 20, terms=capped).hold, 30)
    hub.release(hub.grant(ONE, 40, terms=capped).hold, 50)
    assert hub.grant([Wish(ITEM, 2)], 60, terms=capped).reason == "channel_cap"
    assert hub.grant(ONE, 70, terms=capped).first == "held"
    assert hub.grant([Wish(ITEM, 2)], 80, terms=capped, channel="voice").first == "held"
