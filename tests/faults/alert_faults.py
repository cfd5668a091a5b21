"""Every alert, by the fault that makes it heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.faults import alert_deliveries, alert_platforms, alert_store

if TYPE_CHECKING:
    from tests.faults.alert_trial import AlertFault

ALERT_FAULTS: Final[tuple[AlertFault, ...]] = (
    *alert_deliveries.FAULTS,
    *alert_platforms.FAULTS,
    *alert_store.FAULTS,
)
