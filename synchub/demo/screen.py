"""What the demo shows: start-up steps, a sample of the changes, and how it is going."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.demo.model import Figures

LINES_AT_ONCE: Final = 2
"""Changes shown for one look; the others are counted."""

_MISHAPS: Final = ("duplicates", "rejected", "restarts")
_TRADE: Final = {
    "held": "holds",
    "committed": "committed",
    "released": "released",
    "expired": "expired",
    "sold": "units bought",
    "orders": "orders of the channels",
    "open_sales": "open sales",
}
_BOLD, _GREEN, _RED, _END = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Writes for a person; on standard error when standard output is for JSON."""

    def __init__(self, *, in_json: bool) -> None:
        self._stream = sys.stderr if in_json else sys.stdout
        self._has_colours = self._stream.isatty()
        self._shown: dict[str, int] = {}

    def say(self, sentence: str) -> None:
        """Write one sentence."""
        print(sentence, file=self._stream, flush=True)

    def step(self, sentence: str) -> None:
        """Write one step of the start."""
        self.say(f"  {self._in(_GREEN, '✓')} {sentence}")

    def changes(self, known: Mapping[str, int], changed: list[str]) -> None:
        """Show some of the SKUs that changed since the last look."""
        shown = 0
        for sku in dict.fromkeys(changed):
            before, now = self._shown.get(sku), known.get(sku)
            if now is None or before == now:
                continue
            self._shown[sku] = now
            if before is not None and shown < LINES_AT_ONCE:
                shown += 1
                arrow = self._in(_GREEN if now > before else _RED, f"{before:>4} → {now:<4}")
                self.say(f"    {sku}  {arrow}")

    def status(self, figures: Figures) -> None:
        """Write how it is going."""
        parts = [
            f"received {figures.received}",
            f"applied {figures.applied}",
            f"delivered {figures.delivered}",
            f"webhook → agent p50 {_ms(figures.webhook_to_agent_p50_ms)}",
            f"p99 {_ms(figures.webhook_to_agent_p99_ms)}",
        ]
        parts += [f"{name} {count}" for name in _MISHAPS if (count := getattr(figures, name))]
        self.say(self._in(_BOLD, "  " + " · ".join(parts)))
        trade = [f"{words} {getattr(figures, name)}" for name, words in _TRADE.items()]
        self.say("  " + " · ".join(trade))

    def ending(self, figures: Figures, *, was_cut_short: bool) -> None:
        """Write what it came to; cut short, nobody has waited for what was on its way."""
        self.status(figures)
        if figures.fetch_to_agent_measured:
            self.say(
                f"  {figures.fetch_to_agent_measured} rises had to be fetched before they were believed: "
                f"p50 {_ms(figures.fetch_to_agent_p50_ms)}, p99 {_ms(figures.fetch_to_agent_p99_ms)}."
            )
        for fault in figures.faults:
            noticed, over = _s(fault.detected_after_s), _s(fault.recovered_after_s)
            polled = f"{fault.polls} polls" if fault.polls else "not polled"
            self.say(
                f"  {fault.kind} of {fault.account}: noticed after {noticed}, {polled},"
                f" {fault.missing or 'nothing'} missing, well again {over} after its end."
            )
        if figures.settled:
            self.say(
                f"  {figures.settled} acknowledgements were lost: the order desk found those sales"
                " at the warehouse."
            )
        if was_cut_short:
            self.say(f"  Stopped while {figures.missing} SKUs were on their way.")
        elif figures.missing:
            self.say("  " + self._in(_RED, f"{figures.missing} SKUs or changes are missing."))
        else:
            self.say("  " + self._in(_GREEN, "Nothing is missing."))

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_END}" if self._has_colours else text


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _s(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
