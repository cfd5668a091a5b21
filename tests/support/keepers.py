"""Clients that keep every token they are given, and show them again when the store has lost something."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH: Final = "/v1/reservations"
_PAUSE_S: Final = 0.05
_PATIENCE_S: Final = 40.0
_TTL_MS: Final = 600_000
_AT_ONCE: Final = 20


@dataclass(slots=True, kw_only=True)
class Promise:
    """What a client was told of one hold."""

    id: str
    units: int
    token: str
    is_sold: bool = False


class Keepers:
    """Several clients of one key that hold and buy one SKU; a call is repeated until it is answered."""

    def __init__(self, url: Callable[[], str], key: str, *, sku: str, seed: int, clients: int = 16) -> None:
        self.promises: dict[str, Promise] = {}
        self.answers: Counter[str] = Counter()
        self.broken: list[str] = []
        self._url, self._sku, self._seed, self._clients = url, sku, seed, clients
        self._headers = {"Authorization": f"Bearer {key}"}
        self._http: aiohttp.ClientSession | None = None
        self._is_over = asyncio.Event()
        self._buying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=2)
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def sold(self) -> int:
        """Units for which there is a receipt."""
        return sum(promise.units for promise in self.promises.values() if promise.is_sold)

    @property
    def held(self) -> int:
        """Units that were promised and not bought."""
        return sum(promise.units for promise in self.promises.values() if not promise.is_sold)

    def begin(self) -> None:
        """Let all of them hold and buy until :meth:`end`."""
        self._is_over.clear()
        self._buying = asyncio.create_task(self.buy_until(self._is_over.is_set))

    async def end(self) -> None:
        """See calls under way to their end; repeatable."""
        self._is_over.set()
        if self._buying is not None:
            await self._buying

    async def buy_until(self, is_over: Callable[[], bool]) -> None:
        """Let all of them hold and buy; calls under way are seen to their end."""
        await asyncio.gather(*(self._buy_until(n, is_over) for n in range(self._clients)))

    async def show_again(self) -> None:
        """Present every token; what is refused is a broken promise."""
        tokens = [promise.token for promise in self.promises.values()]
        for start in range(0, len(tokens), _AT_ONCE):
            body = {"tokens": tokens[start : start + _AT_ONCE]}
            _, told = await self._persist("/restore", body, "")
            for result in told["results"]:
                self.answers[f"restored {result['outcome']}"] += 1
                if result["outcome"] == "refused":
                    self.broken.append(str(result))

    async def status(self, promise: Promise) -> str:
        """Return what the hub says of it."""
        assert self._http is not None
        async with self._http.get(f"{self._url()}{_PATH}/{promise.id}") as answer:
            return str((await answer.json()).get("current_status"))

    async def _buy_until(self, client: int, is_over: Callable[[], bool]) -> None:
        chance, number = random.Random(f"{self._seed}-{client}"), 0
        while not is_over():
            number += 1
            promise = await self._hold(f"{client}-{number}", chance.randint(1, 3))
            if promise is not None and chance.random() < 0.5:
                await self._commit(promise)
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def _hold(self, key: str, units: int) -> Promise | None:
        body = {"lines": [{"sku": self._sku, "quantity": units}], "mode": "cart", "ttl_ms": _TTL_MS}
        status, told = await self._persist("", body, key)
        self.answers[f"hold {status} {told.get('status') or told.get('code')}"] += 1
        if status != 201:
            return None
        promise = Promise(id=told["id"], units=units, token=told["token"])
        self.promises[promise.id] = promise
        return promise

    async def _commit(self, promise: Promise) -> None:
        body = {"order_id": f"order-{promise.id}"}
        status, told = await self._persist(f"/{promise.id}/commit", body, f"commit-{promise.id}")
        self.answers[f"commit {status} {told.get('status') or told.get('code')}"] += 1
        if status == 200:
            promise.token, promise.is_sold = told["token"], True

    async def _persist(self, path: str, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
        assert self._http is not None
        headers = {"Idempotency-Key": key} if key else {}
        until = asyncio.get_running_loop().time() + _PATIENCE_S
        while asyncio.get_running_loop().time() < until:
            try:
                async with self._http.post(self._url() + _PATH + path, json=body, headers=headers) as answer:
                    told = await answer.json(content_type=None)
                    if answer.status not in {429, 503}:
                        return answer.status, told
                    self.answers[f"503 {told.get('code')}"] += 1
            except (aiohttp.ClientError, TimeoutError, ValueError):
                self.answers["no answer"] += 1
            await asyncio.sleep(_PAUSE_S)
        msg = f"{path or 'a hold'} was never answered: {self.answers}"
        raise AssertionError(msg)
