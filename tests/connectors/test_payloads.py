from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.connector_kit.events import MAX_QUANTITY, MAX_VERSION
from synchub.connector_kit.payloads import (
    MAX_DEPTH,
    Payload,
    Rows,
    identifier,
    latest_us,
    parse,
    quantity,
    read_json,
    resolution_us,
    sequence,
    time_us,
)
from synchub.errors import PayloadRefused


class Row(Payload):
    sku: str
    count: int = 0


class Body(Payload):
    rows: Rows[Row] = ()


def test_numbers_stay_exact_whatever_their_size() -> None:
    read = read_json(b'{"id":271878346596884015,"sequence":18446744073709551616,"price":0.1}')
    assert read == {"id": 271878346596884015, "sequence": 2**64, "price": Decimal("0.1")}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a":1} x', "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff{}", "not UTF-8"),
        (b'{"a":1,"a":1}', "one key twice"),
        (b'{"a":[{"b":1,"\\u0062":2}]}', "one key twice"),
        (b'{"a":NaN}', "NaN or Infinity"),
        (b'{"a":-Infinity}', "NaN or Infinity"),
        (b'{"a":1e99999999999999999999}', "not valid JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":["\\ud800"]}', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b"[" * 200_000, "deeper"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "deeper"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(PayloadRefused, match=reason):
        read_json(body)


def test_the_deepest_nesting_allowed_is_read() -> None:
    read_json(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH)
    read_json(json.dumps({"wide": [[1]] * 200}).encode())


def test_a_whole_surrogate_pair_is_text() -> None:
    assert read_json(b'{"a":"\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    with suppress(PayloadRefused):
        assert isinstance(read_json(body), dict)


def test_a_wrong_field_is_named_and_its_value_kept_quiet() -> None:
    with pytest.raises(PayloadRefused, match=r"^rows\.1\.count is not of the documented type\.$") as refusal:
        parse(Body, {"rows": [{"sku": "A"}, {"sku": "B", "count": "hush"}]})
    assert refusal.value.__cause__ is None


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PayloadRefused, match=r"^rows\.0\.sku is missing\.$"):
        parse(Body, {"rows": [{}]})


