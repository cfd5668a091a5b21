"""What time alone does to answers and sales.

Every example runs on the shipped scripts in a real Valkey and on the reference model. Times are
milliseconds on the merchant's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.rows import ITEM, ack, order, push, watermark
from tests.support.sales_examples import DAY, MAX_AGE, ats, authority, tell

if TYPE_CHECKING:
    from tests.support.sales_examples import Hub


def test_a_source_that_falls_silent_is_told(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    hub.pass_time(10 + MAX_AGE)
    assert not hub.answer(ITEM).stale
    hub.pass_time(11 + MAX_AGE)
    answer = hub.answer(ITEM)
    assert (answer.stale, answer.degraded, answer.ats, hub.head) == (True, True, 5, (2, 2))


def test_an_account_that_is_complete_again_makes_its_items_fresh(hub: Hub) -> None:
    tell(hub, push(5, version=1, at=10), now=10)
    hub.pass_time(11 + MAX_AGE)
    tell(hub, watermark(20 + MAX_AGE), now=20 + MAX_AGE)
    hub.pass_time(21 + MAX_AGE)
    assert (hub.answer(ITEM).stale, hub.head) == (False, (3, 3))


def test_a_second_source_takes_over_when_time_has_come(hub: Hub) -> None:
    hub.set_role("threepl", authority(rank=2, ref=True))
    tell(hub, push(5, version=1, at=10), push(3, version=1, at=MAX_AGE, account="threepl"), now=MAX_AGE)
    assert ats(hub) == 5
    hub.pass_time(11 + MAX_AGE)
    answer = hub.answer(ITEM)
    assert (answer.ats, answer.by, answer.degraded, answer.stale) == (3, "threepl", True, False)


def test_sales_that_all_contain_retire_after_a_week(hub: Hub) -> None:
    tell(hub, push(10, version=1, at=10), order(1, at=20, references=("R1",)), now=20)
    tell(hub, order(2, at=20, name="1002"), now=20)
    tell(hub, ack(1, at=30, version=2, references=("R1",)), push(9, version=2, at=31), now=31)
    hub.pass_time(7 * DAY + 20)
    assert (ats(hub), hub.open(ITEM)) == (7, {"WH1": 2})
