"""A hold whose time is over is over in every verb, also while nobody has come to put it away."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from tests.support.hub import Heard, Site

SKU: Final = "HOT"
HOLDS: Final = 250
"""More than three steps of the store put away."""


async def call(site: Site, path: str, key: str, **body: Any) -> Heard:
    headers = {"Authorization": f"Bearer {site.merchant.key}", "Idempotency-Key": key}
    return await site.ask("POST", f"/v1/reservations{path}", json=body, headers=headers)


async def grant(site: Site, number: int) -> dict[str, Any]:
    lines = [{"sku": SKU, "quantity": 1}]
    heard = await call(site, "", f"grant-{number}", lines=lines, ttl_ms=1000, mode="hold", session="s")
    assert heard.status == 201, heard
    answer: dict[str, Any] = json.loads(heard.body)
    return answer


async def status(site: Site, hold: str) -> str:
    headers = {"Authorization": f"Bearer {site.merchant.key}"}
    heard = await site.ask("GET", f"/v1/reservations/{hold}", headers=headers)
    return str(json.loads(heard.body)["current_status"])


async def test_no_verb_accepts_a_hold_that_is_due_however_many_are_due_before_it(redis_url: str) -> None:
    async with running_hub(redis_url) as site:  # without a reaper
        await site.post(body_of(level(SKU, HOLDS), sequence=1))
        await site.drained()
        granted = await asyncio.gather(*(grant(site, number) for number in range(HOLDS)))
        last = sorted(granted, key=lambda hold: hold["seq"])[-3:]

        async def are_over() -> bool:  # by the hub's clock; looking puts nothing away
            return {await status(site, hold["id"]) for hold in last} == {"expired"}

        await eventually(are_over, what="the deadline")
        answers = [
            await call(site, f"/{last[0]['id']}/release", "release"),
            await call(site, f"/{last[1]['id']}/commit", "commit", order_id="O1"),
            await call(site, f"/{last[2]['id']}/renew", "renew", ttl_ms=1000),
        ]
    assert [(heard.status, heard.problem["code"]) for heard in answers] == [(410, "hold_expired")] * 3
