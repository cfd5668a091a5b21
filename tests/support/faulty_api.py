"""``python -m tests.support.faulty_api serve …``: an api process in which two requests meet a fault of ours.

Each fault repeats in its message what the request carried, as messages of libraries do.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn
from unittest import mock

from synchub.__main__ import main

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Connector
    from synchub.connector_kit.delivery import Delivery


async def enqueue(_: object, delivery: Delivery, connector: Connector) -> NoReturn:
    """Stand in for making a delivery durable."""
    carried = f"{delivery.body!r} {dict(delivery.headers)!r} {connector.name}"
    try:
        int(carried)
    except ValueError as problem:
        raise RuntimeError(carried) from problem
    raise AssertionError


async def read(*carried: object) -> NoReturn:
    """Stand in for reading answers."""
    raise LookupError(carried)


if __name__ == "__main__":
    with (
        mock.patch("synchub.ingress.operations.Gate.enqueue", enqueue),
        mock.patch("synchub.availability.asking.Questions.ask", read),
    ):
        sys.exit(main())
