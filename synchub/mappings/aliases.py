"""Old names of SKUs: what somebody means who asks for one.

A SKU that all its items have left is gone, and its feed item stays where it is. Who still
asks for it means the SKU that the last of them became. Only for what is gone the store
is asked, so a name in use costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub import lua

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes

READ: Final = lua.load("read_aliases")


async def present_names(redis: Executes, keys: MerchantKeys, skus: Sequence[str]) -> dict[str, str]:
    """Return the present names of those of the SKUs that are gone and have one.

    Raises:
        OutcomeUnknown, StoreUnavailable: the store does not answer; nothing was changed.
    """
    if not skus:
        return {}
    names = await READ(redis, keys={"head": keys.head}, args={"tag": keys.tag}, rest=list(skus))
    return {sku: name.decode() for sku, name in zip(skus, names, strict=True) if name}
