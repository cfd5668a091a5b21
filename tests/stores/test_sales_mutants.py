"""Every rule of sales, holds and time is held by an example: break one, and its example says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores import test_hold_examples, test_place_examples, test_sales_examples
from tests.support.sales_examples import connected
from tests.support.sales_mutants import MUTANTS, SalesMutant, killer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tests.support.sales_driver import SalesDriver
    from tests.support.valkey import Valkey


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Redis]:
    valkey.flush()
    with valkey.client() as connected:
        yield connected


def example_of(mutant: SalesMutant) -> Callable[[SalesDriver], None]:
    """The example that must notice it, on a merchant as the examples have it."""
    modules = (test_sales_examples, test_place_examples, test_hold_examples)
    (example,) = (found for module in modules if (found := getattr(module, f"test_{mutant.killer}", None)))
    return lambda driver: example(connected(driver))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_rule_is_noticed(mutant: SalesMutant, client: Redis) -> None:
    assert killer_of(mutant, client, example_of(mutant)), (
        f"{mutant.killer} does not notice that {mutant.name}"
    )
