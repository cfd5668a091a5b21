"""The audit itself: each kind of broken promise, made on purpose, must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.audit import audit, cause_of, drained
from tests.support.load import Load
from tests.support.merchants import add_merchant
from tests.support.reader import FeedReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.load import Sent
    from tests.support.processes import Deployment

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("audit")]


@pytest.fixture
async def load(hub: Deployment, seed: int) -> AsyncIterator[Load]:
    """A short load without any fault."""
    merchant = await add_merchant(hub.valkey.url)
    async with Load(lambda: hub.url, merchant, seed=seed) as sender:
        await sender.prepare()
        await sender.run(0.3)
        await drained(hub.valkey)
        yield sender


async def test_a_load_without_faults_breaks_nothing(hub: Deployment, load: Load) -> None:
    async with FeedReader(lambda: hub.url, load.merchant) as reader:
        assert await audit(hub.valkey, load, reader) == []
    assert load.accepted == len(load.sent)


def lose_an_effect(client: Any, load: Load) -> None:
    last = client.xrevrange(load.merchant.keys.ledger, count=1)[0][0]
    client.xdel(load.merchant.keys.ledger, last)


def forget_a_delivery(client: Any, load: Load) -> None:
    del client
    load.sent.append(change(load, "never-posted", status=202))


def count_a_refused_one(client: Any, load: Load) -> None:
    del client
    applied = next(sent for sent in load.sent if not sent.is_level)
    applied.status, applied.code = 503, "store_unavailable"


def count_one_twice(client: Any, load: Load) -> None:
    applied = next(sent for sent in load.sent if not sent.is_level)
    again = {"sku": applied.sku, "field": "delta", "cause": cause_of(applied), "from": "", "to": ""}
    head = int(client.hincrby(load.merchant.keys.head, "seq", 1))
    client.xadd(load.merchant.keys.ledger, {**again, "acc": "", "item": "", "loc": ""}, id=f"{head}-0")


def alter_a_number(client: Any, load: Load) -> None:
    key = load.merchant.keys.sku("DELTA-00")
    parts = str(client.hget(key, "answer")).split("|")
    parts[2] = str(int(parts[2]) + 1)
    client.hset(key, "answer", "|".join(parts))


def break_the_feed(client: Any, load: Load) -> None:
    middle = client.xrange(load.merchant.keys.feed, count=3)[-1][0]
    client.xdel(load.merchant.keys.feed, middle)


def quarantine_one(client: Any, load: Load) -> None:
    del load
    client.xadd("synchub:{ingest}:quarantine", {"b": "x"})


@pytest.mark.parametrize(
    "harm",
    [
        lose_an_effect,
        forget_a_delivery,
        count_a_refused_one,
        count_one_twice,
        alter_a_number,
        break_the_feed,
        quarantine_one,
    ],
)
async def test_a_broken_promise_is_found(
    hub: Deployment, load: Load, harm: Callable[[Any, Load], None]
) -> None:
    with hub.valkey.client() as client:
        harm(client, load)
    assert await audit(hub.valkey, load) != []


def test_a_reader_notices_what_was_left_out() -> None:
    reader = FeedReader(lambda: "", None)  # type: ignore[arg-type]  # it does not connect
    reader._take("snap_end", {"seq": 5})
    reader._take("upd", {"prev": 5, "seq": 7, "items": []})
    reader._take("hb", {"prev": 3, "seq": 7})
    assert reader.broken == []
    reader._take("hb", {"prev": 9, "seq": 9})
    assert len(reader.broken) == 1


def change(load: Load, name: str, *, status: int) -> Sent:
    template = next(sent for sent in load.sent if not sent.is_level)
    return type(template)(
        id=name, sku=template.sku, is_level=False, number=1, body=template.body, status=status
    )
