"""Alerts speak of numbers that exist, each has its section in the handbook, and each is made to fire."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from synchub import metrics
from tests.support.source import ROOT

FOLDER: Final = ROOT / "config/prometheus"
HANDBOOK: Final = ROOT / "docs/operating.md"
_METRIC: Final = re.compile(r"(?P<name>\bsynchub_\w+)(?:\{(?P<selector>[^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED: Final = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")
_OF_SCRAPES: Final = {"instance", "job"}
_OF_HISTOGRAMS: Final = {"le"}


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


RULES: Final = _rules()


def exported() -> dict[str, set[str]]:
    """Every series that ``/metrics`` can have, with the labels it has."""
    series: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if not isinstance(metric, Counter | Gauge | Histogram):
            continue
        name, labels = metric._name, set(metric._labelnames)
        if isinstance(metric, Counter):
            series[f"{name}_total"] = labels
        elif isinstance(metric, Gauge):
            series[name] = labels
        else:
            series |= {f"{name}_bucket": labels | _OF_HISTOGRAMS}
            series |= {f"{name}_{part}": labels for part in ("count", "sum")}
    return series


def sections() -> set[str]:
    return set(re.findall(r"(?m)^### (Synchub\w+)$", HANDBOOK.read_text(encoding="utf-8")))


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert sorted(names) == sorted(set(names))
    assert all(name.startswith("Synchub") for name in names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_what_has_happened_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"


def test_every_alert_has_its_section_in_the_handbook_and_every_section_its_alert() -> None:
    assert sections() == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_only_for_numbers_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = exported()
    asked = [(match["name"], match["selector"] or "") for match in _METRIC.finditer(rule["expr"])]
    assert [name for name, _ in asked if name not in known] == []
    selected = {(name, label) for name, selector in asked for label in _LABEL.findall(selector)}
    assert {(name, label) for name, label in selected if label not in known[name]} == set()
    grouped = {label for found in _GROUPED.findall(rule["expr"]) for label in re.findall(r"\w+", found)}
    of_all = set().union(*(known[name] for name, _ in asked)) if asked else set()
    assert grouped <= of_all | _OF_SCRAPES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_made_to_fire_and_to_be_silent(rule: dict[str, Any]) -> None:
    """The files of examples are run by ``tests/witnesses/test_alert_examples.py``."""
    examples = [
        example
        for path in sorted((FOLDER / "tests").glob("*.yml"))
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for example in test["promql_expr_test"]
        if f'alertname="{rule["alert"]}"' in example["expr"]
    ]
    assert any(example["exp_samples"] for example in examples), "an example in which it fires"
    if rule["alert"] != "SynchubWatchdog":
        assert any(not example["exp_samples"] for example in examples), "an example in which it is silent"
