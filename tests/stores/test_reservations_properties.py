"""Whatever agents do with holds while levels come and time goes by: scripts and model decide alike."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.reference_answer import Role
from tests.support.reference_holds import Terms, Wish
from tests.support.reference_model import ReferenceModel
from tests.support.rows import push
from tests.support.sales_driver import SalesDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.reference_holds import Decision
    from tests.support.valkey import Valkey

START: Final = 1_000_000
STEPS: Final = 40
SKUS: Final = ("TEE", "MUG")
PLACES: Final = ("WH1", "WH2")


@pytest.fixture
def client(valkey: Valkey) -> Iterator[Redis]:
    valkey.flush()
    with valkey.client() as connected:
        yield connected


class World:
    """One merchant in two bodies, and chance."""

    def __init__(self, client: Redis, seed: int) -> None:
        self.chance = random.Random(seed)
        self.both: tuple[Any, Any] = (SalesDriver(client, f"m{seed}"), ReferenceModel())
        self.holds: list[tuple[str, str]] = []
        self.now = START
        self.cap = 12 if seed % 2 else None
        self._versions = itertools.count(1)
        role = Role(kind="A", rank=1, max_age=3000, own_items=True, own_places=True, ref=True)
        for each in self.both:
            each.set_role("wms", role)

    def step(self) -> None:
        """Let some time go by, do one thing, and compare everything."""
        self.now += self.chance.choice([0, 1, 20, 400, 1500])
        for each in self.both:
            each.pass_time(self.now)
        drawn = self.chance.random()
        if drawn < 0.25:
            self._report()
        elif drawn < 0.65 or not self.holds:
            self._hold()
        elif drawn < 0.95:
            self._change()
        for sku in SKUS:
            script, model = (each.answer(sku)._replace(ver=0, seq=0) for each in self.both)
            assert script == model
            assert self.both[0].open(sku) == self.both[1].open(sku)

    def _report(self) -> None:
        row = push(
            self.chance.randint(0, 8),
            version=next(self._versions),
            at=self.now,
            item=self.chance.choice(SKUS),
            location=self.chance.choice(PLACES),
            status=self.chance.choice("KKKKU"),
        )
        script, model = ([outcome for outcome, _ in each.apply([row], self.now)] for each in self.both)
        assert script == model

    def _hold(self) -> None:
        wish = Wish(
            self.chance.choice(SKUS), self.chance.randint(1, 4), self.chance.choice(["", "", *PLACES])
        )
        replaced = self.chance.choice(self.holds) if self.holds and self.chance.random() < 0.3 else ("", "")
        terms = self._terms()
        decisions = [
            each.grant([wish], self.now, terms=terms, ttl_ms=1000, replaces=name)
            for each, name in zip(self.both, replaced, strict=True)
        ]
        _agree(decisions)
        if decisions[0].first == "held":
            self.holds.append((decisions[0].hold, decisions[1].hold))

    def _terms(self) -> Terms:
        choice = self.chance.choice
        return Terms(
            buffer_units=choice([0, 0, 1]),
            allowance_bp=choice([0, 0, 5000]),
            channel_cap=self.cap,
            on_stale=choice(["answer", "assume_out", "assume_in"]),
            on_unknown=choice(["assume_out", "assume_in"]),
            split=choice([True, True, False]),
            confirm_ms=choice([0, 0, 1000]),
            conflict=choice(["honour", "void", "backorder"]),
        )

    def _change(self) -> None:
        names = self.chance.choice(self.holds)
        verb = self.chance.choice(["commit", "commit", "release", "renew"])
        rest = (2000,) if verb == "renew" else ()
        named = self._bought() if verb == "commit" else {}
        _agree(
            [
                getattr(each, verb)(name, *rest, self.now, **named)
                for each, name in zip(self.both, names, strict=True)
            ]
        )

    def _bought(self) -> dict[str, Any]:
        choice = self.chance.choice
        line = Wish(choice(SKUS), self.chance.randint(1, 3), choice(["", "", *PLACES]))
        return {"order": choice(["", f"o{self.now}"]), "lines": choice([(), (line,)])}


@pytest.mark.parametrize("part", range(4))
def test_scripts_and_model_decide_alike(client: Redis, part: int) -> None:
    for seed in range(part * 20, part * 20 + 20):
        world = World(client, seed)
        for _ in range(STEPS):
            world.step()


def _agree(decisions: list[Decision]) -> None:
    script, model = (one._replace(hold="") for one in decisions)
    assert script == model
