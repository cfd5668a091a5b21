"""A merchant as the examples of sales and holds have it, as scripts and as reference model.

``wms`` counts the stock and acknowledges (`ref`); ``shop`` takes orders and is no authority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.reference_answer import Role
from tests.support.reference_holds import Wish
from tests.support.rows import ITEM

if TYPE_CHECKING:
    from tests.support.reference_model import ReferenceModel
    from tests.support.rows import Row
    from tests.support.sales_driver import SalesDriver

    Hub = ReferenceModel | SalesDriver

MAX_AGE: Final = 600_000
DAY: Final = 86_400_000
SECOND_US: Final = 1_000_000
ONE: Final = [Wish(ITEM, 1)]


def connected(hub: Hub) -> Hub:
    """Connect the warehouse and the shop."""
    hub.set_role("wms", authority(ref=True))
    hub.set_role("shop", Role(kind="C", max_age=MAX_AGE, own_items=True, own_places=True))
    return hub


def authority(*, rank: int = 1, own: bool = False, ref: bool = False) -> Role:
    """An account that counts stock under the merchant's own names."""
    return Role(
        kind="A", rank=rank, max_age=MAX_AGE, own_items=True, own_places=True, fetches=True, own=own, ref=ref
    )


def tell(hub: Hub, *rows: Row, now: int) -> list[str]:
    """Apply rows in one step and return what became of them."""
    return [outcome for outcome, _ in hub.apply(rows, now)]


def ats(hub: Hub) -> int:
    """What can be sold of the item."""
    return hub.answer(ITEM).ats
