"""Whatever the store refuses, every kind of request is told so: 503, which kind, and when to come again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.agents import operations as agents
from synchub.agents.model import Kind
from synchub.agents.operations import NewAgent
from tests.faults.acts import _fail_a_snapshot
from tests.support.deliveries import body_of, level
from tests.support.hub import Heard, Site, running_hub
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey

    Case = tuple[str, str, str, Any]
    Refusing = Callable[[Valkey], AbstractAsyncContextManager[None]]

pytestmark = pytest.mark.fault

UNAVAILABLE: Final = frozenset({"store_unavailable", "outcome_unknown"})
SPIN: Final = "local t = redis.call('TIME')[1] + 20 while redis.call('TIME')[1] + 0 < t do end"
HOLD: Final = {"lines": [{"sku": "TEE", "quantity": 1}], "mode": "cart"}

READS: Final[tuple[Case, ...]] = (
    ("agent", "GET", "/v1/changes", None),
    ("agent", "GET", "/v1/subscriptions", None),
    ("merchant", "GET", "/v1/merchant/accounts", None),
    ("merchant", "GET", "/v1/merchant/ledger", None),
    ("merchant", "GET", "/v1/merchant/sales", None),
)
"""What only reads may be answered where the store still reads."""
WRITES: Final[tuple[Case, ...]] = (
    ("agent", "GET", "/v1/stock/TEE", None),
    ("agent", "POST", "/v1/stock/query", {"items": [{"sku": "TEE"}]}),
    ("agent", "POST", "/v1/stock/verify", {"items": [{"sku": "TEE", "checksum": "hmac-sha256:00"}]}),
    ("agent", "POST", "/v1/reservations", HOLD),
    ("agent", "GET", "/v1/reservations/none", None),
    ("agent", "POST", "/v1/reservations/none/renew", {"ttl_ms": 5000}),
    ("agent", "POST", "/v1/reservations/none/commit", {"order_id": "1"}),
    ("agent", "POST", "/v1/reservations/none/release", {}),
    ("agent", "POST", "/v1/reservations/restore", {"tokens": ["shr1.e30.AAAA"]}),
    ("agent", "POST", "/v1/feed/sets", {"skus": ["TEE"]}),
    ("agent", "POST", "/v1/feed/tickets", {"sku": ["TEE"]}),
    ("agent", "POST", "/v1/subscriptions", {"url": "https://buyer.example/"}),
    ("merchant", "PUT", "/v1/merchant/policies", {"version": 0, "rules": []}),
    ("merchant", "POST", "/v1/merchant/agents", {}),
)
"""What writes, or counts the request in the store."""


@contextlib.asynccontextmanager
async def read_only(valkey: Valkey) -> AsyncIterator[None]:
    with valkey.client() as client:
        client.replicaof("127.0.0.1", "1")
        yield
        client.replicaof("NO", "ONE")


@contextlib.asynccontextmanager
async def misconfigured(valkey: Valkey) -> AsyncIterator[None]:
    in_the_way = valkey.data / "dump.rdb"
    in_the_way.mkdir()
    with valkey.client() as client:
        client.config_set("save", "3600 1")
        await _fail_a_snapshot(client)
        yield
        in_the_way.rmdir()
        client.config_set("save", "")
        await eventually(lambda: _is_saved(client), what="a snapshot that succeeds")


@contextlib.asynccontextmanager
async def without_replica(valkey: Valkey) -> AsyncIterator[None]:
    with valkey.client() as client:
        client.config_set("min-replicas-to-write", "1")
        yield
        client.config_set("min-replicas-to-write", "0")


@contextlib.asynccontextmanager
async def busy(valkey: Valkey) -> AsyncIterator[None]:
    with valkey.client() as client, valkey.client() as spinning:
        client.config_set("busy-reply-threshold", "1")

        def spin() -> None:
            with contextlib.suppress(Exception):
                spinning.eval(SPIN, 0)

        task = asyncio.create_task(asyncio.to_thread(spin))
        await eventually(lambda: _is_busy(client), what="the busy store")
        yield
        client.script_kill()
        await task


@contextlib.asynccontextmanager
async def loading(valkey: Valkey) -> AsyncIterator[None]:
    with valkey.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(40_000):
            pipe.set("filling", number)
        pipe.delete("filling").execute()
    valkey.kill()
    valkey.options["key-load-delay"] = "300"
    starting = asyncio.create_task(asyncio.to_thread(valkey.start))
    await eventually(lambda: _is_loading(valkey), what="a store that loads")
    yield
    valkey.options.pop("key-load-delay")
    valkey.kill()
    with contextlib.suppress(RuntimeError):
        await starting
    await asyncio.to_thread(valkey.start)


def _is_saved(client: Any) -> bool:
    with contextlib.suppress(Exception):  # one is still being written
        return bool(client.save())
    return False


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except Exception as problem:  # noqa: BLE001 - told apart by what it says
        return "BUSY" in str(problem)
    return False


def _is_loading(valkey: Valkey) -> bool:
    with contextlib.suppress(Exception), valkey.client() as client:
        return bool(client.info("persistence")["loading"])
    return False


class Counter:
    """A hub, and the keys of an agent and of its merchant."""

    def __init__(self, site: Site, keys: dict[str, str]) -> None:
        self.site, self._keys = site, keys

    async def ask(self, who: str, method: str, path: str, body: Any) -> Heard:
        headers = {"Authorization": f"Bearer {self._keys[who]}"}
        about = {} if body is None else {"json": body}
        return await self.site.ask(method, path, headers=headers, **about)


@pytest.fixture
async def counter(own_valkey: StartValkey) -> AsyncIterator[tuple[Counter, Valkey]]:
    valkey = own_valkey()
    times = {"command_timeout_ms": 500, "connect_timeout_ms": 500}
    # Longer than the test lasts: here the store is asked, and refuses.
    async with running_hub(valkey.url, redis=times, authority={"after_ms": 600_000}) as site:
        await site.post(body_of(level("TEE", 7), sequence=1))
        await site.drained()
        wanted = NewAgent(kind=Kind.MERCHANT, merchant=site.merchant.name)
        issued = await agents.add_agent(site.hub.redis, wanted)
        await eventually(lambda: site.hub.directory.find_agent(issued.key) is not None)
        yield Counter(site, {"agent": site.merchant.key, "merchant": issued.key}), valkey


@pytest.mark.parametrize("refusing", [read_only, misconfigured, without_replica, busy, loading])
async def test_every_kind_of_request_is_told_that_the_store_refuses(
    counter: tuple[Counter, Valkey], refusing: Refusing
) -> None:
    desk, valkey = counter
    async with refusing(valkey):
        delivery, cases = ("platform", "POST", "/hooks", None), (*WRITES, *READS)
        *heard, refused = await asyncio.gather(
            *(desk.ask(*case) for case in cases), desk.site.post(body_of(level("TEE", 9), sequence=2))
        )
    told = [*zip(cases, heard, strict=True), (delivery, refused)]
    wrong = [_wrong(case, one) for case, one in told if not (case in READS and one.status == 200)]
    assert list(filter(None, wrong)) == []
    await eventually(lambda: _works(desk), what="the end of it")


async def test_with_a_full_memory_nothing_new_is_promised_and_what_was_can_be_ended(
    counter: tuple[Counter, Valkey],
) -> None:
    desk, valkey = counter
    held = json.loads((await desk.ask("agent", "POST", "/v1/reservations", HOLD)).body)["id"]
    bought = json.loads((await desk.ask("agent", "POST", "/v1/reservations", HOLD)).body)["id"]
    with valkey.client() as client:
        client.config_set("maxmemory", "1mb")
        for case in (
            ("agent", "POST", "/v1/reservations", HOLD),
            ("agent", "POST", "/v1/feed/sets", {"skus": ["TEE"]}),
        ):
            assert _wrong(case, await desk.ask(*case)) == ""
        assert (await desk.ask("agent", "GET", "/v1/stock/TEE", None)).status == 200
        for path in (f"/v1/reservations/{held}/release", f"/v1/reservations/{bought}/commit"):
            assert (await desk.ask("agent", "POST", path, {})).status == 200
        client.config_set("maxmemory", "0")


async def test_a_store_that_has_forgotten_the_scripts_is_told_them_again(
    counter: tuple[Counter, Valkey],
) -> None:
    desk, valkey = counter
    for case in WRITES:
        with valkey.client() as client:
            client.script_flush()
        assert (await desk.ask(*case)).status < 500, case


def _wrong(case: Case, heard: Heard) -> str:
    asked = f"{case[1]} {case[2]}"
    if heard.status != 503:
        return f"{asked} was answered {heard.status} {heard.body[:200]!r}"
    if heard.problem["code"] not in UNAVAILABLE:
        return f"{asked} was told {heard.problem['code']}"
    return "" if int(heard.headers.get("Retry-After", "0")) >= 1 else f"{asked} was not told when to come"


async def _works(desk: Counter) -> bool:
    return (await desk.ask("agent", "GET", "/v1/stock/TEE", None)).status == 200
