"""Who sent a ShipHero delivery: base64 of the HMAC-SHA256 of its raw body.

The scheme signs no time, so a copied delivery keeps a good signature for ever;
the message id that tells repeats apart is a header and not signed either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.signatures import verify_hmac_sha256_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.delivery import Delivery

SIGNATURE_HEADER: Final = "x-shiphero-hmac-sha256"


def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
    """Return when one of the shared signature secrets signed the body.

    Raises:
        SignatureRefused: missing, malformed or foreign signature.
    """
    del now_ms  # Nothing that is signed says when.
    verify_hmac_sha256_base64(delivery.body, delivery.headers.get(SIGNATURE_HEADER, ""), secrets)
