"""Lifetimes, tokens, and what makes two requests the same."""

from __future__ import annotations

import base64
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.errors import HoldUnknown, InvalidRequest
from synchub.reservations.model import HeldLine, Mode, Reservation, Status
from synchub.reservations.rules import (
    DEFAULT_TTL_MS,
    TTL_MS,
    check_ttl,
    facts_of,
    fingerprint,
    life_ms,
    read_token,
    token_of,
)

KEY: Final = bytes(range(32))
OTHER_KEY: Final = bytes(range(1, 33))

names = st.text(min_size=1, max_size=20)
lines = st.builds(
    HeldLine, sku=names, quantity=st.integers(1, 10**12), location=st.text(max_size=20), sold_from=st.just(())
)
reservations = st.builds(
    Reservation,
    id=names,
    seq=st.integers(1, 2**53),
    epoch=names,
    status=st.sampled_from(Status),
    mode=st.sampled_from(Mode),
    agent=names,
    channel=st.text(max_size=20),
    buyer=names,
    session=names,
    policy=st.integers(0, 10**6),
    lines=st.lists(lines, min_size=1, max_size=5).map(tuple),
    granted_us=st.integers(0, 2**53),
    expires_ms=st.integers(0, 2**53),
    review_due_ms=st.none(),
    order=st.text(max_size=20),
    resolution=st.just(""),
)


@pytest.mark.parametrize("mode", Mode)
def test_a_lifetime_is_within_the_modes_limits(mode: Mode) -> None:
    least, most = TTL_MS[mode]
    assert [check_ttl(mode, ttl_ms) for ttl_ms in (least, most, None)] == [least, most, DEFAULT_TTL_MS[mode]]
    for ttl_ms in (least - 1, most + 1, 0, -1):
        with pytest.raises(InvalidRequest, match=f"from {least} to {most}"):
            check_ttl(mode, ttl_ms)
    assert least <= DEFAULT_TTL_MS[mode] <= most
    assert life_ms(mode) == 3 * most


@given(reservation=reservations)
def test_a_token_says_what_was_granted(reservation: Reservation) -> None:
    token = read_token(KEY, "acme", token_of(KEY, "acme", reservation))
    assert (token.id, token.agent, token.channel) == (reservation.id, reservation.agent, reservation.channel)
    assert (token.deadline_ms, token.granted_us) == (reservation.expires_ms, reservation.granted_us)
    assert token.lines == tuple((one.sku, one.quantity, one.location) for one in reservation.lines)
    assert token.is_receipt == (reservation.status in {Status.COMMITTED, Status.CONFIRMING})


@given(reservation=reservations)
def test_a_token_is_plain_ascii(reservation: Reservation) -> None:
    token = token_of(KEY, "acme", reservation)
    assert token.isascii()
    assert token.replace(".", "").replace("-", "").replace("_", "").isalnum()


@given(reservation=reservations, data=st.data())
def test_no_character_of_a_token_can_be_another(reservation: Reservation, data: st.DataObject) -> None:
    token = token_of(KEY, "acme", reservation)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(exclude_characters=token[place]))
    with pytest.raises(HoldUnknown):
        facts_of(KEY, "acme", token[:place] + other + token[place + 1 :])


@given(reservation=reservations, data=st.data())
def test_a_token_cannot_be_cut_or_extended(reservation: Reservation, data: st.DataObject) -> None:
    token = token_of(KEY, "acme", reservation)
    cut = data.draw(st.integers(0, len(token) - 1))
    for changed in (token[:cut], token + data.draw(st.text(min_size=1, max_size=3)), token[1:]):
        with pytest.raises(HoldUnknown):
            facts_of(KEY, "acme", changed)


@given(reservation=reservations)
def test_a_token_is_one_merchants_under_one_key(reservation: Reservation) -> None:
    token = token_of(KEY, "acme", reservation)
    for key, merchant in ((OTHER_KEY, "acme"), (KEY, "other"), (KEY, "")):
        with pytest.raises(HoldUnknown):
            facts_of(key, merchant, token)


@pytest.mark.parametrize(
    "token",
    ["", ".", "shr1.", "shr1..", "shr1.e30.", "shr2.e30.AAAA", "shr1.é.é", "shr1.e30." + "A" * 22, "\ud800"],
)
def test_what_is_no_token_proves_nothing(token: str) -> None:
    with pytest.raises(HoldUnknown):
        facts_of(KEY, "acme", token)


def test_a_forger_who_knows_the_form_lacks_the_key() -> None:
    facts = base64.urlsafe_b64encode(b'{"m":"acme","i":"e.1"}').decode().rstrip("=")
    for mac in ("", "AAAAAAAAAAAAAAAAAAAAAA"):
        with pytest.raises(HoldUnknown):
            facts_of(KEY, "acme", f"shr1.{facts}.{mac}")


parts = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(one=st.lists(parts, max_size=4), other=st.lists(parts, max_size=4))
def test_two_requests_are_the_same_when_all_of_them_is(one: list[object], other: list[object]) -> None:
    assert fingerprint(*one) == fingerprint(*one)
    assert (fingerprint(*one) == fingerprint(*other)) == (repr(one) == repr(other))
