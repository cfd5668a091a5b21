"""What has to be done now and then, as arq crons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from synchub import metrics
from synchub.accounts import operations as accounts
from synchub.ingress import operations as ingress
from synchub.keyspace import MerchantKeys
from synchub.mappings import operations as mappings
from synchub.stock import operations as stock

if TYPE_CHECKING:
    from synchub.hub import Hub

_HOUR_MS: Final = 3_600_000
_SILENT_WORKER_MS: Final = _HOUR_MS


async def tidy(ctx: dict[str, Any]) -> None:
    """Forget the names of dead workers, and count what waits for a person to map it."""
    hub: Hub = ctx["hub"]
    await ingress.drop_silent_workers(hub.client, idle_ms=_SILENT_WORKER_MS)
    waiting = 0
    for account in hub.directory.accounts():
        waiting += (await mappings.count(hub.redis, MerchantKeys(account.merchant), account.name)).parked
    metrics.parked_items.set(waiting)
    metrics.open_sales_overdue.set(await _overdue(hub))
    counts = [await accounts.count_evidence(hub.redis, merchant) for merchant in _merchants(hub)]
    metrics.evidence_suspended.set(sum(suspended for suspended, _ in counts))
    metrics.evidence_disproved.set(sum(late for _, late in counts))


def _merchants(hub: Hub) -> list[str]:
    return sorted({account.merchant for account in hub.directory.accounts()})


async def _overdue(hub: Hub) -> int:
    """Sales that a person should look at: nothing settles them by itself."""
    after_ms = hub.settings.stock.settle_after_hours * _HOUR_MS
    counts = [
        await stock.count_sales(hub.redis, MerchantKeys(merchant), overdue_after_ms=after_ms)
        for merchant in _merchants(hub)
    ]
    return sum(count.overdue for count in counts)
