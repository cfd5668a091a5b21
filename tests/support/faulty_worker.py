"""``python -m tests.support.faulty_worker``: a worker in which a connector breaks over some deliveries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from synchub.ingress import rules
from workers.__main__ import main

if TYPE_CHECKING:
    from synchub.ingress.model import Misunderstood, Queued, Understood

POISON: Final = "POISON"
"""A SKU over which it breaks."""

_understand = rules.understand


def understand(queued: Queued, *about: Any, **more: Any) -> Understood | Misunderstood:
    """Stand in for reading a delivery."""
    if POISON.encode() in queued.delivery.body:
        raise ZeroDivisionError
    return _understand(queued, *about, **more)


if __name__ == "__main__":
    with mock.patch("synchub.ingress.operations.understand", understand):
        sys.exit(main())
