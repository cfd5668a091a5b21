"""Many clients at one SKU: they hold, renew, commit, release or forget, and write down every answer.

A call whose outcome is unknown is repeated with the same key until it is answered or
patience ends; some answered calls are repeated too, since a key must always get the
answer it got first. ``calls`` is a history for ``linearizability``, ``ledger_effects``
reads the other half of it from the store.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from tests.support.linearizability import Act, Effect, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PATH: Final = "/v1/reservations"
_LATER: Final = frozenset({429, 503})
_GONE: Final = frozenset({"hold_expired", "conflict"})
_PAUSE_S: Final = 0.05
_STATUS: Final = {
    "released": Act.RELEASE,
    "expired": Act.EXPIRE,
    "committed": Act.COMMIT,
    "confirming": Act.COMMIT,
}


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What shoppers do; the defaults keep 64 of them quarrelling about 500 units for half a minute."""

    clients: int = 64
    units_max: int = 12
    ttl_ms: int = 1200
    think_s: float = 0.25
    """At most, before each step."""
    commits: float = 0.06
    releases: float = 0.4
    renews: float = 0.2
    """Parts of the holds; all others are forgotten."""
    repeats: float = 0.05
    timeout_s: float = 1.5
    patience_s: float = 15.0


@dataclass(frozen=True, slots=True)
class _Heard:
    status: int
    body: Mapping[str, Any]
    at_ns: int


class Shoppers:
    """Clients of one agent key; ``url`` is asked anew for each call."""

    def __init__(
        self, url: Callable[[], str], key: str, *, sku: str, seed: int, habits: Habits | None = None
    ) -> None:
        self.calls: list[Operation] = []
        self.answers: Counter[str] = Counter()
        self.broken: list[str] = []
        """Answers that no caller may ever get."""
        self._url, self._sku, self._seed = url, sku, seed
        self._habits = habits or Habits()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._habits.timeout_s),
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def shop_until(self, is_over: Callable[[], bool]) -> None:
        """Let all of them shop until ``is_over``; calls that are under way are seen to their end."""
        shoppers = (_Shopper(self, f"s{n}", f"{self._seed}-{n}") for n in range(self._habits.clients))
        await asyncio.gather(*(shopper.shop_until(is_over) for shopper in shoppers))

    async def call(self, call: Operation, path: str, body: Mapping[str, object]) -> Operation:
        """Call until there is an answer; remember and return the call with it."""
        heard = await self._persist(call.key, _PATH + path, body)
        call = call if heard is None else self._answered(call, heard)
        self.calls.append(call)
        self.answers[f"{call.act} {call.outcome}"] += 1
        return call

    async def _persist(self, key: str, path: str, body: Mapping[str, object]) -> _Heard | None:
        deadline = time.monotonic() + self._habits.patience_s
        while time.monotonic() < deadline:
            heard = await self._post(key, path, body)
            if heard is not None and heard.status not in _LATER:
                return heard
            self.answers["no answer" if heard is None else f"{heard.status} {heard.body.get('code')}"] += 1
            await asyncio.sleep(_PAUSE_S)
        return None

    async def _post(self, key: str, path: str, body: Mapping[str, object]) -> _Heard | None:
        assert self._http is not None
        headers = {"Idempotency-Key": key}
        try:
            async with self._http.post(self._url() + path, json=body, headers=headers) as answer:
                told = await answer.json(content_type=None)
                return _Heard(answer.status, told if isinstance(told, dict) else {}, time.monotonic_ns())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    def _answered(self, call: Operation, heard: _Heard) -> Operation:
        body, code = heard.body, heard.body.get("code")
        call = replace(call, answered=heard.at_ns)
        if heard.status in {200, 201} and call.act is Act.GRANT and body.get("status") == "held":
            return replace(
                call,
                outcome=Outcome.DONE,
                hold=body["id"],
                seq=body["seq"],
                ttl_ms=self._habits.ttl_ms,
                until_ms=_ms(body["expires_at"]),
            )
        if heard.status == 200 and call.act is not Act.GRANT:
            if call.act is Act.RENEW:
                call = replace(call, ttl_ms=self._habits.ttl_ms, until_ms=_ms(body["expires_at"]))
            return replace(call, outcome=Outcome.DONE)
        is_refused = heard.status == 200 and body.get("status") == "refused"
        if not is_refused and (call.act is Act.GRANT or code not in _GONE):
            self.broken.append(f"{call} was answered {heard.status} {dict(body)}")
        return replace(call, outcome=Outcome.REFUSED, ttl_ms=0)


class _Shopper:
    """One client; does one thing after the other."""

    def __init__(self, shoppers: Shoppers, name: str, seed: str) -> None:
        self._all = shoppers
        self._habits = shoppers._habits
        self._name = name
        self._chance = random.Random(seed)
        self._number = 0

    async def shop_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            await self._think()
            hold = await self._grant()
            if hold:
                await self._think()
                await self._decide(hold)

    async def _grant(self) -> str:
        units = self._chance.randint(1, self._habits.units_max)
        body = {
            "lines": [{"sku": self._all._sku, "quantity": units}],
            "ttl_ms": self._habits.ttl_ms,
            "mode": "hold",
            "session": self._name,
        }
        return (await self._call(Act.GRANT, "", body, units=units)).hold

    async def _decide(self, hold: str) -> None:
        habits, drawn = self._habits, self._chance.random()
        if drawn < habits.renews:
            await self._call(Act.RENEW, f"/{hold}/renew", {"ttl_ms": habits.ttl_ms}, hold=hold)
            await self._think()
            drawn = self._chance.random()
        if drawn < habits.commits:
            await self._call(Act.COMMIT, f"/{hold}/commit", {"order_id": f"order-{hold}"}, hold=hold)
        elif drawn < habits.commits + habits.releases:
            await self._call(Act.RELEASE, f"/{hold}/release", {}, hold=hold)

    async def _call(
        self, act: Act, path: str, body: Mapping[str, object], *, hold: str = "", units: int = 0
    ) -> Operation:
        self._number += 1
        call = Operation(
            act=act,
            hold=hold,
            units=units,
            key=f"{self._name}-{self._number}",
            invoked=time.monotonic_ns(),
            outcome=Outcome.UNKNOWN,
        )
        answered = await self._all.call(call, path, body)
        if self._chance.random() < self._habits.repeats:
            await self._all.call(replace(call, invoked=time.monotonic_ns()), path, body)
        return answered

    async def _think(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._habits.think_s))


def ledger_effects(client: Any, ledger: str, sku: str) -> list[Effect]:
    """Read what the ledger says of the holds of one SKU; renewals change no number and are left out."""
    entries: list[Any] = client.xrange(ledger)
    effects = []
    for name, fields in entries:
        if fields["field"] != "hold" or fields["sku"] != sku:
            continue
        before, after = fields["from"].partition(":"), fields["to"].partition(":")
        act = Act.GRANT if after[0] == "held" and before[0] != "held" else _STATUS.get(after[0])
        # What a confirmation or a renewal does to a hold is not told here.
        if act is None or (act is not Act.GRANT and before[0] != "held"):
            continue
        effects.append(
            Effect(
                seq=int(name.partition("-")[0]),
                act=act,
                hold=fields["item"],
                units=int(after[2]) if act is Act.GRANT else 0,
                at_ms=int(float(fields["at"])),
            )
        )
    return effects


def _ms(time_text: str) -> int:
    moment = datetime.fromisoformat(time_text)
    return round(moment.timestamp() * 1000)
