"""Keys that only scripts name: a merchant's sales, holds and deadlines.

Their names are built in ``lua/parts``, from the merchant's tag; ``keyspace.py`` has the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of key."""

    pattern: str
    type: str
    owner: str
    lifetime: str
    holds: str


SCRIPT_FAMILIES: Final = (
    Family(
        pattern="{merchant}:holds",
        type="hash",
        owner="reservations",
        lifetime="reservations.remember_hours after its end",
        holds="every hold, live or over, as JSON by its id",
    ),
    Family(
        pattern="{merchant}:holds-due",
        type="sorted set",
        owner="reservations",
        lifetime="until the hold is over",
        holds="live holds by deadline",
    ),
    Family(
        pattern="{merchant}:confirms-due",
        type="sorted set",
        owner="reservations",
        lifetime="until confirmed or taken back",
        holds="sales that are not final yet, by the time at which they become so",
    ),
    Family(
        pattern="{merchant}:aliases",
        type="hash",
        owner="mappings",
        lifetime="until an item has the name again",
        holds="a SKU that all its items have left, to the SKU that the last of them became",
    ),
    Family(
        pattern="{merchant}:sku-holds:<sku>",
        type="sorted set",
        owner="reservations",
        lifetime="until the hold is over",
        holds="live holds on one SKU with their units, in the order in which they were granted",
    ),
    Family(
        pattern="{merchant}:once:<agent>:<key>",
        type="string",
        owner="reservations",
        lifetime="reservations.remember_hours",
        holds="the first answer that was given under an idempotency key",
    ),
    Family(
        pattern="{merchant}:counts:<day>",
        type="hash",
        owner="reservations",
        lifetime="three days",
        holds="units and transactions of agents, buyers, sessions and channels, where a policy limits them",
    ),
    Family(
        pattern="{merchant}:lines",
        type="hash",
        owner="stock",
        lifetime="stock.settle_memory_hours and then stock.names_days",
        holds="every sale's lines: units, places, and what each source has said of them",
    ),
    Family(
        pattern="{merchant}:names",
        type="hash",
        owner="stock",
        lifetime="as long as its line",
        holds="every name of a sale, to its line",
    ),
    Family(
        pattern="{merchant}:open:<sku>",
        type="sorted set",
        owner="stock",
        lifetime="until every source contains them",
        holds="lines that some source may not contain yet, the oldest first",
    ),
    Family(
        pattern="{merchant}:past:<sku>",
        type="sorted set",
        owner="stock",
        lifetime="stock.settle_memory_hours",
        holds="lines that every source contains, for sources that join later",
    ),
    Family(
        pattern="{merchant}:order:<order>",
        type="set",
        owner="stock",
        lifetime="as long as its lines",
        holds="lines of one order, by the order's own number",
    ),
    Family(
        pattern="{merchant}:batch:<account><act>",
        type="set",
        owner="stock",
        lifetime="60 days",
        holds="lines that one act of a platform has acknowledged, so that it can be taken back",
    ),
    Family(
        pattern="{merchant}:evidence",
        type="hash",
        owner="stock",
        lifetime="until changed",
        holds="authority and origin of sales to how the one comes to contain the other",
    ),
    Family(
        pattern="{merchant}:decided",
        type="hash",
        owner="accounts",
        lifetime="until decided otherwise, or the account is removed",
        holds="account, SKU and place to what a person has said of several sources: sum, same or yes",
    ),
    Family(
        pattern="{merchant}:groups",
        type="hash",
        owner="accounts",
        lifetime="as long as the merchant",
        holds="the merchant's locations that are totals, to the locations whose total they are",
    ),
    Family(
        pattern="{merchant}:evidence-times",
        type="hash",
        owner="accounts",
        lifetime="until the account is removed; at most 122 fields for a pair of accounts",
        holds="how long sales of one account took to be in the numbers of another, counted by size",
    ),
    Family(
        pattern="{merchant}:due",
        type="sorted set",
        owner="stock",
        lifetime="until it is due",
        holds="what will change by itself, by the time at which it does",
    ),
    Family(
        pattern="{merchant}:reviving:<account>",
        type="set",
        owner="stock",
        lifetime="until each has been looked at",
        holds="those of them that are looked at since the account is fresh again",
    ),
    Family(
        pattern="{merchant}:stale:<account>",
        type="set",
        owner="stock",
        lifetime="until the account is fresh again",
        holds="SKUs that rest on second-best evidence while this account is silent",
    ),
)
