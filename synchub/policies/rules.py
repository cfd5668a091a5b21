"""Which terms hold for one SKU, tier and channel.

Field by field the most specific rule that sets it counts: one that names the SKU before one whose
pattern fits before one about all SKUs; among those, one for the tier before one for all; then one for
the channel before one for all; then the later one. What no rule sets is a default.

Rules are sorted once per version; after that a resolution is two look-ups, and the first one for a SKU
is a match against every pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from synchub.policies.model import Takeover, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synchub.policies.model import General, Policies, Rule

REMEMBERED_MAX: Final = 65_536
"""SKUs whose rules are remembered per version; when there are more, remembering begins anew."""

_ANY, _FITTING, _NAMED = 0, 1, 2
_ANY_RUN: Final = "*"
_ANY_ONE: Final = "?"
_WILDCARDS: Final = frozenset({_ANY_RUN, _ANY_ONE})
_TOKEN: Final = re.compile(r"\\[*?\\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Group:
    """SKUs that the same rules are about."""

    rules: tuple[Rule, ...]
    """Least specific first."""
    terms: dict[tuple[str | None, str | None], Terms]
    """By tier and channel, as far as asked for."""


class Compiled:
    """One version of a merchant's policies, made ready to be asked."""

    def __init__(self, policies: Policies, *, low_threshold: int) -> None:
        self.version = policies.version
        self.general: General = policies.general
        self._defaults = Terms(version=policies.version, low_threshold=low_threshold)
        self._rules = policies.rules
        self._naming: dict[str, list[int]] = {}
        self._patterns: list[tuple[re.Pattern[str], list[int]]] = []
        self._about_all = [number for number, rule in enumerate(self._rules) if not rule.scope.skus]
        self._tiers = frozenset(rule.scope.tier for rule in self._rules)
        self._channels = frozenset(rule.scope.channel for rule in self._rules)
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._group_of: dict[str, _Group] = {}
        self._sort()

    @property
    def takeover(self) -> Takeover:
        """How a source stands in for a stale one, for all of the merchant's stock."""
        return self.terms("", None, None).takeover

    def terms(self, sku: str, tier: str | None, channel: str | None) -> Terms:
        """Return what the rules make of the defaults (see :func:`resolve`)."""
        group = self._group_of.get(sku) or self._group(sku)
        # A tier or channel that no rule names is like none, so that made-up ones fill no memory.
        asker = (tier if tier in self._tiers else None, channel if channel in self._channels else None)
        found = group.terms.get(asker)
        if found is None:
            found = group.terms[asker] = _applied(self._defaults, group.rules, *asker)
        return found

    def _sort(self) -> None:
        fitting: dict[str, list[int]] = {}
        for number, rule in enumerate(self._rules):
            for text in rule.scope.skus:
                if is_pattern(text):
                    fitting.setdefault(text, []).append(number)
                else:
                    self._naming.setdefault(unescaped(text), []).append(number)
        self._patterns = [(regex_of(text), numbers) for text, numbers in fitting.items()]

    def _group(self, sku: str) -> _Group:
        if len(self._group_of) >= REMEMBERED_MAX:
            self._group_of.clear()
            self._groups.clear()
        numbers = self._matched(sku)
        group = self._groups.get(numbers)
        if group is None:
            rules = tuple(self._rules[number] for number in numbers)
            group = self._groups[numbers] = _Group(rules=rules, terms={})
        self._group_of[sku] = group
        return group

    def _matched(self, sku: str) -> tuple[int, ...]:
        ranks = dict.fromkeys(self._about_all, _ANY)
        for pattern, numbers in self._patterns:
            if pattern.fullmatch(sku):
                ranks.update(dict.fromkeys(numbers, _FITTING))
        ranks.update(dict.fromkeys(self._naming.get(sku, ()), _NAMED))
        return tuple(sorted(ranks, key=lambda number: self._order(number, ranks[number])))

    def _order(self, number: int, sku_rank: int) -> tuple[int, bool, bool, int]:
        scope = self._rules[number].scope
        return (sku_rank, scope.tier is not None, scope.channel is not None, number)


def resolve(policies: Compiled, sku: str, tier: str | None, channel: str | None) -> Terms:
    """Return the terms for a SKU as an asker of this tier and channel has them."""
    return policies.terms(sku, tier, channel)


def is_pattern(text: str) -> bool:
    """Say whether the text has a wildcard: a ``*`` or ``?`` without a backslash before it."""
    return any(token in _WILDCARDS for token in _tokens(text))


def unescaped(text: str) -> str:
    """Return the SKU that a text without wildcards names."""
    return "".join(token[-1] for token in _tokens(text))


def regex_of(pattern: str) -> re.Pattern[str]:
    """Return what fits the pattern.

    Each run of characters takes as little as it can and is never given a second try, so that no
    pattern takes longer than its length times the SKU's.
    """
    first, *runs = ["".join(map(_character, run)) for run in _runs(_tokens(pattern))]
    if not runs:
        return re.compile(first, re.DOTALL)
    inner = "".join(f"(?>.*?{run})" for run in runs[:-1])
    # The last run has to reach the end, wherever an earlier one like it may stand.
    return re.compile(f"{first}{inner}.*{runs[-1]}", re.DOTALL)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _runs(tokens: Iterable[str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for token in tokens:
        if token == _ANY_RUN:
            runs.append([])
        else:
            runs[-1].append(token)
    return runs


def _character(token: str) -> str:
    return "." if token == _ANY_ONE else re.escape(token[-1])


def _applied(terms: Terms, rules: Iterable[Rule], tier: str | None, channel: str | None) -> Terms:
    changes: dict[str, object] = {}
    for rule in rules:
        if rule.scope.tier in {None, tier} and rule.scope.channel in {None, channel}:
            changes.update(rule.changes)
    return replace(terms, **changes) if changes else terms  # type: ignore[arg-type]  # checked where they were read
