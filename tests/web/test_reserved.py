"""What others hold is told as reserved, and comes back when they let go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.support.hub import Site


async def key_that_holds(site: Site) -> str:
    wanted = NewAgent(merchant=site.merchant.name, scopes=["stock:read", "reservations"])
    issued = await agents.add_agent(site.hub.redis, wanted)
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


async def test_what_others_hold_is_reserved_until_they_let_go(redis_url: str) -> None:
    async with running_hub(redis_url) as site:
        await site.post(body_of(level("TEE", 2), sequence=1))
        await site.drained()
        before = await site.stock("TEE")
        headers = {"Authorization": f"Bearer {await key_that_holds(site)}", "Idempotency-Key": "first"}
        body = {"lines": [{"sku": "TEE", "quantity": 2, "checksum": before["checksum"]}], "mode": "hold"}
        held = await site.ask("POST", "/v1/reservations", headers=headers, json=body)
        assert held.status == 201, held

        reserved = await site.stock("TEE")
        assert (reserved["state"], reserved["available"]) == ("RESERVED", 0)
        assert reserved["backpressure"] == {"level": "prefer_alternatives", "retry_after_ms": 1000}

        release = f"/v1/reservations/{json.loads(held.body)['id']}/release"
        await site.ask("POST", release, headers=headers | {"Idempotency-Key": "second"}, json={})
        after = await site.stock("TEE")
        assert (after["state"], after["available"]) == ("LOW_STOCK", 2)
        assert after["checksum"] != before["checksum"]
