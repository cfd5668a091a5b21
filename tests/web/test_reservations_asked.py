"""Who may ask, in what form, how often, and what is noted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.buyers import left, line, problem, told

if TYPE_CHECKING:
    from tests.support.buyers import Buyer, Shop


# who may, and how much


@pytest.mark.parametrize("verb", ["renew", "commit", "release", ""])
async def test_anothers_reservation_is_none(shop: Shop, buyer: Buyer, verb: str) -> None:
    held = await buyer.hold()
    other = await shop.buyer()
    for name in (held["id"], "epoch.1", "nonsense", "%00", "x" * 500):
        if verb:
            body = {"ttl_ms": 2000} if verb == "renew" else {}
            heard = await other.post(f"/{name}/{verb}", body)
        else:
            heard = await other.site.ask("GET", f"/v1/reservations/{name}", headers=other.headers)
        assert problem(heard) == (404, "hold_unknown")
    assert (await buyer.look(held))["status"] == "held"


async def test_without_the_scope_nothing_is_held(shop: Shop, buyer: Buyer) -> None:
    reader = await shop.buyer(scopes=["stock:read"])
    held = await buyer.hold()
    for path, body in (("", {"lines": [line()]}), (f"/{held['id']}/release", {})):
        assert problem(await reader.post(path, body)) == (403, "not_allowed")
    heard = await reader.site.ask("GET", f"/v1/reservations/{held['id']}", headers=reader.headers)
    assert problem(heard) == (403, "not_allowed")


async def test_without_a_key_nothing_is_held(shop: Shop, buyer: Buyer) -> None:
    for headers in ({}, {"Authorization": "Bearer sak_x"}):
        heard = await shop.site.ask("POST", "/v1/reservations", json={"lines": [line()]}, headers=headers)
        assert problem(heard) == (401, "key_unknown")


async def test_each_request_takes_exactly_one_token(shop: Shop, buyer: Buyer) -> None:
    hurried = await shop.buyer(rate_per_s=1, burst=4)
    held = await hurried.hold(once="k1")
    await hurried.hold(once="k1")
    told(await hurried.renew(held, 2000))
    await hurried.look(held)
    heard = await hurried.release(held)
    assert (problem(heard), heard.headers["Retry-After"]) == ((429, "rate_limited"), "1")
    assert problem(await hurried.post("", {"lines": [line()]})) == (429, "rate_limited")
    assert (await buyer.stock())["available"] == 9


async def test_an_answer_that_comes_too_late_says_so(shop: Shop, buyer: Buyer) -> None:
    await buyer.hold()
    client: Any = shop.site.hub.client
    await client.client_pause(300, all=False)
    heard = await buyer.post("", {"lines": [line()]}, once="k1", **{"Request-Timeout-Ms": "50"})
    assert problem(heard) == (503, "outcome_unknown")
    # The same key finds out what became of it, and does it once.
    await client.client_unpause()
    told(await buyer.post("", {"lines": [line()]}, once="k1"), 201)
    assert await left(buyer) == 8


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"lines":[]}',
        b'{"lines":{}}',
        b'{"lines":[{"sku":"TEE"}]}',
        b'{"lines":[{"sku":"TEE","quantity":0}]}',
        b'{"lines":[{"sku":"TEE","quantity":-1}]}',
        b'{"lines":[{"sku":"TEE","quantity":1.0}]}',
        b'{"lines":[{"sku":"TEE","quantity":"1"}]}',
        b'{"lines":[{"sku":"TEE","quantity":true}]}',
        b'{"lines":[{"sku":"TEE","quantity":1000000000001}]}',
        b'{"lines":[{"sku":"","quantity":1}]}',
        b'{"lines":[{"sku":" TEE","quantity":1}]}',
        b'{"lines":[{"sku":7,"quantity":1}]}',
        b'{"lines":[{"sku":"TEE","quantity":1,"price":1}]}',
        b'{"lines":[{"sku":"TEE","quantity":1,"location":"a\\u001fb"}]}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"mode":"forever"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"ttl_ms":"2000"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"ttl_ms":2000.5}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"expected_seq":-1}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"merchant":"other"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"channel":"A b"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"buyer":"a\\u202eb"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"session":"\\ud800"}',
        b'{"lines":[{"sku":"TEE","quantity":1}],"lines":[{"sku":"MUG","quantity":1}]}',
        b'{"lines":[' + b",".join([b'{"sku":"TEE","quantity":1}'] * 51) + b"]}",
    ],
)
async def test_a_body_that_makes_no_sense_holds_nothing(buyer: Buyer, body: bytes) -> None:
    assert problem(await buyer.post("", body)) == (422, "invalid_request")
    assert await left(buyer) == 10


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("commit", b""),
        ("commit", b'{"order_id":7}'),
        ("commit", b'{"order_id":"a\\u0000b"}'),
        ("commit", b'{"order":"1001"}'),
        ("commit", b'{"expected_seq":"1"}'),
        ("commit", b'{"regrant":1}'),
        ("renew", b"{}"),
        ("renew", b""),
        ("release", b"[]"),
        ("release", b'{"reason":"bored"}'),
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(buyer: Buyer, verb: str, body: bytes) -> None:
    held = await buyer.hold()
    assert problem(await buyer.post(f"/{held['id']}/{verb}", body)) == (422, "invalid_request")
    assert (await buyer.look(held))["status"] == "held"


async def test_a_release_needs_no_body(buyer: Buyer) -> None:
    held = await buyer.hold()
    heard = await buyer.site.ask("POST", f"/v1/reservations/{held['id']}/release", headers=buyer.headers)
    assert told(heard)["status"] == "released"


# the record


async def test_every_decision_is_noted_once(shop: Shop, buyer: Buyer) -> None:
    await buyer.stock()
    held = await buyer.hold(line(3), once="k1", buyer="anna", session="s1")
    await buyer.hold(line(3), once="k1", buyer="anna", session="s1")
    await buyer.refused(line(9), buyer="anna", session="s1")
    told(await buyer.renew(held, 2000))
    told(await buyer.commit(held))
    await buyer.release(held)
    await shop.site.hub.decisions.flush()
    entries: Any = await shop.site.hub.client.xrange(shop.site.merchant.keys.decisions)
    noted = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]
    told_of = [(one["kind"], one["sku"], one["quantity"], one["outcome"], one["reason"]) for one in noted]
    assert told_of == [
        ("query", "TEE", "0", "told", ""),
        ("hold", "TEE", "3", "held", ""),
        ("hold", "TEE", "9", "refused", "insufficient"),
        ("renew", "TEE", "3", "held", ""),
        ("commit", "TEE", "3", "committed", ""),
        ("release", "TEE", "3", "closed", ""),
    ]
    assert {one["buyer"] for one in noted[1:]} == {"anna"}
    assert (noted[2]["state"], noted[2]["available"]) == ("IN_STOCK", "7")