def test_types_are_not_converted_and_unread_fields_do_not_matter() -> None:
    assert parse(Body, {"rows": [{"sku": "A", "count": 2**70, "new": None}]}).rows[0].count == 2**70
    for count in (True, "1", Decimal(1), None):
        with pytest.raises(PayloadRefused):
            parse(Body, {"rows": [{"sku": "A", "count": count}]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (271878346596884015, "271878346596884015"),
        (0, "0"),
        ("TEE-RED-M", "TEE-RED-M"),
        ("a{b}:c d", "a{b}:c d"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u5546\u54c1", "\u5546\u54c1"),
        ("x" * 128, "x" * 128),
    ],
)
def test_an_identifier_is_text_in_one_form(value: object, text: str) -> None:
    assert identifier(value, "sku") == text


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        [],
        "",
        " A",
        "A ",
        "A\u00a0",
        "x" * 129,
        "A\nB",
        "A\x00",
        "A\u202eB",
        "A\u200b",
        "\ud800",
        "A\u2028B",
        "\U000e0001",
        "\u0378",
        10**200,
        Decimal(1),
    ],
)
def test_what_a_person_could_not_tell_apart_is_no_identifier(value: object) -> None:
    with pytest.raises(PayloadRefused, match=r"^sku "):
        identifier(value, "sku")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12),
        ("12", 12),
        ("12.0", 12),
        (-3, -3),
        ("-3", -3),
        ("0", 0),
        ("-0", 0),
        ("007", 7),
        (Decimal("12.000"), 12),
        (Decimal("1e3"), 1000),
        (MAX_QUANTITY, MAX_QUANTITY),
        (str(-MAX_QUANTITY), -MAX_QUANTITY),
    ],
)
def test_a_quantity_is_a_whole_number_however_it_is_written(value: object, number: int) -> None:
    read = quantity(value, "quantity")
    assert read == number
    assert type(read) is int


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        " 1",
        "1 ",
        "+1",
        "1,000",
        "1.5",
        "1e3",
        "0x10",
        "\u0661",
        "infinite",
        "NaN",
        "12.",
        ".5",
        1.0,
        1.5,
        [],
        {},
        Decimal("1.5"),
        Decimal("1e400"),
        Decimal("1e-400"),
        Decimal("-1e999999"),
        Decimal("NaN"),
        Decimal("Infinity"),
        MAX_QUANTITY + 1,
        "9" * 20,
        "9" * 5000,
        10**400,
    ],
)
def test_anything_else_is_no_quantity(value: object) -> None:
    with pytest.raises(PayloadRefused, match=r"^quantity is "):
        quantity(value, "quantity")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05Z", 1767323045_000000),
        ("2026-01-02T03:04:05-05:00", 1767341045_000000),
        ("2026-01-02t03:04:05.000001z", 1767323045_000001),
        ("2026-01-02 03:04:05.123+00:00", 1767323045_123000),
        ("2022-07-13T20:30:59.037339943Z", 1657744259_037339),
        ("2016-12-31T23:59:60Z", 1483228800_000000),
    ],
)
def test_a_time_is_exact_to_the_microsecond(text: str, time: int) -> None:
    assert time_us(text, "as_of") == time


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-02-30T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "1969-12-31T23:59:59Z",
        "2026-01-02T03:04:05+25:00",
        "0000-01-01T00:00:00Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Z ",
        "\u0662026-01-02T03:04:05Z",
        "2026-01-02T03:04:61Z",
        1767323045,
        None,
    ],
)
def test_a_time_without_zone_or_sense_is_refused(value: object) -> None:
    with pytest.raises(PayloadRefused, match=r"^as_of is "):
        time_us(value, "as_of")


@pytest.mark.parametrize(
    ("text", "resolution"),
    [
        ("2026-01-02T03:04:05Z", 1_000_000),
        ("2026-01-02T03:04:05.1Z", 100_000),
        ("2026-01-02T03:04:05.123-05:00", 1_000),
        ("2026-01-02T03:04:05.123456Z", 1),
        ("2026-01-02T03:04:05.123456789Z", 1),
    ],
)
def test_the_digits_written_say_how_fine_a_time_is(text: str, resolution: int) -> None:
    assert resolution_us(text) == resolution


def test_a_sequence_is_exact_up_to_twenty_digits() -> None:
    for value in (0, 2**53 + 1, 2**64, MAX_VERSION):
        assert sequence(value, "sequence") == value
        assert sequence(str(value), "sequence") == value


@pytest.mark.parametrize(
    "value", [-1, "-1", True, 1.0, "", "1.0", MAX_VERSION + 1, "1" * 21, None, Decimal(1), "\u0661"]
)
def test_anything_else_is_no_sequence(value: object) -> None:
    with pytest.raises(PayloadRefused, match=r"^sequence is "):
        sequence(value, "sequence")


@pytest.mark.parametrize(
    ("written", "latest"),
    [
        ("1970-01-01T00:00:05Z", 5_999_999),
        ("1970-01-01T00:00:05.25Z", 5_259_999),
        ("1970-01-01T00:00:05.000001Z", 5_000_001),
        ("1970-01-01T01:00:05.0000015+01:00", 5_000_001),
    ],
)
def test_a_written_time_may_mean_every_moment_up_to_the_next_it_could_write(
    written: str, latest: int
) -> None:
    assert latest_us(written, "at") == latest


@pytest.mark.parametrize("unusable", [None, 5, "soon", "1970-01-01T00:00:05"])
def test_the_end_of_no_time_is_refused(unusable: object) -> None:
    with pytest.raises(PayloadRefused):
        latest_us(unusable, "at")
