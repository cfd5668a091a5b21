"""The hot hop: deliveries from the ingest stream through the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.ingress.applying import count
from synchub.ingress.consumer import Consumer
from synchub.ingress.model import Understood
from synchub.pipeline import apply_deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synchub.hub import Hub
    from synchub.ingress.model import Queued


def ingest_consumer(hub: Hub, name: str, nudge: Callable[[str], None]) -> Consumer:
    """Build the consumer; ``nudge`` is told each account that may have something to fetch."""

    async def handle(batch: Sequence[Queued]) -> None:
        verdicts = await apply_deliveries(hub, batch)
        hub.arrivals.note(verdicts)
        senders = {queued.delivery.account for queued in batch}
        views = {name: view for name in senders if (view := hub.directory.find_account(name))}
        connectors = {name: hub.connectors[view.platform] for name, view in views.items()}
        count(verdicts, connectors)
        for verdict in verdicts:
            account = verdict.queued.delivery.account
            if isinstance(verdict, Understood) and account in connectors and connectors[account].client:
                nudge(account)

    return Consumer(name, hub.settings, handle)
