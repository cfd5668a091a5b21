"""What has to be done now and then, as arq crons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from synchub import metrics
from synchub.ingress import operations as ingress
from synchub.keyspace import MerchantKeys
from synchub.mappings import operations as mappings

if TYPE_CHECKING:
    from synchub.hub import Hub

_SILENT_WORKER_MS: Final = 3_600_000


async def tidy(ctx: dict[str, Any]) -> None:
    """Forget the names of dead workers, and count what waits for a person to map it."""
    hub: Hub = ctx["hub"]
    await ingress.drop_silent_workers(hub.client, idle_ms=_SILENT_WORKER_MS)
    waiting = 0
    for account in hub.directory.accounts():
        waiting += (await mappings.count(hub.redis, MerchantKeys(account.merchant), account.name)).parked
    metrics.parked_items.set(waiting)
