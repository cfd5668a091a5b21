"""What a whole hub tells an agent of its own holds, and nobody else."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.agents import operations as agents
from synchub.agents.operations import NewAgent
from synchub.stock import operations as stock
from tests.support.deliveries import body_of, level
from tests.support.feed import Client, Frame
from tests.support.hub import running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.hub import Site

_keys = itertools.count(1)


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as served:
        await served.post(body_of(level("TEE", 9), sequence=1), message_id="first")
        await served.drained()
        yield served


@contextlib.asynccontextmanager
async def following(site: Site, query: str = "", *, key: str = "") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key or site.merchant.key}"}
    async with site.session.get(f"{site.url}/v1/feed{query}", headers=headers) as response:
        assert response.status == 200
        client = Client(response)
        await client.caught_up()
        yield client


async def another_key(site: Site) -> str:
    issued = await agents.add_agent(
        site.hub.redis, NewAgent(merchant=site.merchant.name, name=f"other-{next(_keys)}")
    )
    await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
    return issued.key


async def ask(site: Site, path: str, body: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {site.merchant.key}", "Idempotency-Key": f"key-{next(_keys)}"}
    heard = await site.ask("POST", path, json=body, headers=headers)
    assert heard.status in {200, 201}, heard
    answer: dict[str, Any] = json.loads(heard.body)
    return answer


async def lapsed(site: Site) -> bool:
    """Let time have its effect, as the worker's reaper does; say whether there was any."""
    passed = await stock.let_time_pass(site.hub.redis, site.merchant.keys, settings=site.hub.settings)
    return passed.done > 0


async def own(client: Client) -> Frame:
    while not (frame := await client.next("upd")).data.get("inv"):
        pass
    return frame


async def test_an_agent_is_told_when_its_hold_begins_is_bought_or_given_back(site: Site) -> None:
    async with (
        following(site, "?sku=TEE") as ours,
        following(site, "?sku=TEE", key=await another_key(site)) as theirs,
    ):
        begun: list[Frame] = []
        for end, body in (("commit", {"order_id": "1001"}), ("release", {})):
            held = await ask(site, "/v1/reservations", {"lines": [{"sku": "TEE", "quantity": 2}]})
            begun.append(await own(ours))
            await ask(site, f"/v1/reservations/{held['id']}/{end}", body)
            begun.append(await own(ours))
        await site.post(body_of(level("TEE", 5), sequence=2), message_id="second")
        shared = [frame for frame in ours.seen if frame.event == "upd" and not frame.data.get("inv")]
        while not any(item["ver"] >= 6 for frame in theirs.seen for item in frame.data.get("items", [])):
            await theirs.next("upd")
    assert [sku for frame in begun for sku, _ in frame.data["inv"]] == ["TEE"] * 4
    versions = [frame.data["inv"][0][1] for frame in begun]
    assert versions == sorted(set(versions))
    assert {ver for frame in shared for ver in (item["ver"] for item in frame.data["items"])} >= set(versions)
    assert not any(frame.data.get("inv") for frame in theirs.seen)


async def test_a_hold_that_ends_by_itself_is_told_to_its_agent(site: Site) -> None:
    async with following(site) as client:
        await ask(site, "/v1/reservations", {"lines": [{"sku": "TEE", "quantity": 2}], "ttl_ms": 1000})
        begun = await own(client)
        await eventually(lambda: lapsed(site), what="the end of the hold")
        ended = await own(client)
    assert [frame.data["inv"][0][0] for frame in (begun, ended)] == ["TEE", "TEE"]
    assert ended.data["seq"] > begun.data["seq"]
