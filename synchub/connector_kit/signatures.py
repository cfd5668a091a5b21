"""Two ways in which platforms sign deliveries, checked over the raw bytes.

``verify_hmac_sha256_base64`` is the usual header with an HMAC of the body;
``verify_standard_webhooks`` is https://www.standardwebhooks.com with its
symmetric (``v1``) and its asymmetric (``v1a``) form. Each compares in constant
time against every active secret, and answers nothing but "signed" or a refusal:
malformed headers are a refusal like any other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as randomness
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from synchub.errors import DeliveryStale, InvalidRequest, SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.delivery import Delivery

TOLERANCE_S: Final = 300
"""How far the signed time may be from the hub's clock, either way (all libraries agree)."""

MAX_SIGNATURES: Final = 16
"""Signatures looked at in one header; a rotation needs two, an attacker likes thousands."""

_SYMMETRIC: Final = "whsec_"
_PUBLIC: Final = "whpk_"
_PRIVATE: Final = "whsk_"
_SECRET_BYTES_MIN: Final = 24
_SECRET_BYTES_MAX: Final = 64
_ED25519_BYTES: Final = 32
_KEYS_KEPT: Final = 10_000

# Neither may hold a full stop, which separates the parts of the signed text.
_ID = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,11}")


def verify_hmac_sha256_base64(body: bytes, presented: str, secrets: Sequence[str]) -> None:
    """Return when ``presented`` is the base64 HMAC-SHA256 of the body under one of the secrets.

    Raises:
        SignatureRefused: under none of them.
    """
    given = presented.encode(errors="backslashreplace")
    # An account without secrets costs as much as one with: the answer's time tells nothing.
    signed = [
        hmac.compare_digest(_hmac_base64(secret.encode(), body), given) and bool(secret)
        for secret in secrets or ("",)
    ]
    if not any(signed):
        msg = "No active secret of this account signed the delivery."
        raise SignatureRefused(msg)


def sign_hmac_sha256_base64(body: bytes, secret: str) -> str:
    """Return the header's value that ``verify_hmac_sha256_base64`` accepts."""
    return _hmac_base64(secret.encode(), body).decode()


def verify_standard_webhooks(
    delivery: Delivery, secrets: Sequence[str], *, now_ms: int, tolerance_s: int = TOLERANCE_S
) -> None:
    """Return when one signature of the header fits one of the secrets and the time is right.

    Secrets are ``whsec_…`` (HMAC) or ``whpk_…`` (ed25519 public key) as ``check_secret``
    accepts them; another text counts as a secret that signed nothing. Signatures of
    unknown versions and malformed ones are skipped.

    Raises:
        SignatureRefused: missing or malformed headers, or signed by none of the secrets.
        DeliveryStale: rightly signed, more than ``tolerance_s`` before or after ``now_ms``.
    """
    message_id = delivery.headers.get("webhook-id", "")
    timestamp = delivery.headers.get("webhook-timestamp", "")
    well_formed = bool(_ID.fullmatch(message_id)) and bool(_TIMESTAMP.fullmatch(timestamp))
    content = _signed_content(message_id, timestamp, delivery.body)
    tokens = _tokens(delivery.headers.get("webhook-signature", ""))
    signed = [_signed_by(secret, content, tokens) for secret in secrets or ("",)]
    if not (well_formed and any(signed)):
        msg = "No active secret of this account signed the delivery."
        raise SignatureRefused(msg)
    if abs(now_ms - int(timestamp) * 1000) > tolerance_s * 1000:
        msg = f"The delivery's signed time is more than {tolerance_s} seconds from the hub's clock."
        raise DeliveryStale(msg)


def sign_standard_webhooks(body: bytes, secret: str, *, message_id: str, timestamp_s: int) -> dict[str, str]:
    """Return the three headers of a delivery signed with a ``whsec_…`` or ``whsk_…`` secret.

    Raises:
        InvalidRequest: not such a secret.
    """
    content = _signed_content(message_id, str(timestamp_s), body)
    if secret.startswith(_PRIVATE):
        key = Ed25519PrivateKey.from_private_bytes(_base64_of(secret)[:_ED25519_BYTES])
        signature = "v1a," + base64.b64encode(key.sign(content)).decode()
    else:
        check_secret(secret)
        signature = "v1," + _hmac_base64(_base64_of(secret), content).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature,
    }


def check_secret(text: str) -> None:
    """Return when the text can verify Standard Webhooks; called when an account is given one.

    Raises:
        InvalidRequest: says in one sentence what such a secret looks like; never repeats it.
    """
    if text.startswith(_PRIVATE):
        msg = "A whsk_ key signs and stays with the sender; give the whpk_ key that belongs to it."
        raise InvalidRequest(msg)
    if text.startswith(_PUBLIC):
        if len(_base64_of(text)) != _ED25519_BYTES:
            msg = f"A whpk_ key holds {_ED25519_BYTES} bytes in base64."
            raise InvalidRequest(msg)
        return
    if not text.startswith(_SYMMETRIC):
        msg = "A signing secret begins with whsec_ (shared secret) or whpk_ (ed25519 public key)."
        raise InvalidRequest(msg)
    if not _SECRET_BYTES_MIN <= len(_base64_of(text)) <= _SECRET_BYTES_MAX:
        msg = f"A whsec_ secret holds {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX} bytes in base64."
        raise InvalidRequest(msg)


def new_secret() -> str:
    """Return a fresh ``whsec_…`` secret of 32 random bytes."""
    return _SYMMETRIC + base64.b64encode(randomness.token_bytes(32)).decode()


def _hmac_base64(key: bytes, message: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, message, hashlib.sha256))


def _signed_content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return b".".join((message_id.encode(errors="backslashreplace"), timestamp.encode(errors="ignore"), body))


def _tokens(header: str) -> list[tuple[str, str]]:
    """Split ``v1,… v1a,…`` into (version, base64); a token of another form is left out."""
    parts = [token.split(",") for token in header.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]]
    return [(part[0], part[1]) for part in parts if len(part) == len(("version", "base64"))]


def _signed_by(secret: str, content: bytes, tokens: list[tuple[str, str]]) -> bool:
    key = _key_of(secret)
    usable = key is not None
    if key is not None and secret.startswith(_PUBLIC):
        return _has_ed25519(key, content, tokens)
    expected = _hmac_base64(key or b"", content)
    presented = [text.encode(errors="backslashreplace") for version, text in tokens if version == "v1"]
    matches = [hmac.compare_digest(expected, text) for text in presented]
    return any(matches) and usable


@lru_cache(maxsize=_KEYS_KEPT)
def _key_of(secret: str) -> bytes | None:
    """Return the bytes of a usable secret; decoding it anew for each delivery is measurable."""
    try:
        check_secret(secret)
    except InvalidRequest:
        return None
    return _base64_of(secret)


def _has_ed25519(public: bytes, content: bytes, tokens: list[tuple[str, str]]) -> bool:
    key = Ed25519PublicKey.from_public_bytes(public)
    for version, text in tokens:
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(text, validate=True), content)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _base64_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.partition("_")[2], validate=True)
    except (binascii.Error, ValueError):
        msg = "What follows the underscore of a signing secret is not base64."
    raise InvalidRequest(msg)
