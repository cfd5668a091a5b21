"""ShipHero's access tokens: they end, and a refresh token brings new ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from connectors.shiphero import Client, tokens
from synchub.connector_kit.contract import Access
from synchub.connector_kit.http import HttpAnswer
from synchub.errors import UpstreamFailed, UpstreamRefused
from tests.support.shiphero import Emulator, emulator

REFRESH: Final = "sh_refresh"
GIVEN: Final = ("--paused", "--credential", f"refresh_token={REFRESH}")


async def reads(shiphero: Emulator, **credentials: str) -> int:
    return len(await shiphero.reader(**credentials).fetch_levels(["TEE-0001"]))


async def renewals(shiphero: Emulator) -> dict[str, int]:
    return dict((await shiphero.calls())["calls"].get("POST /auth/refresh", {}))


async def test_a_token_that_ended_is_renewed_within_the_call_and_kept_for_the_next() -> None:
    async with emulator(*GIVEN) as shiphero:
        await shiphero.post("expire")
        first = await reads(shiphero, refresh_token=REFRESH)
        second = await reads(shiphero, refresh_token=REFRESH)
        asked = await renewals(shiphero)
    assert (first, second) == (2, 2)
    assert asked == {"ok": 1}


async def test_a_refresh_token_is_enough() -> None:
    async with emulator(*GIVEN) as shiphero:
        assert await reads(shiphero, access_token="", refresh_token=REFRESH) == 2


async def test_a_good_token_is_not_renewed() -> None:
    async with emulator(*GIVEN) as shiphero:
        assert await reads(shiphero, refresh_token=REFRESH) == 2
        assert await renewals(shiphero) == {}


async def test_another_refresh_token_is_refused() -> None:
    async with emulator(*GIVEN) as shiphero:
        await shiphero.post("expire")
        with pytest.raises(UpstreamRefused):
            await reads(shiphero, refresh_token="sh_of_somebody_else")


async def test_without_a_refresh_token_the_end_of_the_token_is_the_end() -> None:
    async with emulator(*GIVEN) as shiphero:
        await shiphero.post("expire")
        with pytest.raises(UpstreamRefused):
            await reads(shiphero)
        assert await renewals(shiphero) == {}


@dataclass
class Refusing:
    """Refuses every read, whatever the token, and renews gladly."""

    name: str
    renewed: bytes = b'{"access_token":"hush-new","expires_in":2419200}'
    asked: list[str] = field(default_factory=list)

    async def send(self, method: str, url: str, **_: Any) -> HttpAnswer:
        assert method == "POST"
        self.asked.append(url.rpartition("example/")[2])
        if url.endswith("/graphql"):
            msg = "POST to the platform was answered with 403."
            raise UpstreamRefused(msg)
        return HttpAnswer(status=200, headers={}, body=self.renewed)

    def client(self) -> Client:
        # An address of its own: what one test has renewed is kept for the process.
        given = {"api_url": f"https://{self.name}.example/graphql", "refresh_token": "hush-refresh"}
        return Client(Access(http=self, credentials={"access_token": "hush-old"} | given))


async def test_what_is_refused_with_a_new_token_too_is_not_renewed_again_and_again() -> None:
    platform = Refusing("again")
    for _ in range(2):
        with pytest.raises(UpstreamRefused):
            await platform.client().fetch_levels(["A"])
    with pytest.raises(UpstreamRefused) as refused:
        await platform.client().fetch_levels(["A"])
    assert platform.asked.count("auth/refresh") == 1
    assert platform.asked.count("graphql") == 4, "twice the first time, once since then"
    assert "hush" not in f"{refused.value!r} {refused.value.detail}"


@pytest.mark.parametrize("body", [b"", b"<html></html>", b'{"access_tok', b"{}", b'{"access_token":""}'])
async def test_half_a_renewal_is_a_failure_of_the_platform(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        await Refusing(f"half{len(body)}", body).client().fetch_levels(["A"])


async def test_only_so_many_tokens_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KEPT_MAX", 2)
    monkeypatch.setattr(tokens, "_kept", type(tokens._kept)())
    for name in ("first", "second", "third"):
        with pytest.raises(UpstreamRefused):
            await Refusing(name).client().fetch_levels(["A"])
    again = Refusing("first")
    with pytest.raises(UpstreamRefused):
        await again.client().fetch_levels(["A"])
    assert "auth/refresh" in again.asked, "it had been forgotten"


def test_no_token_shows_where_it_is_kept() -> None:
    kept = tokens._Kept("hush-new", 1.0)
    assert json.dumps(repr(kept)) == '"_Kept(at_s=1.0)"'
