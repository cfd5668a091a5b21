"""A hub of real processes that the tests of one module share; each test has a merchant of its own."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.processes import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED_VARIABLE: Final = "FAULT_SEED"

SHORT_WAITS: Final = {
    # A test lasts for less than the waits that production has.
    "INGRESS__CLAIM_IDLE_MS": "500",
    "INGRESS__CLAIM_EVERY_MS": "100",
    "REDIS__COMMAND_TIMEOUT_MS": "500",
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The processes, started once."""
    with Deployment(tmp_path_factory.mktemp("hub"), workers=2, settings=SHORT_WAITS) as started:
        yield started


@pytest.fixture
def hub(deployment: Deployment) -> Iterator[Deployment]:
    """The processes, all of them running; what they said is shown when the test fails."""
    deployment.restore()
    with deployment.valkey.client() as client:
        client.delete("synchub:{ingest}:quarantine", "synchub:{ingest}:dead")
    yield deployment
    print(deployment.logs())  # noqa: T201 - pytest shows it with a failure


@pytest.fixture
def seed() -> int:
    """What everything random in the test follows from; set FAULT_SEED to repeat a failure."""
    return int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))
