"""Writes the signature headers of recordings, so that a body can be edited by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from synchub.connector_kit.signatures import sign_hmac_sha256_base64, sign_standard_webhooks
from synchub.connector_kit.testing.files import HEADERS, SECRETS, beside, demand, recorded_bodies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMES: Final = ("hmac-sha256-base64", "standard-webhooks")


def sign_recordings(folder: Path) -> int:
    """Sign every recording with the first secret; return how many headers files changed.

    Only signature headers are written. ``webhook-id`` and ``webhook-timestamp`` of
    Standard Webhooks are signed too and are added where they are missing.

    Raises:
        Shortcoming: ``secrets.json`` names no scheme that is known here.
    """
    shared = json.loads((folder / "fixtures" / SECRETS).read_bytes())
    scheme = shared.get("scheme", {})
    kind = scheme.get("kind")
    demand(kind in SCHEMES, f"{SECRETS} needs a scheme: its kind is one of {', '.join(SCHEMES)}.")
    changed = 0
    for path in recorded_bodies(folder):
        file = beside(path, HEADERS)
        before = json.loads(file.read_bytes())
        signed = _signed(path, before, scheme, shared["secrets"][0])
        if signed != before:
            file.write_text(json.dumps(signed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            changed += 1
    return changed


def _signed(path: Path, headers: Mapping[str, Any], scheme: Mapping[str, str], secret: str) -> dict[str, Any]:
    body = path.read_bytes()
    if scheme["kind"] == "hmac-sha256-base64":
        return {**headers, scheme["header"]: sign_hmac_sha256_base64(body, secret)}
    timestamp_s = int(headers.get("webhook-timestamp") or headers["_now_ms"] // 1000)
    message_id = headers.get("webhook-id") or "msg_" + path.stem.replace(".", "_")
    return {
        **headers,
        **sign_standard_webhooks(body, secret, message_id=message_id, timestamp_s=timestamp_s),
    }
