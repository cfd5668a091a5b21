"""The proof of what was shown: an HMAC over it under the merchant's own key. Pure.

The key comes from the hub's secret key and the merchant's name
(:meth:`synchub.accounts.vault.Vault.merchant_key`), so it can be given to the
merchant without giving anything else away. The byte form is published, with an
example to check an implementation against, in ``docs/http.md``.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synchub.availability.model import View
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer

PREFIX: Final = "hmac-sha256:"
_FORM: Final = "synchub stock 1"


def checksum(key: bytes, answer: Answer, shown: View, *, terms: Terms, epoch: str) -> str:
    """Return the checksum of one answer as one asker was shown it."""
    return PREFIX + hmac.digest(key, shown_form(answer, shown, terms=terms, epoch=epoch), "sha256").hex()


def check(presented: str, expected: str) -> bool:
    """Say whether somebody has presented the right checksum; how long it takes says nothing about it."""
    return hmac.compare_digest(expected.encode(), presented.encode())


def shown_form(answer: Answer, shown: View, *, terms: Terms, epoch: str) -> bytes:
    """Return the bytes that are authenticated: six lines, each with its line feed.

    No part can hold a line feed: identifiers are refused with control characters.
    """
    told = "-" if shown.available is None else str(shown.available)
    lines = (_FORM, answer.sku, shown.state.value, told, epoch, f"{answer.ver}.{terms.version}")
    return "".join(f"{line}\n" for line in lines).encode()
