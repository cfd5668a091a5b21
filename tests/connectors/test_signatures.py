from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from synchub.connector_kit.delivery import Delivery
from synchub.connector_kit.signatures import (
    MAX_SIGNATURES,
    check_secret,
    new_secret,
    sign_hmac_sha256_base64,
    sign_standard_webhooks,
    verify_hmac_sha256_base64,
    verify_standard_webhooks,
)
from synchub.errors import DeliveryStale, InvalidRequest, SignatureRefused

# Published in the libraries' own tests: github.com/standard-webhooks/standard-webhooks,
# libraries/go/webhook_test.go and its siblings. The ed25519 pair: github.com/svix/svix-webhooks,
# server/svix-server/src/worker.rs.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
DECOY = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
OTHER = "whsec_" + base64.b64encode(b"another secret of the merchant").decode()

SHOPIFY_LIKE = b'{"inventory_item_id":271878346596884015,"available":7}'


def delivery(
    signature: str = V1, *, message_id: str = ID, timestamp: str = str(TIMESTAMP), body: bytes = BODY
) -> Delivery:
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    return Delivery(account="acc_1", headers=headers, body=body, arrived_at_us=0)


def check(arrived: Delivery, *secrets: str, now_s: float = TIMESTAMP) -> None:
    verify_standard_webhooks(arrived, secrets or (SECRET,), now_ms=int(now_s * 1000))


def test_the_published_symmetric_vector_is_accepted_and_produced() -> None:
    check(delivery())
    headers = sign_standard_webhooks(BODY, SECRET, message_id=ID, timestamp_s=TIMESTAMP)
    assert headers["webhook-signature"] == V1


def test_the_published_asymmetric_vector_is_accepted_and_produced() -> None:
    check(delivery(V1A), PUBLIC)
    headers = sign_standard_webhooks(BODY, PRIVATE, message_id=ID, timestamp_s=TIMESTAMP)
    assert headers["webhook-signature"] == V1A


@pytest.mark.parametrize(
    "header",
    [
        f"{DECOY} {V1}",
        f"v2,{DECOY[3:]} {V1}",
        f"{V1A} {V1}",
        f"v1,%%% {V1}",
        f"  {V1}",
        f"garbage {V1}",
        f"v1,a,b {V1}",
        f"v1a,AAAA {V1}",
    ],
)
def test_one_right_signature_is_enough_whatever_stands_beside_it(header: str) -> None:
    check(delivery(header))


@pytest.mark.parametrize(
    "header",
    [
        "",
        DECOY,
        "v2," + DECOY[3:],
        "v2," + V1[3:],
        "v1a," + V1[3:],
        V1[3:],
        V1.replace(",", ""),
        V1.rstrip("="),
        V1 + ",",
        V1.upper(),
        "v1,",
        "v1a,",
        "v1a,%",
        "v1,é\udcff",
        "\x00" * 50,
        V1A,
    ],
)
def test_no_right_signature_is_a_refusal(header: str) -> None:
    with pytest.raises(SignatureRefused):
        check(delivery(header))


def test_signatures_beyond_the_limit_are_not_looked_at() -> None:
    check(delivery(" ".join([DECOY] * (MAX_SIGNATURES - 1) + [V1])))
    with pytest.raises(SignatureRefused):
        check(delivery(" ".join([DECOY] * MAX_SIGNATURES + [V1])))


def test_any_active_secret_may_have_signed() -> None:
    check(delivery(), OTHER, SECRET)
    check(delivery(), PUBLIC, SECRET)
    check(delivery(V1A), OTHER, PUBLIC)
    with pytest.raises(SignatureRefused):
        check(delivery(), OTHER, PUBLIC)


@pytest.mark.parametrize("secrets", [[], [""], ["whsec_"], ["whsec_%"], ["not a secret"], ["whpk_AAAA"]])
def test_an_unusable_secret_has_signed_nothing(secrets: list[str]) -> None:
    with_empty_key = hmac.digest(b"", f"{ID}.{TIMESTAMP}.".encode() + BODY, "sha256")
    for header in (V1, V1A, "v1," + base64.b64encode(with_empty_key).decode()):
        with pytest.raises(SignatureRefused):
            verify_standard_webhooks(delivery(header), secrets, now_ms=TIMESTAMP * 1000)


def test_one_changed_byte_is_refused() -> None:
    with pytest.raises(SignatureRefused):
        check(delivery(body=BODY.replace(b"2", b"3", 1)))
    with pytest.raises(SignatureRefused):
        check(delivery(message_id=ID + "x"))


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_either_way_are_in_time(seconds: int) -> None:
    check(delivery(), now_s=TIMESTAMP + seconds)


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_more_than_five_minutes_either_way_is_stale(seconds: int) -> None:
    with pytest.raises(DeliveryStale):
        check(delivery(), now_s=TIMESTAMP + seconds)


def test_a_forged_delivery_is_not_told_that_it_is_stale() -> None:
    with pytest.raises(SignatureRefused):
        check(delivery(DECOY), now_s=TIMESTAMP + 86_400)


