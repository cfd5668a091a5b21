"""Hypothesis strategies for sales: few orders and places, so that names meet and evidence crosses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from tests.support.reference_answer import Role
from tests.support.reference_holds import Terms, Wish
from tests.support.rows import ack, order, push, read

if TYPE_CHECKING:
    from tests.support.rows import Row

SKUS: Final = ("MUG", "TEE")
SELLERS: Final = ("market", "shop")
STORES: Final = ("erp", "wms")
PLACES: Final = ("WH1", "WH2")
MAX_AGE: Final = 2000
US: Final = 1000

store_roles = st.builds(
    Role,
    kind=st.just("A"),
    rank=st.integers(1, 2),
    max_age=st.just(MAX_AGE),
    own_items=st.just(True),
    own_places=st.just(True),
    own=st.booleans(),
    ref=st.sampled_from([True, True, False]),
)
seller_roles = st.one_of(
    st.just(Role(kind="C", own_items=True, own_places=True)),
    store_roles,
)
skus = st.sampled_from(SKUS)
places = st.sampled_from(PLACES)
versions = st.one_of(st.none(), st.integers(1, 6))
names = st.sampled_from(["1001", "1002"])
terms = st.builds(
    Terms,
    buffer_units=st.sampled_from([0, 0, 2]),
    buffer_bp=st.sampled_from([0, 1000]),
    allowance_bp=st.sampled_from([0, 0, 2500]),
    channel_cap=st.sampled_from([None, None, 3]),
    on_stale=st.sampled_from(["answer", "assume_out", "assume_in"]),
    split=st.booleans(),
    confirm_ms=st.sampled_from([0, 0, 500]),
    conflict=st.sampled_from(["honour", "backorder", "void"]),
)
wishes = st.lists(
    st.builds(Wish, skus, st.integers(1, 4), st.sampled_from(["", "", *PLACES])), min_size=1, max_size=3
)


@st.composite
def level_rows(draw: st.DrawFn, now: int) -> Row:
    """A level with or without a version, pushed or read."""
    about: dict[str, Any] = {
        "at": now - draw(st.sampled_from([0, 0, 5, 300])),
        "version": draw(versions),
        "account": draw(st.sampled_from([*STORES, *STORES, *SELLERS])),
        "item": draw(skus),
        "location": draw(places),
        "resolution": draw(st.sampled_from([0, 0, 1])),
        "status": draw(st.sampled_from("KKKKKKKCT")),
    }
    about["resolution"] = about["resolution"] if about["version"] else 0
    number = draw(st.integers(0, 12)) if about["status"] == "K" else 0
    return draw(st.sampled_from([push, read]))(number, **about)


@st.composite
def order_rows(draw: st.DrawFn, now: int) -> Row:
    """The state of an order's line."""
    status = draw(st.sampled_from("PPPX"))
    at = now - draw(st.sampled_from([0, 0, 5]))
    account, name = draw(st.sampled_from(SELLERS)), draw(names)
    return order(
        draw(st.integers(0, 4)) if status == "P" else 0,
        at=at,
        version=draw(versions),
        account=account,
        item=draw(skus),
        location=draw(st.sampled_from(["", "", *PLACES])),
        status=status,
        name=name,
        line=draw(st.sampled_from(["1", "1", "2"])),
        references=draw(st.sampled_from([(), (f"{account}-{name}",)])),
        happened=draw(st.one_of(st.none(), st.just(at * US))),
        op=draw(st.integers(0, 40).map("order-{}".format)),
    )


@st.composite
def ack_rows(draw: st.DrawFn, now: int) -> Row:
    """What a store says that it contains, or does no longer."""
    version, name = draw(versions), draw(names)
    reference = (f"shop-{name}",)
    order_name, given = draw(st.sampled_from([("", reference), (name, ()), (name, reference)]))
    dropped = draw(st.sampled_from([False, False, False, True]))
    return ack(
        draw(st.sampled_from([1, 1, 2] if dropped else [1, 1, 2, 3, -1, -2])),
        at=now - draw(st.sampled_from([0, 0, 5])),
        version=version,
        resolution=draw(st.sampled_from([0, 0, 1])) if version else 0,
        account=draw(st.sampled_from([*STORES, *SELLERS])),
        item=draw(skus),
        location=draw(st.sampled_from(["", *PLACES])),
        dropped=dropped,
        name=order_name,
        line="1",
        references=given,
        key=draw(st.integers(0, 60).map("ack-{}".format)),
    )
