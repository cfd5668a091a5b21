"""Faults that somebody must hear of: the shipped alerts, judged by Prometheus's own tool on what was told.

Only what real processes have answered on ``/metrics`` counts; see ``tests/support/alerting.py``. One fault
is tried here, all others by ``make campaign``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.faults.alert_faults import ALERT_FAULTS
from tests.faults.alert_trial import try_alerts
from tests.support.alerting import alerts_by_severity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.alert_trial import AlertFault

_log = logging.getLogger(__name__)
SHORT = [fault for fault in ALERT_FAULTS if fault.is_short]


def test_every_alert_has_a_fault_that_makes_it_heard() -> None:
    made = {alert for fault in ALERT_FAULTS for alert in fault.alerts}
    assert made == set(alerts_by_severity())


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.witness
@pytest.mark.xdist_group("alerts")
@pytest.mark.parametrize("fault", SHORT, ids=[fault.name for fault in SHORT])
async def test_a_fault_is_told_and_nothing_before_it(fault: AlertFault, seed: int, tmp_path: Path) -> None:
    _log.warning("seed %d", seed)
    report = await try_alerts(tmp_path, fault, seed=seed)
    assert report.broken == ()
