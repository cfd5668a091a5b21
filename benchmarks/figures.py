"""Numbers and what is asked of them: percentiles, medians of runs, targets, the table.

A percentile is the nearest rank, never interpolated: every printed latency was really measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Verdict = Literal["ok", "MISS", "-"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The distribution of one run, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table.

    ``limit`` is what the value (or, with ``of_floor``, the ratio to the floor) must not pass;
    ``at_least`` turns the comparison round. Without a limit the row is information.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    limit: float | None = None
    of_floor: bool = False
    at_least: bool = False
    runs: tuple[float, ...] = ()
    notes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None without one."""
        return self.value / self.floor if self.floor else None

    @property
    def verdict(self) -> Verdict:
        """``MISS`` also when the ratio that is asked for could not be measured."""
        if self.limit is None:
            return "-"
        judged = self.ratio if self.of_floor else self.value
        if judged is None or math.isnan(judged):
            return "MISS"
        met = judged >= self.limit if self.at_least else judged <= self.limit
        return "ok" if met else "MISS"

    @property
    def target(self) -> str:
        """What is asked, as a person writes it."""
        if self.limit is None:
            return ""
        sign = ">=" if self.at_least else "<="
        unit = "x floor" if self.of_floor else self.unit
        return f"{sign} {self.limit:g} {unit}".rstrip()


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of an ascending sequence; NaN when there is nothing."""
    if not ordered:
        return math.nan
    rank = max(1, math.ceil(share * len(ordered)))
    return float(ordered[rank - 1])


def latency_of(samples_ns: Sequence[int]) -> Latency:
    """Summarise latencies given in nanoseconds, in any order."""
    ordered = sorted(samples_ns)
    p50, p95, p99, top = (percentile(ordered, share) / 1e6 for share in (0.5, 0.95, 0.99, 1.0))
    return Latency(count=len(ordered), p50_ms=p50, p95_ms=p95, p99_ms=p99, max_ms=top)


def median_run(values: Sequence[float]) -> float:
    """The median of several runs of one figure; NaN when there was none."""
    return median(values) if values else math.nan


def as_json(figure: Figure) -> dict[str, object]:
    """Return the row with its verdict, as ``--json`` prints it; what could not be measured is null."""
    return {
        "name": figure.name,
        "value": _finite(figure.value),
        "unit": figure.unit,
        "floor": _finite(figure.floor),
        "ratio": _finite(figure.ratio),
        "target": figure.target,
        "verdict": figure.verdict,
        "runs": [_finite(run) for run in figure.runs],
        "notes": dict(figure.notes),
    }


def table(figures: Sequence[Figure]) -> str:
    """Return the rows aligned under their headings, the notes under each row."""
    head = ("figure", "value", "floor", "ratio", "target", "")
    rows = [head, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [_line(head, widths), _line(tuple("-" * width for width in widths), widths)]
    for figure, row in zip(figures, rows[1:], strict=True):
        lines.append(_line(row, widths))
        if figure.notes:
            lines.append("    " + ", ".join(f"{name} {_text(value)}" for name, value in figure.notes.items()))
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
    floor = "" if figure.floor is None else f"{_text(figure.floor)} {figure.unit}"
    return figure.name, f"{_text(figure.value)} {figure.unit}", floor, ratio, figure.target, figure.verdict


def _line(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
