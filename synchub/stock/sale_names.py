"""Sales as people read them and name them, the same over HTTP and on the command line.

In the store the parts of a name are joined by a character that nobody can type. Here they are joined by
colons, each part percent-encoded: ``hold:k7Qx.1041:TEE-RED-M``, ``order:acme-shop:1001:1:TEE-RED-M``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from synchub.errors import InvalidRequest
from synchub.keyspace import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.stock.model import OpenSale

_WORDS: Final = {"o": "order", "l": "line", "c": "number", "h": "hold", "r": "reference"}
_LETTERS: Final = {word: letter for letter, word in _WORDS.items()}
_COLON: Final = ":"
_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def shown_sale(sale: OpenSale) -> dict[str, Any]:
    """Return an open sale as it is told; ``name`` settles it."""
    names = [shown_name(name) for name in sale.names]
    return {
        "name": names[0],
        "names": names,
        "sku": sale.sku,
        "units": sale.units,
        "account": sale.origin or None,
        "reservation": sale.hold or None,
        "age_ms": sale.age_ms,
        "places": [{"location": place or None, "quantity": units} for place, units in sale.places],
        "pending": [
            {"account": one.account, "item": one.item, "location": one.place, "quantity": one.units}
            for one in sale.lacking
        ],
    }


def shown_name(name: str) -> str:
    """Return a name of the store as people read it."""
    letter, *parts = name.split(SEPARATOR)
    return _COLON.join([_WORDS.get(letter, letter), *(quote(part, safe="") for part in parts)])


def stored_name(shown: str) -> str:
    """Return the name that is meant.

    Raises:
        InvalidRequest: no name begins so.
    """
    word, *parts = shown.split(_COLON)
    if word not in _LETTERS or not parts:
        msg = f"A sale's name begins with {', '.join(_LETTERS)} and a colon, as the list of sales shows it."
        raise InvalidRequest(msg)
    return SEPARATOR.join([_LETTERS[word], *(unquote(part) for part in parts)])


def names_of(*, sku: str, order: str, line: str = "", account: str = "") -> Sequence[str]:
    """Return what a line of an order may be called in the store, the surest name first."""
    found = []
    if account and line:
        found.append(SEPARATOR.join(("o", account, order, line, sku)))
    if line:
        found.append(SEPARATOR.join(("l", order, line, sku)))
    return (*found, SEPARATOR.join(("c", order, sku)))


def duration_ms(text: str, what: str) -> int:
    """Read ``90m``, ``24h`` or ``7d``.

    Raises:
        InvalidRequest: another form.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        msg = f"{what} is a time such as 90m, 24h or 7d."
        raise InvalidRequest(msg)
    return int(found[1]) * _MS[found[2]]
