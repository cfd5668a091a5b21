"""How late a delivery is: by the time of what it tells, not by the age of what it tells about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.events import Level, OrderLine, OrderStatus, Scale, Version
from synchub.ingress.model import Queued, Understood
from synchub.kit.clock import now_ms
from synchub.stock.model import Applied, Outcome
from synchub.stock.rules import Circumstances, rows_of, told_ms
from synchub.sync_lag import store
from synchub.sync_lag.arrivals import Arrivals
from tests.support.platform_calls import NoStore

if TYPE_CHECKING:
    import pytest

    from synchub.connector_kit.events import StockEvent
    from synchub.stock.rules import Row
    from synchub.sync_lag.model import Second

DAY_MS: Final = 86_400_000


def a_cancellation(at_ms: int, *, happened_ms: int | None) -> OrderLine:
    """An order that was placed a week before."""
    return OrderLine(
        order="1",
        line="1",
        item="TEE",
        quantity=0,
        status=OrderStatus.CANCELLED,
        ordered_at_us=(at_ms - 7 * DAY_MS) * 1000,
        happened_at_us=None if happened_ms is None else happened_ms * 1000,
        version=Version(scale=Scale.SEQUENCE, number=2),
    )


def a_row(event: StockEvent, at_ms: int) -> Row:
    [row] = rows_of([event], _pushed(at_ms))
    return row


def _pushed(at_ms: int) -> Circumstances:
    return Circumstances(account="shop", at_ms=at_ms, is_read=False, op="op", cause="delivery:op")


def test_an_order_is_told_when_it_changed_and_not_when_it_was_placed() -> None:
    at_ms = now_ms()
    assert told_ms(a_row(a_cancellation(at_ms, happened_ms=at_ms - 200), at_ms)) == at_ms - 200
    assert told_ms(a_row(a_cancellation(at_ms, happened_ms=None), at_ms)) == 0


def test_a_level_is_told_when_its_source_says() -> None:
    at_ms = now_ms()
    level = Level(item="TEE", location="WH1", quantity=1, source_time_us=(at_ms - 300) * 1000)
    assert told_ms(a_row(level, at_ms)) == at_ms - 300


async def test_the_cancellation_of_an_old_order_is_no_late_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    handed_in: list[Second] = []

    async def keep(_redis: object, seconds: dict[str, Second], **_about: object) -> None:
        handed_in.extend(seconds.values())

    monkeypatch.setattr(store, "note_heard", keep)
    at_ms = now_ms()
    # Written times stop at the second and stand for its end, which is ahead of now.
    row = a_row(a_cancellation(at_ms, happened_ms=at_ms + 700), at_ms)
    delivery = Delivery(account="shop", headers={}, body=b"{}", arrived_at_us=at_ms * 1000)
    heard = Arrivals(NoStore())
    heard.note(
        [
            Understood(
                queued=Queued(id=f"{at_ms}-0", delivery=delivery),
                merchant="acme",
                rows=(row,),
                results=(Applied(outcome=Outcome.APPLIED, seq=1),),
                topic="orders/cancelled",
            )
        ]
    )
    await heard.flush()
    [second] = handed_in
    [topic] = second.heard
    assert dict(topic.delays) == {0: 1}
    assert topic.newest_ms == at_ms
