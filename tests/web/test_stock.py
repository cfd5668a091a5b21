"""What an agent hears about one SKU, and who hears nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stock_face import Face, open_face

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def face(redis_url: str) -> AsyncIterator[Face]:
    async with open_face(redis_url) as one:
        yield one


async def test_an_agent_is_told_state_number_age_and_position(face: Face) -> None:
    await face.report("TEE", 12)
    status, body = await face.ask("TEE", await face.key())
    assert status == 200
    assert (body["sku"], body["state"], body["available"], body["source"]) == ("TEE", "IN_STOCK", 12, "main")
    assert 0 <= body["age_ms"] < 5000
    assert body["seq"] == 1
    assert len(body["epoch"]) >= 11


@pytest.mark.parametrize(("quantity", "covers"), [(1, True), (12, True), (13, False)])
async def test_an_agent_is_told_whether_its_quantity_is_covered(
    face: Face, quantity: int, covers: bool
) -> None:
    await face.report("TEE", 12)
    _, body = await face.ask(f"TEE?quantity={quantity}", await face.key())
    assert (body["quantity"], body["covers"]) == (quantity, covers)


async def test_without_a_quantity_nothing_is_said_about_covering(face: Face) -> None:
    _, body = await face.ask("TEE", await face.key())
    assert body.keys().isdisjoint({"quantity", "covers"})


async def test_an_unknown_sku_is_an_answer(face: Face) -> None:
    status, body = await face.ask("NOPE", await face.key())
    assert (status, body["state"], body["available"]) == (200, "UNKNOWN_SKU", 0)


@pytest.mark.parametrize("sku", ["A/B", "100%", "a?b", "Größe 42", "#1", "a+b", "..", "%2F"])
async def test_a_sku_may_hold_what_a_url_may_not(face: Face, sku: str) -> None:
    await face.report(sku, 3)
    path = "".join(f"%{byte:02X}" for byte in sku.encode())
    status, body = await face.ask(path, await face.key())
    assert (status, body.get("sku"), body.get("available")) == (200, sku, 3)


async def test_nobody_is_told_anything_without_a_known_key(face: Face) -> None:
    key = await face.key()
    attempts = [
        (None, "Bearer"),
        ("", "Bearer"),
        (key + "x", "Bearer"),
        (key, "Basic"),
        ("sak_" + "A" * 43, "Bearer"),
    ]
    for presented, scheme in attempts:
        status, body = await face.ask("TEE", presented, scheme)
        assert (status, body["code"]) == (401, "key_unknown")
        assert key not in str(body)


async def test_a_key_without_the_scope_is_not_allowed(face: Face) -> None:
    status, body = await face.ask("TEE", await face.key(scopes=["feed:read"]))
    assert (status, body["code"]) == (403, "not_allowed")
    assert "stock:read" in body["detail"]


async def test_the_merchant_comes_from_the_key(face: Face) -> None:
    await face.report("TEE", 12)
    status, body = await face.ask("TEE?merchant=acme", await face.key(merchant="other"))
    assert (status, body["state"]) == (200, "UNKNOWN_SKU")


async def test_a_key_for_channels_may_ask_for_those_only(face: Face) -> None:
    bound, free = await face.key(channels=["chat"]), await face.key()
    assert (await face.ask("TEE?channel=chat", bound))[0] == 200
    assert (await face.ask("TEE", bound))[0] == 200
    assert (await face.ask("TEE?channel=shop", bound))[0] == 403
    assert (await face.ask("TEE?channel=shop", free))[0] == 200


@pytest.mark.parametrize(
    "query", ["quantity=0", "quantity=-1", "quantity=x", "quantity=1.5", "channel=A%20b"]
)
async def test_a_question_that_makes_no_sense_is_refused(face: Face, query: str) -> None:
    status, body = await face.ask(f"TEE?{query}", await face.key())
    assert (status, body["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("sku", ["%20a", "a%1Fb", "a%E2%80%AEb", "x" * 129])
async def test_a_deceptive_sku_is_refused(face: Face, sku: str) -> None:
    status, body = await face.ask(sku, await face.key())
    assert (status, body["code"]) == (422, "invalid_request")


async def test_a_sku_may_be_called_as_a_path_is(face: Face) -> None:
    await face.report("query", 3)
    _, body = await face.ask("query", await face.key())
    assert (body["sku"], body["available"]) == ("query", 3)
