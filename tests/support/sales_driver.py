"""The shipped scripts of sales, holds and time on a real Valkey, told in the nouns of the reference model."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from synchub.agents.model import Rate
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR
from synchub.policies.model import Conflict, OnStale, OnUnknown
from synchub.policies.model import Terms as HubTerms
from synchub.reservations import store as reservations
from synchub.reservations.model import Asker, BoughtLine, Change, Mode, Verb, Wanted, WantedLine
from synchub.reservations.rules import fingerprint, refusal_of, reservation_of
from synchub.stock import store as stock
from tests.support.apply_driver import ApplyDriver, at_once
from tests.support.reference_holds import Decision, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.reference_holds import Wish

_UNLIMITED: Final = Rate(interval_us=1, burst=1_000_000)


class SalesDriver(ApplyDriver):
    """One merchant with everything that a merchant has."""

    def set_lag(self, account: str, origin: str, lag_ms: int) -> None:
        """Say that reads of an account contain sales of an origin once they began this much later."""
        key = f"{self._keys.tag}evidence"
        self._client.hset(key, f"{account}{SEPARATOR}{origin}", f"lag|{lag_ms}")

    def set_evidence(self, account: str, origin: str, text: str) -> None:
        """Say how an account comes to contain sales of an origin, as it is stored."""
        self._client.hset(self._keys.evidence, f"{account}{SEPARATOR}{origin}", text)

    def evidence(self, account: str, origin: str) -> str | None:
        """What is stored of that."""
        stored: str | None = self._client.hget(self._keys.evidence, f"{account}{SEPARATOR}{origin}")
        return stored

    def evidence_times(self, account: str, origin: str) -> dict[str, int]:
        """What was measured of it, by step."""
        prefix = f"{account}{SEPARATOR}{origin}{SEPARATOR}"
        told = self._client.hgetall(self._keys.evidence_times)
        return {name.removeprefix(prefix): int(n) for name, n in told.items() if name.startswith(prefix)}

    def set_total(self, place: str, *members: str) -> None:
        """Say that a location is the total of others; ``*`` is all."""
        self._client.hset(self._keys.groups, place, LIST_SEPARATOR.join(members))

    def decide(self, account: str, sku: str, place: str, decision: str) -> None:
        """Say what a person has said of an account's sources; no SKU and no place: of all."""
        super().decide(account, sku, place, decision)
        self.look_again(account)

    def set_general(self, **fields: str) -> None:
        """Say what the merchant has decided for all of its stock, as its head has it."""
        self._client.hset(self._keys.head, mapping=fields)
        self.look_again("")

    def look_again(self, account: str) -> None:
        """Have the reaper settle anew what an account, or everybody, is a source of."""
        self._client.zadd(self._keys.due, {f"a{SEPARATOR}{account}{SEPARATOR}": 0})

    def map_kit(self, account: str, item: str, parts: Sequence[tuple[str, int]]) -> None:
        """Map an item that is several units, or several SKUs."""
        text = LIST_SEPARATOR.join(f"{sku}{SEPARATOR}{units}" for sku, units in parts)
        self._client.hset(self._keys.items(account), item, text)

    def pass_time(self, now_ms: int) -> None:
        """Let the reaper work until nothing is due."""
        while at_once(stock.lapse(self, self._keys, now_ms=now_ms, settings=self._settings)).left:
            pass

    def open(self, sku: str) -> dict[str, int]:
        """Units sold at each place."""
        prefix = f"o{SEPARATOR}"
        names = [name for name in self._client.hkeys(self._keys.sku(sku)) if name.startswith(prefix)]
        units = self._client.hmget(self._keys.sku(sku), names) if names else []
        found = {name.removeprefix(prefix): int(n) for name, n in zip(names, units, strict=True)}
        return {place: sold for place, sold in found.items() if sold}

    def grant(
        self,
        wishes: Sequence[Wish],
        now: int,
        *,
        agent: str = "bot",
        channel: str = "chat",
        mode: str = "hold",
        ttl_ms: int = 15_000,
        terms: Terms | None = None,
        replaces: str = "",
        key: str = "",
    ) -> Decision:
        """Hold every line, or none of them."""
        asker = Asker(keys=self._keys, agent=agent, tier="", channel=channel, buyer="", session="")
        hub_terms = _terms(terms or Terms())
        lines = [WantedLine(sku=w.sku, quantity=w.units, location=w.place, terms=hub_terms) for w in wishes]
        request = reservations.Request(
            wanted=Wanted(
                asker=asker,
                lines=tuple(lines),
                mode=Mode(mode),
                ttl_ms=ttl_ms,
                expected_seq=None,
                replaces=replaces,
            ),
            once=f"{agent}:{key}" if key else "",
            fingerprint=fingerprint("hold", [tuple(wish) for wish in wishes], mode, ttl_ms, replaces),
            policy=0,
            rate=_UNLIMITED,
        )
        asked = reservations.grant(self, self._keys, [request], now_ms=now, settings=self._settings)
        (answer,) = at_once(asked)
        return _granted(answer)

    def renew(self, name: str, ttl_ms: int, now: int, *, agent: str = "bot", key: str = "") -> Decision:
        """Move the deadline."""
        return self._change(Change(verb=Verb.RENEW, hold=name, ttl_ms=ttl_ms), now, agent=agent, key=key)

    def release(self, name: str, now: int, *, agent: str = "bot", key: str = "") -> Decision:
        """Give everything back."""
        return self._change(Change(verb=Verb.RELEASE, hold=name), now, agent=agent, key=key)

    def commit(
        self,
        name: str,
        now: int,
        *,
        order: str = "",
        regrants: bool = False,
        lines: Sequence[Wish] = (),
        agent: str = "bot",
        key: str = "",
    ) -> Decision:
        """Make sales of it; with ``regrants`` also after its deadline, where there is still enough."""
        asked = Change(verb=Verb.COMMIT, hold=name, order=order, regrants=regrants, lines=_bought(lines))
        return self._change(asked, now, agent=agent, key=key)

    def _change(self, asked: Change, now: int, *, agent: str, key: str) -> Decision:
        name = asked.hold
        request = reservations.ChangeRequest(
            change=asked,
            agent=agent,
            once=f"{agent}:{key}" if key else "",
            fingerprint=fingerprint(*astuple(asked)),
            rate=_UNLIMITED,
        )
        answer = at_once(reservations.change(self, self._keys, request, now_ms=now, settings=self._settings))
        if answer.did == "mismatch":
            return Decision("mismatch")
        did = answer.first_did if answer.did == "replay" else answer.did
        if did == "hold_unknown":
            return Decision("unknown")
        status = reservation_of(answer.now).status.value
        if did == "not_held":
            return Decision("not held", name, "", 0, status)
        if did in {"hold_expired", "closed"}:
            return Decision("over", name, "", 0, status)
        first = reservation_of(answer.first)
        deadline = first.expires_ms if asked.verb is Verb.RENEW else 0
        reason = "conflict" if did == "conflict" else ""
        voided = reason and status == "voided"
        return Decision("conflict" if voided else "done", name, reason, deadline, status)


