"""Signed nonsense and odd numbers: an exact value or a clear refusal, and no write to any other key."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from synchub.connector_kit.delivery import Delivery
from synchub.ingress.model import Misunderstood, Queued, Understood
from synchub.ingress.rules import understand
from synchub.keyspace import ingest_stream, quarantine, workers
from tests.support.deliveries import body_of, level
from tests.support.hub import Site, running_hub
from tests.support.merchants import CONNECTORS
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEXT_TO_DOUBLE: Final = 2**53 + 1
ROW: Final = b'{"sku": %s, "location_id": "WH1", "mode": "absolute", "quantity": %s, "state": "sellable"}'
RAW: Final = b'{"type": "stock.changed", "data": {"sequence": %s, "changes": [' + ROW + b"]}}"


@pytest.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    async with running_hub(redis_url) as served:
        yield served


def raw(*, sku: bytes = b'"TEE"', quantity: bytes = b"5", sequence: bytes = b"1") -> bytes:
    """A body whose values are put in as they are, valid JSON or not."""
    return RAW % (sequence, sku, quantity)


async def contents(site: Site) -> dict[bytes, bytes]:
    """Everything in the store, as bytes."""
    client = site.hub.client
    return {key: await client.dump(key) for key in await client.keys("*")}


async def written(site: Site, body: bytes) -> set[str]:
    """Post a signed body, wait until it has been dealt with, and name the keys that changed.

    What every delivery touches is left out: the ingest stream itself.
    """
    before = await contents(site)
    heard = await site.post(body)
    assert heard.status == 202, heard
    await site.drained()
    after = await contents(site)
    changed = {key.decode() for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    # The worker takes the delivery, and gives signs of life meanwhile.
    return changed - {ingest_stream(), workers()}


async def refused(site: Site, body: bytes) -> str:
    """The reason for which a body was put in quarantine, where nothing else was written."""
    assert await written(site, body) == {quarantine()}
    [(_, fields)] = await site.hub.client.xrevrange(quarantine(), count=1)
    assert fields[b"b"] == body
    return str(fields[b"reason"].decode())


async def taken(site: Site, body: bytes, sku: str) -> int:
    """The number that a body gave to a SKU, where nothing of another SKU was written."""
    keys = site.merchant.keys
    own = {keys.head, keys.ledger, keys.feed, keys.skus, keys.sku(sku)}
    # What will change by itself, and what waits for the account to be fresh again.
    by_time = {f"{keys.tag}due", f"{keys.tag}stale:{site.merchant.account}", keys.heard}
    assert await written(site, body) <= own | by_time
    answer = await site.hub.redis.execute("HGET", keys.sku(sku), "answer")
    return int(answer.split(b"|")[2])


# ------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("literal", "number"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"5.0", 5),
        (b'"5"', 5),
        (b'"-3"', -3),
        (b'"7.00"', 7),
        (b"1e3", 1000),
        (b"1.5e1", 15),
        (b"999999999999", 999_999_999_999),
        (b"2147483648", 2**31),
    ],
)
async def test_a_whole_number_in_any_form_is_taken_exactly(site: Site, literal: bytes, number: int) -> None:
    assert await taken(site, raw(quantity=literal), "TEE") == number


@pytest.mark.parametrize(
    "literal",
    [
        *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e-400", b"0.5", b"true", b"[]", b"{}"),
        *(
            b'""',
            b'" 5"',
            b'"5 "',
            b'"0x10"',
            b'"1e3"',
            b'"NaN"',
            b'"+5"',
            b'"1_000"',
            b'"\xd9\xa5"',
            b'"--1"',
        ),
        *(str(2**63).encode(), str(2**64).encode(), str(-(2**64)).encode(), b"9" * 5000, b"1" + b"0" * 300),
        *(b"01", b"1.", b".5", b"0x10", b"", b"1 2", b"'5'", b"undefined"),
    ],
)
async def test_what_is_no_whole_number_is_refused(site: Site, literal: bytes) -> None:
    assert await refused(site, raw(quantity=literal))


async def test_a_number_that_a_double_cannot_hold_is_exact_or_refused(site: Site) -> None:
    body = raw(quantity=str(NEXT_TO_DOUBLE).encode())
    changed = await written(site, body)
    if changed != {quarantine()}:
        answer = await site.hub.redis.execute("HGET", site.merchant.keys.sku("TEE"), "answer")
        assert int(answer.split(b"|")[2]) == NEXT_TO_DOUBLE


async def test_versions_next_to_each_other_are_told_apart_beyond_doubles(site: Site) -> None:
    for place, base in enumerate((2**53, 2**63 - 1, 2**64), 1):
        number = place * 10
        newer, older, newest = (str(base + step).encode() for step in (1, 0, 2))
        assert await taken(site, raw(quantity=b"%d" % number, sequence=newer), "TEE") == number
        assert await taken(site, raw(quantity=b"1", sequence=older), "TEE") == number
        assert await taken(site, raw(quantity=b"%d" % (number + 1), sequence=newest), "TEE") == number + 1


@pytest.mark.parametrize("literal", [b"-1", b"1.5", b"true", b'"x"', b"9" * 21, b"1e30", b"[1]"])
async def test_a_sequence_that_cannot_be_one_is_refused(site: Site, literal: bytes) -> None:
    assert await refused(site, raw(sequence=literal))


async def test_null_never_replaces_a_known_number(site: Site) -> None:
    assert await taken(site, raw(quantity=b"8"), "TEE") == 8
    assert await taken(site, raw(quantity=b"null", sequence=b"2"), "TEE") == 8


# -------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("when", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
async def test_a_time_in_the_future_is_not_believed(site: Site, when: str) -> None:
    assert "future" in await refused(site, body_of(level("TEE", "5", as_of=when)))


@pytest.mark.parametrize(
    "when",
    [
        *("1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01", "yesterday"),
        *(
            "2026-01-01T00:00:00",
            "2026-01-01T25:00:00Z",
            "99999-01-01T00:00:00Z",
            "",
            "2026-01-01T00:00:00Z ",
        ),
    ],
)
async def test_what_is_no_time_is_refused(site: Site, when: str) -> None:
    assert await refused(site, body_of(level("TEE", "5", as_of=when)))


async def test_an_old_time_is_taken_with_its_age(site: Site) -> None:
    assert await taken(site, body_of(level("TEE", "5", as_of="2020-01-01T00:00:00.000001Z")), "TEE") == 5
    told = await site.stock("TEE")
    assert told["as_of"] == "2020-01-01T00:00:00.000Z"
    assert told["degraded"]


# ---------------------------------------------------------------------------------------------- identifiers


@pytest.mark.parametrize(
    "sku",
    [
        *(
            "{}",
            "{other}",
            "}{",
            "a:b",
            ":",
            "{ingest}:stream",
            "..:..",
            "sku:TEE",
            "*",
            "?",
            "[a]",
            "a b",
            "a/b",
        ),
        *(
            '"',
            "'",
            "\\",
            "%00",
            "$(x)",
            "\u00e4",
            "\u65e5\u672c",
            "\U0001f455",
            "e\u0301",
            "0",
            "null",
            "x" * 128,
        ),
    ],
)
async def test_an_odd_sku_writes_to_its_own_key_only(site: Site, sku: str) -> None:
    stored = "\u00e9" if sku == "e\u0301" else sku
    assert await taken(site, raw(sku=json.dumps(sku).encode()), stored) == 5


@pytest.mark.parametrize(
    "sku",
    [
        *(b'""', b'" TEE"', b'"TEE "', b'"' + b"x" * 129 + b'"', b"null", b"true", b"1.5", b"[]", b"{}"),
        *(b'"a\\u0000b"', b'"\\u001f"', b'"a\\nb"', b'"a\\r\\nb"', b'"\\u202e"', b'"\\u2066x"', b'"\\u200b"'),
        *(
            b'"\\ufeff"',
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'"\\u0085"',
            b'"\\u2028"',
            b'"a\x00b"',
            b'"\xff"',
        ),
    ],
)
async def test_a_sku_that_cannot_be_seen_or_written_is_refused(site: Site, sku: bytes) -> None:
    assert await refused(site, raw(sku=sku))


async def test_two_writings_of_one_sku_are_one_sku(site: Site) -> None:
    assert await taken(site, raw(sku='"e\u0301"'.encode(), quantity=b"5"), "\u00e9") == 5
    assert await taken(site, raw(sku='"\u00e9"'.encode(), quantity=b"6", sequence=b"2"), "\u00e9") == 6
    assert await site.hub.client.zcard(site.merchant.keys.skus) == 1


# ---------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "body",
    [
        raw().replace(b'"sku"', b'"sku": "OTHER", "sku"'),
        raw().replace(b'"sequence"', b'"sequence": 9, "sequence"'),
        b'{"type": "stock.changed", "type": "stock.changed", "data": {}}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"type": "stock.changed", "data": ' + b"[" * 40 + b"]" * 40 + b"}",
        raw() + b"x",
        raw() + raw(),
        raw()[:-1],
        b"\xef\xbb\xbf" + raw(),
        raw().decode().encode("utf-16"),
        raw().replace(b"TEE", b"\xc3\x28"),
        raw().replace(b"TEE", b"\xed\xa0\x80"),
        raw().replace(b"TEE", b"\xf5\x80\x80\x80"),
        raw().replace(b'"absolute"', b'"ABSOLUTE"'),
        raw().replace(b'"absolute"', b"1"),
        raw().replace(b'"changes": [', b'"changes": {').replace(b"}]}}", b"}}}}"),
        b'"stock.changed"',
        b"0",
        b" ",
        b'{"type": {"$ne": null}}',
    ],
    ids=range(21),
)
async def test_a_body_that_is_not_of_the_form_is_refused_whole(site: Site, body: bytes) -> None:
    assert await refused(site, body)


async def test_one_row_that_cannot_be_believed_keeps_the_others_back(site: Site) -> None:
    good, bad = level("GOOD", "5"), level("BAD", "many")
    assert await refused(site, body_of(good, bad, sequence=1))
    assert await refused(site, body_of(bad, good, sequence=1))


async def test_thousands_of_rows_in_one_body_are_taken(site: Site) -> None:
    rows = [level(f"T{number}", number) for number in range(2000)]
    heard = await site.post(body_of(*rows, sequence=1))
    assert heard.status == 202
    await site.drained()
    assert await site.hub.client.zcard(site.merchant.keys.skus) == 2000


async def test_hostile_ids_and_headers_change_nothing_else(site: Site) -> None:
    for number, message_id in enumerate(["{a}", "a:b", "*", "'; DROP", "%s%n", "..", "$" * 256], 1):
        heard = await site.post(raw(sequence=str(number).encode()), message_id=message_id.replace(" ", ""))
        assert heard.status in {202, 401}, message_id
    await site.drained()
    assert [key for key in await site.hub.client.keys("*") if b"DROP" in key or b"$" in key] == []


# ------------------------------------------------------------------------------------------------- by chance


def mutated(body: bytes, chance: random.Random) -> bytes:
    """The body with a few random injuries."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.randint(0, 12))
        piece = chance.choice(PIECES) if chance.random() < 0.5 else chance.randbytes(chance.randint(0, 6))
        body = body[:start] + chance.choice((piece, b"", body[start:end] * 2)) + body[end:]
    return body


