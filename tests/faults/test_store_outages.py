"""A store that is away, hangs, loads, refuses or forgets: 503 meanwhile, and all is well by itself after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synchub.keyspace import ingest_stream
from tests.faults.acts import fault
from tests.faults.trial import SHORT, try_out
from tests.support.audit import audit, drained
from tests.support.load import Load
from tests.support.merchants import add_merchant
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.support.processes import Deployment

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("outages")]

NAMES = (
    "store-away",
    "store-frozen",
    "store-slow",
    "store-full",
    "scripts-forgotten",
    "group-destroyed",
    "store-read-only",
    "store-misconfigured",
    "store-loading",
)


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_promised_that_is_not_kept(hub: Deployment, name: str, seed: int) -> None:
    report = await try_out(hub, fault(name), SHORT, seed=seed)
    assert report.broken == [], report


async def test_deliveries_flow_after_the_ingest_stream_was_deleted(hub: Deployment, seed: int) -> None:
    merchant = await add_merchant(hub.valkey.url)
    async with Load(lambda: hub.url, merchant, seed=seed) as load:
        await load.prepare()
        await drained(hub.valkey)
        with hub.valkey.client() as client:
            client.delete(ingest_stream())
        await load.run(0.5)
        await drained(hub.valkey)
        assert await audit(hub.valkey, load) == []


async def test_readyz_says_what_is_wrong_with_the_store_and_livez_stays(hub: Deployment) -> None:
    assert hub.api.answers("/readyz")
    hub.valkey.stop()
    assert hub.api.answers("/livez")
    assert "store" in hub.api.text("/readyz").lower()
    hub.valkey.start()
    await eventually(lambda: hub.api.answers("/readyz"), within_s=5, what="readiness")
