"""Who sent a ShipHero delivery: base64 of the HMAC-SHA256 of its raw body.

The surprising fact: ShipHero chooses a secret of its own for each webhook and shows it once, so the
credential is a list of secrets, separated by spaces. The scheme signs no time, so a copied delivery keeps a
good signature for ever; the message id that tells repeats apart is a header and not signed either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.signatures import verify_hmac_sha256_base64

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from synchub.connector_kit.delivery import Delivery

SIGNATURE_HEADER: Final = "x-shiphero-hmac-sha256"

_LABEL_END: Final = "|"
"""Between a webhook's id and its secret, where the hub itself has registered the webhook."""


def verify(delivery: Delivery, secrets: Sequence[str], *, now_ms: int) -> None:
    """Return when one of the shared signature secrets signed the body.

    Raises:
        SignatureRefused: missing, malformed or foreign signature.
    """
    del now_ms  # Nothing that is signed says when.
    each = [secret for value in secrets for secret in secrets_in(value)]
    verify_hmac_sha256_base64(delivery.body, delivery.headers.get(SIGNATURE_HEADER, ""), each)


def hooks_in(value: str) -> frozenset[str]:
    """Return the ids of the webhooks whose secrets the hub itself has kept in this credential."""
    return frozenset(part.partition(_LABEL_END)[0] for part in value.split() if _LABEL_END in part)


def with_secrets(value: str, new: Mapping[str, str], *, known: Collection[str]) -> str:
    """Return the credential with more secrets, by webhook, and without those of webhooks that are gone.

    ``known`` are the ids of the webhooks that exist. What a person gave has no id and stays.
    """
    kept = [
        part for part in value.split() if _LABEL_END not in part or part.partition(_LABEL_END)[0] in known
    ]
    return " ".join([*kept, *(f"{hook}{_LABEL_END}{secret}" for hook, secret in new.items())])


def secrets_in(value: str) -> tuple[str, ...]:
    """Return everything that the credential may mean as a secret, the newest last."""
    parts = value.split()
    bare = [part.partition(_LABEL_END)[2] for part in parts if _LABEL_END in part]
    return tuple(dict.fromkeys([value, *parts, *bare]))
