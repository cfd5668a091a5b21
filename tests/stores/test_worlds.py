"""Whole worlds whose truth is known: never more than is sure, and exact when everything has arrived."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.reference_model import ReferenceModel
from tests.support.sales_driver import SalesDriver
from tests.support.worlds import WORLDS

if TYPE_CHECKING:
    from tests.support.valkey import Valkey
    from tests.support.world import World

SEEDS_OF_THE_MODEL: Final = 30
SEEDS_OF_THE_SCRIPT: Final = 8
STEPS: Final = 40

_merchants = count(1)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_the_rules_are_safe_and_end_exact(world: type[World]) -> None:
    for seed in range(SEEDS_OF_THE_MODEL):
        world(ReferenceModel(), seed).run(STEPS)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_the_scripts_are_safe_and_end_exact(world: type[World], valkey: Valkey) -> None:
    with valkey.client() as client:
        for seed in range(SEEDS_OF_THE_SCRIPT):
            world(SalesDriver(client, f"world-{next(_merchants)}"), seed).run(STEPS)
