"""Processes that crash or hang under 200 deliveries a second: nothing accepted is lost or counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.acts import fault
from tests.faults.trial import SHORT, try_out

if TYPE_CHECKING:
    from tests.support.processes import Deployment

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("kills")]

NAMES = (
    "api-killed",
    "worker-killed",
    "workers-gone",
    "store-killed",
    "everything-killed",
    "api-frozen",
    "worker-frozen",
    "restarted-in-turn",
)


@pytest.mark.parametrize("name", NAMES)
async def test_every_accepted_delivery_has_its_effect_once(hub: Deployment, name: str, seed: int) -> None:
    report = await try_out(hub, fault(name), SHORT, seed=seed)
    assert report.broken == [], "\n".join([*report.broken, str(report)])
