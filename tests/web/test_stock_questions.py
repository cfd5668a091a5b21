"""Questions about many SKUs, whether answers still hold, and what is offered instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from synchub.connector_kit.events import CatalogueStatus, Incoming
from synchub.kit.clock import now_ms
from tests.support.stock_face import Face, open_face

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stock_face import Heard

DAY_US = 86_400_000_000


@pytest.fixture
async def face(redis_url: str) -> AsyncIterator[Face]:
    async with open_face(redis_url) as one:
        yield one


async def query(face: Face, *items: Any, **about: Any) -> Heard:
    body = {"items": [item if isinstance(item, dict) else {"sku": item} for item in items]} | about
    return await face.post("query", await face.key(), json=body)


async def verify(face: Face, *answers: dict[str, Any], **about: Any) -> list[dict[str, Any]]:
    items = [{"sku": answer["sku"], "checksum": answer["checksum"]} for answer in answers]
    status, body = await face.post("verify", await face.key(), json={"items": items} | about)
    assert status == 200, body
    results: list[dict[str, Any]] = body["results"]
    return results


# ------------------------------------------------------------------------------ queries


async def test_many_skus_are_answered_in_their_order_at_one_position(face: Face) -> None:
    for sku, quantity in (("TEE", 12), ("MUG", 2), ("CAP", 0)):
        await face.report(sku, quantity)
    status, body = await query(face, "CAP", "TEE", "NOPE", "MUG")
    assert status == 200
    assert [(one["sku"], one["state"]) for one in body["answers"]] == [
        ("CAP", "OUT_OF_STOCK"),
        ("TEE", "IN_STOCK"),
        ("NOPE", "UNKNOWN_SKU"),
        ("MUG", "LOW_STOCK"),
    ]
    assert {one["seq"] for one in body["answers"]} == {body["seq"]} == {3}


async def test_an_answer_is_the_same_whichever_way_it_was_asked_for(face: Face) -> None:
    await face.report("TEE", 12)
    _, single = await face.ask("TEE?quantity=3", await face.key())
    _, several = await query(face, {"sku": "TEE", "quantity": 3})
    moving = {"age_ms": None}
    assert several["answers"][0] | moving == single | moving


async def test_a_sku_named_twice_is_answered_once_for_the_sum(face: Face) -> None:
    await face.report("TEE", 12)
    wanted = [{"sku": "TEE", "quantity": 7}, {"sku": "TEE"}, {"sku": "TEE", "quantity": 6}]
    _, body = await query(face, *wanted)
    assert [(one["quantity"], one["covers"]) for one in body["answers"]] == [(13, False)]


async def test_a_question_about_two_hundred_skus_is_one_step(face: Face) -> None:
    for sku in ("SKU-0", "SKU-199"):
        await face.report(sku, 9)
    status, body = await query(face, *(f"SKU-{number}" for number in range(200)))
    assert (status, len(body["answers"])) == (200, 200)
    assert body["answers"][199]["available"] == 9


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"items": []}, "items"),
        ({"items": [{"sku": f"SKU-{number}"} for number in range(201)]}, "items"),
        ({}, "items is missing"),
        ({"items": [{"sku": "TEE", "qty": 1}]}, "items.0.qty is not a field"),
        ({"items": [{"sku": "TEE"}], "chanel": "chat"}, "chanel is not a field"),
        ({"items": [{"sku": "TEE", "quantity": 0}]}, "items.0.quantity"),
        ({"items": [{"sku": "TEE", "quantity": "2"}]}, "items.0.quantity"),
        ({"items": [{"sku": "TEE", "quantity": 1.5}]}, "items.0.quantity"),
        ({"items": [{"sku": "TEE", "quantity": True}]}, "items.0.quantity"),
        ({"items": [{"sku": "TEE", "quantity": 10**13}]}, "items.0.quantity"),
        ({"items": [{"sku": 7}]}, "items.0.sku"),
        ({"items": [{"sku": ""}]}, "The SKU"),
        ({"items": [{"sku": "a\u202eb"}]}, "The SKU"),
        ({"items": ["TEE"]}, "items.0"),
        ({"items": [{"sku": "TEE"}], "channel": "A b"}, "The channel"),
        ([], "object"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_what_to_change(
    face: Face, body: object, named: str
) -> None:
    status, problem = await face.post("query", await face.key(), json=body)
    assert (status, problem["code"]) == (422, "invalid_request")
    assert named in problem["detail"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"items":[{"sku":"A","sku":"B"}]}', b'{"items":NaN}', b"[" * 40 + b"]" * 40],
)
async def test_a_body_that_is_no_json_is_refused(face: Face, raw: bytes) -> None:
    status, problem = await face.post("query", await face.key(), data=raw)
    assert (status, problem["code"]) == (422, "invalid_request")


async def test_a_refusal_repeats_nothing_that_was_sent(face: Face) -> None:
    _, problem = await face.post(
        "query", await face.key(), json={"items": [{"sku": "A", "quantity": "hush"}]}
    )
    assert "hush" not in json.dumps(problem)


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_a_body_has_a_limit(face: Face, extra: int, status: int) -> None:
    body = b'{"items":[{"sku":"TEE"}]}'
    padded = body + b" " * (65_536 - len(body) + extra)
    assert (await face.post("query", await face.key(), data=padded))[0] == status


async def test_a_compressed_body_is_refused(face: Face) -> None:
    status, _ = await face.post(
        "query", await face.key(), data=b"{}", headers={"Content-Encoding": "gzip"}, compress=False
    )
    assert status == 415


@pytest.mark.parametrize("path", ["query", "verify"])
async def test_only_who_may_read_stock_may_ask_about_much_of_it(face: Face, path: str) -> None:
    assert (await face.post(path, "sak_" + "A" * 43, json={}))[0] == 401
    assert (await face.post(path, await face.key(scopes=["feed:read"]), json={}))[0] == 403
    bound = await face.key(channels=["chat"])
    assert (await face.post("query", bound, json={"items": [{"sku": "A"}], "channel": "shop"}))[0] == 403


async def test_the_channel_decides_what_is_seen(face: Face) -> None:
    await face.report("TEE", 3)
    await face.decide({"scope": {"channel": "chat"}, "set": {"channel_cap": 2}})
    _, named = await query(face, "TEE", channel="chat")
    _, unnamed = await query(face, "TEE")
    assert [body["answers"][0]["available"] for body in (named, unnamed)] == [2, 3]


async def test_a_key_with_one_channel_need_not_name_it(face: Face) -> None:
    await face.report("TEE", 3)
    await face.decide({"scope": {"channel": "chat"}, "set": {"channel_cap": 2}})
    _, bound = await face.ask("TEE", await face.key(channels=["chat"]))
    _, free = await face.ask("TEE", await face.key(channels=["chat", "shop"]))
    assert (bound["available"], free["available"]) == (2, 3)


# ------------------------------------------------------------------------------ still true?


async def test_an_answer_holds_until_something_is_decided_anew(face: Face) -> None:
    await face.report("TEE", 12)
    await face.report("MUG", 2)
    _, body = await query(face, "TEE", "MUG", "NOPE")
    assert [one["status"] for one in await verify(face, *body["answers"])] == ["current"] * 3
    await face.report("TEE", 11)
    changed, *rest = await verify(face, *body["answers"])
    assert [one["status"] for one in rest] == ["current", "current"]
    assert (changed["status"], changed["answer"]["available"]) == ("changed", 11)
    assert [one["status"] for one in await verify(face, changed["answer"])] == ["current"]


async def test_the_same_number_after_a_change_is_another_answer(face: Face) -> None:
    await face.report("TEE", 12)
    _, first = await face.ask("TEE", await face.key())
    await face.report("TEE", 11)
    await face.report("TEE", 12)
    [result] = await verify(face, first)
    assert (result["status"], result["answer"]["available"]) == ("changed", 12)


async def test_every_item_gets_its_own_verdict(face: Face) -> None:
    await face.report("TEE", 12)
    _, good = await face.ask("TEE", await face.key())
    results = await verify(face, good, good | {"checksum": "none"}, good)
    assert [one["status"] for one in results] == ["current", "changed", "current"]


async def test_an_answer_holds_until_the_policies_are_edited(face: Face) -> None:
    await face.report("TEE", 12)
    _, told = await face.ask("TEE", await face.key())
    await face.decide({"scope": {"tier": "other"}, "set": {"buffer_units": 1}})
    assert [one["status"] for one in await verify(face, told)] == ["changed"]


async def test_what_has_run_out_is_answered_with_what_to_take_instead(face: Face) -> None:
    await face.report("TEE", 3)
    await face.report("MUG", 9)
    await face.describe("TEE", substitutes=("MUG",))
    _, told = await face.ask("TEE", await face.key())
    await face.report("TEE", 0)
    [result] = await verify(face, told)
    assert [one["sku"] for one in result["answer"]["fallback_options"]] == ["MUG"]


@pytest.mark.parametrize(
    "body",
    [
        {"items": [{"sku": "TEE"}]},
        {"items": [{"sku": "TEE", "checksum": 5}]},
        {"items": [{"sku": "TEE", "checksum": "x" * 101}]},
        {"items": [{"sku": "TEE", "checksum": "x", "ver": 1}]},
        {"items": [{"sku": "TEE", "checksum": "x"}] * 201},
    ],
)
async def test_what_is_not_presented_in_full_is_refused(face: Face, body: dict[str, Any]) -> None:
    status, problem = await face.post("verify", await face.key(), json=body)
    assert (status, problem["code"]) == (422, "invalid_request")


# ------------------------------------------------------------------------------ what to do instead


async def test_substitutes_that_can_be_had_are_offered_in_the_catalogue_s_order(face: Face) -> None:
    for sku, quantity in (("TEE", 0), ("A", 1), ("B", 0), ("C", 8), ("D", 9), ("E", 7)):
        await face.report(sku, quantity)
    await face.describe("TEE", substitutes=("E", "B", "TEE", "NOPE", "C", "A", "D"))
    _, body = await face.ask("TEE", await face.key())
    offered = [(one["sku"], one["state"], one["available"]) for one in body["fallback_options"]]
    assert offered == [("E", "IN_STOCK", 7), ("C", "IN_STOCK", 8), ("A", "LOW_STOCK", 1)]
    assert body["backpressure"]["level"] == "prefer_alternatives"


async def test_an_offer_can_be_verified_like_an_answer(face: Face) -> None:
    for sku, quantity in (("TEE", 0), ("MUG", 8)):
        await face.report(sku, quantity)
    await face.describe("TEE", substitutes=("MUG",))
    _, body = await face.ask("TEE", await face.key())
    assert [one["status"] for one in await verify(face, *body["fallback_options"])] == ["current"]


async def test_nothing_is_offered_beside_what_there_is(face: Face) -> None:
    await face.report("TEE", 1)
    await face.report("MUG", 8)
    await face.describe("TEE", substitutes=("MUG",))
    _, body = await face.ask("TEE", await face.key())
    assert body["fallback_options"] == []


async def test_a_backorder_names_the_arrival_that_serves_it(face: Face) -> None:
    await face.report("TEE", 0)
    soon_us = now_ms() * 1000 + DAY_US
    incoming = (Incoming(quantity=10, expected_at_us=soon_us),)
    await face.describe("TEE", backorder=True, incoming=incoming)
    _, body = await face.ask("TEE", await face.key())
    assert (body["state"], body["backorder_commitment"]["quantity"]) == ("BACKORDERED", 10)
    assert body["restock_at"] == body["backorder_commitment"]["expected_at"] is not None


async def test_a_discontinued_sku_does_not_come_back(face: Face) -> None:
    await face.report("TEE", 5)
    await face.report("MUG", 8)
    incoming = (Incoming(quantity=10, expected_at_us=now_ms() * 1000 + DAY_US),)
    await face.describe(
        "TEE", status=CatalogueStatus.DISCONTINUED, incoming=incoming, substitutes=("MUG",), backorder=True
    )
    _, body = await face.ask("TEE", await face.key())
    assert (body["state"], body["restock_at"], body["backorder_commitment"]) == ("DISCONTINUED", None, None)
    assert [one["sku"] for one in body["fallback_options"]] == ["MUG"]


# ------------------------------------------------------------------------------ policies


async def test_a_number_is_told_as_far_as_the_merchant_wants(face: Face) -> None:
    await face.report("TEE", 12)
    await face.decide({"set": {"disclosure": "bucket", "buffer_units": 1}})
    _, body = await face.ask("TEE?quantity=11", await face.key())
    assert (body["available"], body["covers"]) == (10, True)
    await face.decide({"set": {"disclosure": "none", "low_threshold": 20}})
    _, body = await face.ask("TEE?quantity=13", await face.key())
    assert (body["available"], body["state"], body["covers"]) == (None, "LOW_STOCK", False)


async def test_the_answer_names_the_policies_it_follows(face: Face) -> None:
    await face.report("TEE", 12)
    await face.decide({"set": {"on_stale": "escalate"}})
    _, body = await face.ask("TEE", await face.key())
    assert body["policy"] == {
        "version": 1,
        "on_stale": "escalate",
        "on_unknown": "assume_out",
        "decided_by": None,
    }


async def test_an_account_that_is_stale_early_shortens_its_answers(redis_url: str) -> None:
    async with open_face(redis_url, max_age_ms=1500) as face:
        await face.report("TEE", 12)
        _, body = await face.ask("TEE", await face.key())
    assert 0 <= body["ttl_ms"] <= 1500
