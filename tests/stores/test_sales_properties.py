"""What must hold for any sequence of reports, orders, acknowledgements and holds: script against model."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.reference_model import ReferenceModel
from tests.support.sales_driver import SalesDriver
from tests.support.sales_strategies import (
    SELLERS,
    SKUS,
    STORES,
    ack_rows,
    level_rows,
    order_rows,
    seller_roles,
    store_roles,
    terms,
    wishes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tests.support.reference_answer import Role
    from tests.support.reference_holds import Decision, Terms, Wish
    from tests.support.rows import Row
    from tests.support.valkey import Valkey

START: Final = 1_000_000
STEPS_MS: Final = (0, 1, 20, 400, 2001)
SEARCH: Final = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_merchants = count(1)


@pytest.fixture(scope="module")
def client(valkey: Valkey) -> Iterator[Redis]:
    with valkey.client() as connected:
        yield connected


class SalesMachine(RuleBasedStateMachine):
    """One merchant in two bodies: the scripts' and the model's."""

    client: ClassVar[Redis]

    def __init__(self) -> None:
        super().__init__()
        self.script = SalesDriver(self.client, f"sales-{next(_merchants)}")
        self.model = ReferenceModel()
        self.now = START
        self.history: list[Row] = []
        self.holds: list[tuple[str, str]] = []
        """Each hold under the script's name and under the model's."""

    @initialize(
        stores=st.fixed_dictionaries(dict.fromkeys(STORES, store_roles)),
        sellers=st.fixed_dictionaries(dict.fromkeys(SELLERS, seller_roles)),
        lags=st.dictionaries(
            st.tuples(st.sampled_from(STORES), st.sampled_from([*SELLERS, "*"])),
            st.sampled_from([0, 100]),
            max_size=2,
        ),
    )
    def connect(
        self, stores: dict[str, Role], sellers: dict[str, Role], lags: dict[tuple[str, str], int]
    ) -> None:
        for account, role in {**stores, **sellers}.items():
            self.script.set_role(account, role)
            self.model.set_role(account, role)
        for (account, origin), lag in lags.items():
            self.script.set_lag(account, origin, lag)
            self.model.set_lag(account, origin, lag)

    @rule(data=st.data(), kind=st.sampled_from([level_rows, order_rows, ack_rows]))
    def something_arrives(self, data: st.DataObject, kind: Callable[[int], st.SearchStrategy[Row]]) -> None:
        batch = data.draw(st.lists(kind(self.now), min_size=1, max_size=3))
        self._apply(batch)
        self.history += batch

    @rule(data=st.data())
    def deliveries_repeat(self, data: st.DataObject) -> None:
        if self.history:
            self._apply(data.draw(st.lists(st.sampled_from(self.history), min_size=1, max_size=3)))

    @rule(step=st.sampled_from(STEPS_MS))
    def time_passes(self, step: int) -> None:
        self.now += step
        self.script.pass_time(self.now)
        self.model.pass_time(self.now)

    @rule(wanted=wishes, bound=terms, ttl_ms=st.sampled_from([1000, 3000]))
    def an_agent_holds(self, wanted: list[Wish], bound: Terms, ttl_ms: int) -> None:
        told = [
            each.grant(wanted, self.now, terms=bound, ttl_ms=ttl_ms) for each in (self.script, self.model)
        ]
        self._agree(told)
        if all(each.first == "held" for each in told):
            self.holds.append((told[0].hold, told[1].hold))

    @rule(
        data=st.data(),
        verb=st.sampled_from(["commit", "release", "renew"]),
        order=st.sampled_from(["", "1001"]),
    )
    def an_agent_decides(self, data: st.DataObject, verb: str, order: str) -> None:
        if not self.holds:
            return
        names = data.draw(st.sampled_from(self.holds))
        rest: tuple[object, ...] = (2000,) if verb == "renew" else ()
        named = {"order": order} if verb == "commit" else {}
        self._agree(
            [
                getattr(each, verb)(name, *rest, self.now, **named)
                for each, name in zip((self.script, self.model), names, strict=True)
            ]
        )

    @rule(data=st.data(), is_order=st.booleans())
    def a_hold_is_named(self, data: st.DataObject, *, is_order: bool) -> None:
        if not self.holds:
            return
        names = data.draw(st.sampled_from(self.holds))
        row = data.draw((order_rows if is_order else ack_rows)(self.now))
        self.script.apply([(*row[:15], names[0])], self.now)
        self.model.apply([(*row[:15], names[1])], self.now)

    @invariant()
    def script_and_model_agree(self) -> None:
        for sku in SKUS:
            script, model = _seen(self.script, sku), _seen(self.model, sku)
            assert script == model, f"{sku}\n  script {script}\n  model  {model}"

    def _apply(self, batch: list[Row]) -> None:
        script, model = (
            [outcome for outcome, _ in each.apply(batch, self.now)] for each in (self.script, self.model)
        )
        assert script == model, "outcomes of script and model"

    def _agree(self, told: list[Decision]) -> None:
        script, model = (each._replace(hold="") for each in told)
        assert script == model, f"decisions of script and model: {told}"


def _seen(hub: SalesDriver | ReferenceModel, sku: str) -> tuple[object, ...]:
    answer = hub.answer(sku)
    included = {name: source.included for name, source in hub.sources(sku).items()}
    return answer._replace(ver=0, seq=0), hub.open(sku), included


def test_script_and_model_never_part(client: Redis) -> None:
    SalesMachine.client = client
    run_state_machine_as_test(SalesMachine, settings=SEARCH)