def _bought(lines: Sequence[Wish]) -> tuple[BoughtLine, ...]:
    return tuple(BoughtLine(sku=one.sku, quantity=one.units, location=one.place) for one in lines)


def _granted(answer: Any) -> Decision:
    if answer.did == "mismatch":
        return Decision("mismatch")
    if answer.did == "hold_unknown":
        return Decision("unknown")
    if answer.did == "closed":
        closed = reservation_of(answer.now)
        return Decision("over", closed.id, "", 0, closed.status.value)
    if "refused" in {answer.did, answer.first_did}:
        return Decision("refused", reason=refusal_of(answer.first).reason.value)
    first = reservation_of(answer.first)
    status = reservation_of(answer.now).status.value if answer.now else first.status.value
    return Decision("held", first.id, "", first.expires_ms, status)


def _terms(terms: Terms) -> HubTerms:
    return HubTerms(
        version=0,
        buffer_units=terms.buffer_units,
        buffer_bp=terms.buffer_bp,
        lag_units=terms.lag_units,
        allowance_bp=terms.allowance_bp,
        channel_cap=terms.channel_cap,
        on_stale=OnStale(terms.on_stale),
        on_unknown=OnUnknown(terms.on_unknown),
        split=terms.split,
        confirm_ms=terms.confirm_ms,
        conflict=Conflict(terms.conflict),
    )