@pytest.mark.parametrize(
    "timestamp",
    ["1614265330.5", "1_614_265_330", " 1614265330", "+1614265330", "-1", "", "1e9", "\u0663", "9" * 13],
)
def test_only_whole_seconds_are_a_timestamp(timestamp: str) -> None:
    content = f"{ID}.{timestamp}.".encode() + BODY
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    with pytest.raises(SignatureRefused):
        check(delivery(signature, timestamp=timestamp))


def test_an_id_with_a_full_stop_is_refused_because_it_could_move_the_parts() -> None:
    # The same signed bytes, cut elsewhere: id "a.1614265330" with timestamp "1".
    moved = f"1.{TIMESTAMP}."
    headers = sign_standard_webhooks(BODY, SECRET, message_id=f"a.{TIMESTAMP}", timestamp_s=1)
    with pytest.raises(SignatureRefused):
        check(delivery(headers["webhook-signature"], message_id="a." + moved))
    with pytest.raises(SignatureRefused):
        check(delivery(headers["webhook-signature"], message_id=f"a.{TIMESTAMP}", timestamp="1"), now_s=1)


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_wronglength",
        "whsec_%",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        SECRET.removeprefix("whsec_"),
        PRIVATE,
        "whpk_" + SECRET.removeprefix("whsec_"),
        "whsec_" + SECRET.removeprefix("whsec_") + "\n",
        "whsec_é",
        "",
    ],
)
def test_a_wrong_secret_is_refused_when_it_is_given(secret: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_secret(secret)
    material = secret.partition("_")[2]
    assert not material or material not in refusal.value.detail


def test_right_secrets_are_taken() -> None:
    for secret in (SECRET, PUBLIC, OTHER, new_secret(), "whsec_" + base64.b64encode(bytes(64)).decode()):
        check_secret(secret)
    assert new_secret() != new_secret()


@given(body=st.binary(max_size=200), seed=st.binary(min_size=24, max_size=64))
def test_the_reference_library_and_ours_accept_each_other(body: bytes, seed: bytes) -> None:
    secret = "whsec_" + base64.b64encode(seed).decode()
    # The library compares with the real clock.
    now = datetime.now(UTC).replace(microsecond=0)
    text = body.decode("latin-1")
    theirs = Webhook(secret).sign("msg_1", now, text)
    seconds = int(now.timestamp())
    check(
        delivery(theirs, message_id="msg_1", timestamp=str(seconds), body=text.encode()),
        secret,
        now_s=seconds,
    )
    ours = sign_standard_webhooks(b'{"a":1}', secret, message_id="msg_2", timestamp_s=seconds)
    assert Webhook(secret).verify(b'{"a":1}', ours) == {"a": 1}


@given(
    header=st.text(max_size=200),
    message_id=st.text(max_size=40),
    timestamp=st.text(max_size=20),
    body=st.binary(),
)
def test_whatever_stands_in_the_headers_is_a_refusal_and_no_surprise(
    header: str, message_id: str, timestamp: str, body: bytes
) -> None:
    with pytest.raises(SignatureRefused):
        check(delivery(header, message_id=message_id, timestamp=timestamp, body=body), SECRET, PUBLIC)
    with pytest.raises(SignatureRefused):
        verify_hmac_sha256_base64(body, header, ["secret"])


def test_missing_headers_are_a_refusal() -> None:
    with pytest.raises(SignatureRefused):
        check(Delivery(account="acc_1", headers={}, body=BODY, arrived_at_us=0))


def test_an_hmac_of_the_body_is_accepted_under_any_active_secret() -> None:
    presented = sign_hmac_sha256_base64(SHOPIFY_LIKE, "new")
    verify_hmac_sha256_base64(SHOPIFY_LIKE, presented, ["old", "new"])


def test_two_hmacs_computed_elsewhere_are_reproduced() -> None:
    # printf '%s' 'body' | openssl dgst -sha256 -hmac 'key' -binary | base64
    assert sign_hmac_sha256_base64(b"body", "key") == "UVquEztDXUAAlWcx9orlz164XU8NxqVG0r/NNZXsGuE="
    # RFC 4231, test case 2.
    rfc = bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    assert sign_hmac_sha256_base64(b"what do ya want for nothing?", "Jefe") == base64.b64encode(rfc).decode()


@pytest.mark.parametrize("presented", ["", "AAAA", "é", "\udcff", "=" * 44])
def test_an_hmac_of_something_else_is_refused(presented: str) -> None:
    with pytest.raises(SignatureRefused):
        verify_hmac_sha256_base64(SHOPIFY_LIKE, presented, ["old", "new"])


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_means_no_delivery_even_if_the_sender_signs_with_nothing(secrets: list[str]) -> None:
    presented = sign_hmac_sha256_base64(SHOPIFY_LIKE, "")
    with pytest.raises(SignatureRefused):
        verify_hmac_sha256_base64(SHOPIFY_LIKE, presented, secrets)


def test_a_refusal_repeats_neither_secret_nor_signature() -> None:
    with pytest.raises(SignatureRefused) as refusal:
        check(delivery(DECOY), OTHER)
    with pytest.raises(SignatureRefused) as other_refusal:
        verify_hmac_sha256_base64(b"", DECOY, ["hush"])
    for text in (str(refusal.value), str(other_refusal.value)):
        assert DECOY not in text
        assert OTHER not in text
        assert "hush" not in text
