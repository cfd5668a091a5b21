"""A fault, and the alerts that somebody must hear because of it: judged on what real processes told.

Before the fault comes, neither these nor any other that wakes somebody may be heard.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.alerting import SCRAPE_S, alerts_by_severity, scraping
from tests.support.processes import Deployment
from tests.support.topology import TOPOLOGY
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.alerting import Scrapes

EVERY_S: Final = 0.1
SETTINGS: Final = {
    "INGRESS__CLAIM_IDLE_MS": "200",
    "INGRESS__CLAIM_EVERY_MS": "100",
    "REDIS__COMMAND_TIMEOUT_MS": "500",
    "AUTHORITY__AFTER_MS": "500",
    # Platforms lie on this machine, and are asked twice a second whether they send to us.
    "SERVER__PUBLIC_URL": "{url}",
    "UPSTREAM__PRIVATE_TARGETS": "127.0.0.0/8",
    "UPSTREAM__BREAKER_CALLS_MIN": "2",
    "UPSTREAM__BREAKER_OPEN_MS": "300",
    "HOOK_GUARD__CHECK_EVERY_MS": "500",
    "HOOK_GUARD__REPAIRS_MAX": "0",
}
ALWAYS: Final = frozenset({"SynchubWatchdog"})
RENEWED_SLOWLY: Final = frozenset({"SynchubNobodyJudges", "SynchubCanaryLate"})
"""What they speak of is told every five seconds, which looks old where time runs faster than this."""
STRETCH_MAX: Final = 25.0


@dataclass
class Scene:
    """A running hub, and everything that it has told."""

    hub: Deployment
    folder: Path
    chance: random.Random
    told: list[Scrapes] = field(default_factory=list)
    struck: dict[int, int] = field(default_factory=dict)
    """For each of these, when the fault came."""

    @contextlib.contextmanager
    def scraped(self, *, every_s: float = EVERY_S, stands_for_s: int = SCRAPE_S) -> Iterator[Scrapes]:
        """Note what all processes tell while the block runs."""
        with scraping(self.hub, self.folder, every_s=every_s, stands_for_s=stands_for_s) as scrapes:
            self.told.append(scrapes)
            yield scrapes

    def strikes(self) -> None:
        """Say that the fault comes now: until here nothing may have been heard."""
        self.struck = {number: scrapes.turns for number, scrapes in enumerate(self.told)}

    def heard(self, alerts: Sequence[str]) -> set[str]:
        """Those of these alerts that were heard."""
        return {alert for scrapes in self.told for alert in set(alerts) - set(scrapes.silent(alerts))}

    def heard_too_soon(self, alerts: Sequence[str]) -> set[str]:
        """Those that were heard before the fault came, and all others then that wake somebody."""
        pages = {alert for alert, severity in alerts_by_severity().items() if severity == "page"}
        heard: set[str] = set()
        for number, scrapes in enumerate(self.told):
            asked = {*alerts, *pages} - (RENEWED_SLOWLY if scrapes.stretch > STRETCH_MAX else set()) - ALWAYS
            heard |= asked - set(scrapes.silent(sorted(asked), turns=self.struck.get(number, 0)))
        return heard


@dataclass(frozen=True, kw_only=True)
class AlertFault:
    """A fault, and who must be heard because of it."""

    name: str
    alerts: tuple[str, ...]
    act: Callable[[Scene], Awaitable[None]]
    settings: Mapping[str, str] = field(default_factory=dict)
    worker: Sequence[str] = TOPOLOGY["worker"].argv
    is_short: bool = False
    """Part of the suite; all are part of the campaign."""


@dataclass(frozen=True, kw_only=True)
class AlertReport:
    """What came out of one fault."""

    fault: str
    heard: Mapping[str, bool]
    too_soon: tuple[str, ...]
    """What was heard before the fault."""
    seconds: float

    @property
    def broken(self) -> tuple[str, ...]:
        """What was not as promised."""
        missed = [f"{alert} was not heard" for alert, was_heard in self.heard.items() if not was_heard]
        return (*missed, *[f"{alert} was heard before the fault" for alert in self.too_soon])


async def try_alerts(folder: Path, fault: AlertFault, *, seed: int) -> AlertReport:
    """Do harm to a hub of its own and judge what was told."""
    began = time.monotonic()
    settings = {name: value.format(folder=folder) if "{folder}" in value else value
                for name, value in {**SETTINGS, **fault.settings}.items()}  # fmt: skip
    hub = Deployment(folder / "hub", settings=settings, worker=fault.worker)
    scene = Scene(hub=hub, folder=folder, chance=random.Random(seed))
    with hub:
        try:
            await fault.act(scene)
        except BaseException:
            print(hub.logs())  # noqa: T201 - pytest shows it with a failure
            raise
    heard = scene.heard(fault.alerts)
    return AlertReport(
        fault=fault.name,
        heard={alert: alert in heard for alert in fault.alerts},
        too_soon=tuple(sorted(scene.heard_too_soon(fault.alerts))),
        seconds=time.monotonic() - began,
    )


async def until(scrapes: Scrapes, minutes: float) -> None:
    """Let so much time pass as the alerts see it."""
    turns = scrapes.turns + minutes * 60 / scrapes.stands_for_s
    await eventually(lambda: scrapes.turns >= turns, within_s=90, what="scrapes")