PIECES: Final = (
    *(
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b'""',
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b":",
        b",",
        b"\\",
        b"\\u0000",
    ),
    *(
        b"\\ud800",
        b"9" * 30,
        b"0.1",
        b"\x00",
        b"\xff",
        b"\xe2\x80\xae",
        b"[[[[",
        b'{"a":',
        b'"sku"',
        b"-",
        b".",
    ),
)


def examples() -> list[tuple[str, dict[str, str], bytes]]:
    """Every recorded delivery: its platform, headers and body."""
    found = []
    for headers in sorted(ROOT.glob("connectors/*/fixtures/*.headers.json")):
        body = headers.with_name(headers.name.removesuffix(".headers.json") + ".json")
        named = {name.lower(): text for name, text in json.loads(headers.read_bytes()).items()}
        found.append((headers.parts[-3], named, body.read_bytes()))
    return found


def test_ten_thousand_mutated_bodies_are_understood_or_refused(seed: int) -> None:
    chance, recorded = random.Random(seed), examples()
    assert {platform for platform, _, _ in recorded} == set(CONNECTORS)
    verdicts = {Understood: 0, Misunderstood: 0}
    for _ in range(10_000):
        platform, headers, body = chance.choice(recorded)
        verdicts[type(verdict_on(platform, headers, mutated(body, chance)))] += 1
    assert min(verdicts.values()) > 200, verdicts


def verdict_on(platform: str, headers: dict[str, str], body: bytes) -> Any:
    """Whatever a connector raises besides its refusal fails the test."""
    delivery = Delivery(account="a", headers=headers, body=body, arrived_at_us=1_795_255_200_000_000)
    queued = Queued(id="1-0", delivery=delivery)
    return understand(queued, CONNECTORS[platform], "m", future_skew_ms=300_000)


async def test_mutated_bodies_through_the_whole_hub_leave_no_dead_letter(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    body = body_of(*[level(f"TEE-{number}", number) for number in range(3)], sequence=1)
    for _ in range(300):
        assert (await site.post(mutated(body, chance))).status == 202
    await site.drained()
    assert await site.hub.client.xlen("synchub:{ingest}:dead") == 0
    own = (site.merchant.keys.tag, "synchub:{")
    assert [key for key in await site.hub.client.keys("*") if not key.decode().startswith(own)] == []
