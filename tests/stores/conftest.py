"""The merchant of the examples, once in the shipped scripts and once in the reference model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.reference_model import ReferenceModel
from tests.support.sales_driver import SalesDriver
from tests.support.sales_examples import connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.sales_examples import Hub
    from tests.support.valkey import Valkey


@pytest.fixture(params=["script", "model"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """A merchant with a warehouse that acknowledges, and a shop."""
    if request.param == "model":
        yield connected(ReferenceModel())
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    valkey.flush()
    with valkey.client() as client:
        yield connected(SalesDriver(client, "demo"))
