"""The way of a stock change through the hub, one function for each process it crosses.

::

    platform --POST--> accept_delivery     receive > verify > enqueue      (api)
                              |  ingest stream, durable
                       apply_deliveries    normalize > apply > publish     (worker)
                              |  feed stream, one sequence per merchant
    agent <--frame---- follow_feed         read > encode > deliver         (api)

    platform <--GET--- poll_changes        fetch > normalize > apply > publish   (worker)

The last one is for what no delivery has told; its changes reach agents on the same feed.
Applying and publishing are one script (``lua/apply.lua``): what an agent is told
and what the ledger says cannot differ. Nothing is answered before it is durable,
and whatever is handled twice has its effect once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.connector_kit.delivery import Delivery
from synchub.errors import SignatureRefused
from synchub.ingress import operations as ingress
from synchub.ingress.applying import apply_understood
from synchub.ingress.model import Failed, Misunderstood, Understood
from synchub.kit.clock import now_us
from synchub.polling import operations as polling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.accounts.model import AccountView
    from synchub.connector_kit.manifest import Answer
    from synchub.hub import Hub
    from synchub.ingress.model import Queued


async def accept_delivery(
    hub: Hub, account_name: str, headers: Mapping[str, str], body: bytes, url: str
) -> Answer:
    """Take one delivery from a platform and return what the platform wants to hear.

    The delivery is durable when this returns. Nothing is read from or written to
    the store before its signature has been verified over the raw bytes.

    Raises:
        SignatureRefused, DeliveryStale: not from the account's platform, or too old.
        StoreUnavailable, OutcomeUnknown: not certainly durable; the platform must retry.
    """
    delivery = Delivery(account=account_name, headers=headers, body=body, arrived_at_us=now_us(), url=url)
    account = hub.directory.find_account(account_name)
    try:
        _, connector = ingress.verify(delivery, account, hub.connectors)
    except SignatureRefused:
        if account is not None:
            hub.arrivals.refuse(account_name)
        raise
    await hub.gate.enqueue(delivery, connector)
    return connector.manifest.answer


async def apply_deliveries(hub: Hub, batch: Sequence[Queued]) -> list[Understood | Misunderstood | Failed]:
    """Bring a batch of queued deliveries to their effect; one verdict each, in order.

    ``Understood`` deliveries have been applied and published, and soon leave the stream.
    ``Misunderstood`` ones are in quarantine. ``Failed`` ones wait for their next
    try or are dead letters. May be called again with the same deliveries.

    Raises:
        OutcomeUnknown, StoreUnavailable: the batch must be handled again.
    """
    verdicts = [
        ingress.normalize(queued, hub.directory, hub.connectors, hub.settings.ingress) for queued in batch
    ]
    verdicts = await apply_understood(hub.redis, verdicts, hub.settings)
    for verdict in verdicts:
        if not isinstance(verdict, Understood):
            await ingress.put_aside(hub.client, verdict, hub.settings.ingress)
    await hub.finisher.finish(verdicts)
    return verdicts


async def poll_changes(hub: Hub, account: AccountView, *, after_ms: int | None = None) -> bool:
    """Read what has changed at a platform, where deliveries do not tell it; returns whether it was done here.

    The place from which to poll on moves in the same step as the last changes of a page, so
    wherever this ends nothing is lost, and what is read twice counts once. A platform that
    fails is asked again after a pause. ``after_ms``: see :func:`polling.turn`.

    Raises:
        OutcomeUnknown, StoreUnavailable: the next turn goes on from where the store is.
    """
    connector = hub.connectors[account.platform]
    async with polling.turn(
        hub.redis, hub.upstream, account, connector, hub.settings, after_ms=after_ms
    ) as turn:
        if turn is None:
            return False
        async for page in turn.pages():
            await turn.apply(page, turn.normalize(page))
    return True


async def follow_feed(hub: Hub) -> None:
    """Tell every connected reader what has changed, until cancelled."""
    await hub.feed.run()
