"""What alerts say of a fault run: real processes are scraped, Prometheus's own tool judges what they told.

A run takes seconds where an alert waits for minutes, so time is stretched: one scrape stands for an ordinary
scrape interval. Times among the numbers are stretched with it and counted from the beginning of the run, so
that an age is what it would have been; counters and everything else stay as they were told.
"""

from __future__ import annotations

import math
import re
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.source import ROOT
from tests.support.tools import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.processes import Deployment

RULES: Final = ROOT / "config/prometheus/alerts.yml"
SCRAPE_S: Final = 15
"""What one scrape stands for: the interval of the shipped configuration."""
MINUTE_S: Final = 60
"""What one may stand for where an alert waits for an hour; Prometheus's own default interval."""
_LEAD: Final = 240
"""Scrape intervals before the first scrape, because what is told may be older than the run."""
_JOB: Final = "synchub"
_TIMEOUT_S: Final = 2.0
_CHECKED_S: Final = 60
_NAMED: Final = re.compile(r'\{alertname="(\w+)"\}')
"""How the tool names what was heard although nothing was expected."""
_STALE: Final = "stale"
_MISSING: Final = "_"


@dataclass
class Scrapes:
    """Everything that was told, series by series."""

    folder: Path
    every_s: float
    stands_for_s: int = SCRAPE_S
    """What one scrape stands for."""
    began_s: float = field(default_factory=time.time)
    turns: int = 0
    values: dict[str, list[str]] = field(default_factory=dict)

    @property
    def stretch(self) -> float:
        """How many seconds one second of the run stands for."""
        return self.stands_for_s / self.every_s

    def take(self, instance: str, text: str | None) -> None:
        """Add what one process has told in the present turn; ``None``: it did not answer."""
        self._add("up", {}, instance, 0 if text is None else 1)
        if text is None:
            return
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in named_in_rules():
                    self._add(sample.name, sample.labels, instance, sample.value)

    def end_turn(self) -> None:
        """Mark what was told before and not in this turn as gone, as Prometheus does."""
        self.turns += 1
        for told in self.values.values():
            if len(told) < self.turns:
                told.append(_MISSING if told[-1] in {_STALE, _MISSING} else _STALE)

    def silent(self, alerts: Sequence[str], *, turns: int | None = None) -> list[str]:
        """Return those of these alerts that would not have been heard; ``turns``: in the first so many.

        Raises:
            AssertionError: the tool could not judge them.
        """
        turns = self.turns if turns is None else turns
        heard = self._heard(alerts, turns) if turns else set()
        return [alert for alert in alerts if alert not in heard]

    def _heard(self, alerts: Sequence[str], turns: int) -> set[str]:
        """The tool is told to expect that none was heard, and names those that were."""
        judged = self._judge(alerts, turns)
        told = judged.stdout + judged.stderr
        heard = set(_NAMED.findall(told))
        assert (judged.returncode != 0) == bool(heard), told
        return heard

    def _add(self, name: str, labels: Mapping[str, str], instance: str, value: float) -> None:
        series = _series(name, {**labels, "instance": instance, "job": _JOB})
        told = self.values.setdefault(series, [])
        told += [_MISSING] * (self.turns - len(told))
        told.append(_written(self._stretched(name, value)))

    def _stretched(self, name: str, value: float) -> float:
        if name.endswith("_timestamp_seconds") and value > 0:
            return max(1.0, _LEAD * self.stands_for_s + (value - self.began_s) * self.stretch)
        return value * self.stretch if name.endswith("_age_seconds") else value

    def _judge(self, alerts: Sequence[str], turns: int) -> subprocess.CompletedProcess[str]:
        every_s = self.stands_for_s
        end_s = (_LEAD + turns - 1) * every_s
        names = "|".join(alerts)
        firing = f'ALERTS{{alertname=~"{names}",alertstate="firing"}}'
        silent = {
            "expr": f"count by (alertname) (count_over_time({firing}[{turns * every_s - 1}s]))",
            "eval_time": f"{end_s}s",
            "exp_samples": [],
        }
        series = [
            {"series": one, "values": " ".join([f"_x{_LEAD}", *told[:turns]])}
            for one, told in sorted(self.values.items())
        ]
        document = {
            "rule_files": [str(RULES)],
            "evaluation_interval": f"{every_s}s",
            "tests": [{"interval": f"{every_s}s", "input_series": series, "promql_expr_test": [silent]}],
        }
        file = self.folder / f"alerts-{self.every_s}.yml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        return subprocess.run(
            [str(need_tool("promtool")), "test", "rules", str(file)],
            capture_output=True,
            text=True,
            timeout=_CHECKED_S,
            check=False,
        )


@contextmanager
def scraping(
    deployment: Deployment, folder: Path, *, every_s: float = 0.25, stands_for_s: int = SCRAPE_S
) -> Iterator[Scrapes]:
    """Scrape all processes of a deployment again and again while the block runs."""
    need_tool("promtool")
    scrapes = Scrapes(folder=folder, every_s=every_s, stands_for_s=stands_for_s)
    ending = threading.Event()
    ports = {f"{name}:{process.port}": process.port for name, process in deployment.processes.items()}
    thread = threading.Thread(target=_scrape, args=(scrapes, ports, ending), name="scrape")
    thread.start()
    try:
        yield scrapes
    finally:
        ending.set()
        thread.join()


@cache
def alerts_by_severity() -> dict[str, str]:
    """Every shipped alert and how urgent it is."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules}


@cache
def named_in_rules() -> frozenset[str]:
    """The metrics that rules look at; others need not be kept."""
    return frozenset(re.findall(r"\bsynchub_[a-z0-9_]+", RULES.read_text(encoding="utf-8")))


def _scrape(scrapes: Scrapes, ports: Mapping[str, int], ending: threading.Event) -> None:
    due_s = time.monotonic()
    while not ending.is_set():
        for instance, port in ports.items():
            scrapes.take(instance, _page(port))
        scrapes.end_turn()
        due_s += scrapes.every_s
        ending.wait(max(0.0, due_s - time.monotonic()))


def _page(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def _series(name: str, labels: Mapping[str, str]) -> str:
    told = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels.items()))
    return f"{name}{{{told}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _written(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return repr(float(value))
