"""Hypothesis strategies: a small world in which everything collides with everything.

Few accounts, items, locations, versions and ids, so that ties, repeats and races are
the rule. Times are proposed around the present, a few of them ahead of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from tests.support.reference_answer import Role
from tests.support.rows import Row, row

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

ACCOUNTS: Final = ("erp", "pos", "threepl", "wms")
OWN_ITEMS: Final = ("MUG", "TEE")
PLATFORM_ITEMS: Final = ("9001", "9002")
ITEMS: Final = (*OWN_ITEMS, *PLATFORM_ITEMS)
LOCATIONS: Final = ("WH1", "WH2", "loc-7")
GROUP: Final = "shirts"
SKUS: Final = ITEMS
"""Every item may be a SKU: by identity, or as the target of a map."""
KITS: Final = ("TEE\x1f3", "TEE\x1f1\x1eMUG\x1f2")
DECISIONS: Final = ("sum", "same", "yes")

MAX_AGE: Final = 2000
START: Final = 100_000
# Neighbours that a double cannot tell apart.
BIG: Final = 2**63

quantities = st.one_of(st.integers(0, 12), st.sampled_from([-3, 10**12]))
amounts = st.sampled_from([-4, -1, 0, 2, 7])
versions = st.one_of(st.none(), st.integers(1, 6), st.sampled_from([BIG, BIG + 1]))
resolutions = st.sampled_from([0, 0, 0, 2])
scales = st.sampled_from(["S", "S", "S", "S", "T"])
offsets = st.one_of(st.integers(0, 60), st.sampled_from([0, 0, 3000, -5]))
ops = st.integers(0, 30).map("op-{}".format)

roles = st.builds(
    Role,
    kind=st.sampled_from("AAAACM"),
    rank=st.integers(1, 3),
    max_age=st.sampled_from([0, MAX_AGE, MAX_AGE]),
    own_items=st.booleans(),
    own_places=st.sampled_from([True, True, False]),
    fetches=st.booleans(),
)

substance = st.sampled_from(["LLLLLRRRDDD", "LRD"]).flatmap(st.sampled_from)


@st.composite
def stock_rows(draw: st.DrawFn, now: int) -> Row:
    """A push, a read or a delta around ``now``."""
    kind = draw(substance)
    at = now - draw(offsets)
    evidence = at - draw(st.sampled_from([0, 0, 10, 4000]))
    version = draw(versions)
    return row(
        kind,
        draw(st.sampled_from(ACCOUNTS)),
        draw(st.sampled_from(ITEMS)),
        draw(st.sampled_from(LOCATIONS)),
        status="" if kind == "D" else draw(st.sampled_from("KKKKKKUTC")),
        number=draw(amounts if kind == "D" else quantities),
        version=version,
        scale=draw(scales),
        resolution=0 if version is None else draw(resolutions),
        at=at,
        evidence=max(0, evidence),
        op=draw(ops),
    )


@st.composite
def catalogue_rows(draw: st.DrawFn, now: int) -> Row:
    """A word about an item, or about all items of a group."""
    item = draw(st.sampled_from(["", *ITEMS]))
    return row(
        "C",
        draw(st.sampled_from(ACCOUNTS)),
        item,
        status=draw(st.sampled_from(["", "", "A", "D", "R"])),
        at=now,
        op=draw(st.sampled_from(["", "", "c-1", "c-2"])),
        sku=draw(st.sampled_from(["", *SKUS, *SKUS, *KITS])) if item else "",
        number=draw(st.sampled_from([0, 1])),
        group=draw(st.sampled_from(["", GROUP])) if item else GROUP,
        extra=draw(
            st.sampled_from(["", "", '{"backorder":true}', '{"backorder":false,"substitutes":"[\\"MUG\\"]"}'])
        ),
    )


def other_rows(now: int) -> SearchStrategy[Row]:
    """A tickle or a watermark."""
    return st.builds(
        lambda kind, account, item, offset: row(kind, account, item if kind == "T" else "", at=now - offset),
        st.sampled_from("TW"),
        st.sampled_from(ACCOUNTS),
        st.sampled_from(ITEMS),
        offsets,
    )


def rows(now: int) -> SearchStrategy[Row]:
    """Any row, mostly of stock."""
    return st.one_of(
        stock_rows(now),
        stock_rows(now),
        stock_rows(now),
        stock_rows(now),
        catalogue_rows(now),
        other_rows(now),
    )
