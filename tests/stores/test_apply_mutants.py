"""Every rule of the apply script is held by a scenario: break one, and a scenario tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apply_driver import ApplyDriver
from tests.support.mutants import MUTANTS, Mutant, killer_of
from tests.support.reference_model import ReferenceModel
from tests.support.scenarios import PARKED_MAX, SCENARIOS, Story, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tests.support.valkey import Valkey


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Redis]:
    valkey.flush()
    with valkey.client() as connected:
        yield connected


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_script_and_model_tell_a_scenario_alike(scenario: Callable[[Story], None], client: Redis) -> None:
    script = tell(scenario, ApplyDriver(client, "shipped", parked_max=PARKED_MAX))
    assert script == tell(scenario, ReferenceModel(parked_max=PARKED_MAX))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_rule_is_noticed(mutant: Mutant, client: Redis) -> None:
    assert killer_of(mutant, client), f"no scenario notices that {mutant.name}"


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
