"""What a reader asks for, read from the parameters of its address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, PayloadRefused
from synchub.feed.model import Filter, Mode
from synchub.web.terms import channel_of

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from multidict import MultiMapping

    from synchub.feed.model import FeedQuery
    from synchub.feed.operations import Feed

FILTER_PARAMETERS: Final = frozenset({"sku", "prefix", "set", "mode", "bound_ms"})
"""What says which changes are told and how; the same for every rendering of the feed."""
_DIGITS_MAX: Final = 9
_CURSOR_MAX: Final = 2000


class Follows(Protocol):
    """Whose connection it is; the key tells all of it."""

    @property
    def merchant(self) -> str:
        """The merchant whose stock the agent may follow."""

    @property
    def name(self) -> str:
        """The agent."""

    @property
    def tier(self) -> str:
        """What kind of agent it is."""

    @property
    def channels(self) -> frozenset[str]:
        """Channels it may ask for; empty: any."""


class QueryReader:
    """Checks parameters and grants what they ask for."""

    def __init__(self, feed: Feed, *, skus_max: int) -> None:
        self._feed = feed
        self._skus_max = skus_max

    def read(
        self, params: MultiMapping[str], agent: Follows, *, cursor: str, others: AbstractSet[str]
    ) -> FeedQuery:
        """Return the query; ``others`` are parameters that are read elsewhere.

        Raises:
            InvalidRequest: a parameter that does not fit, or is not known.
        """
        known = FILTER_PARAMETERS | others
        unknown = sorted(set(params) - known)
        if unknown:
            msg = f"This address takes {', '.join(sorted(known))}, not {', '.join(unknown)[:100]}."
            raise InvalidRequest(msg)
        return self._feed.query(
            self._filter(params),
            bound_ms=number(params, "bound_ms"),
            cursor=cursor[:_CURSOR_MAX],
            tier=agent.tier,
            channel=channel_of(agent.channels, None),
            mode=_mode(params),
        )

    def _filter(self, params: MultiMapping[str]) -> Filter:
        skus = [_name(sku, "sku") for sku in params.getall("sku", [])]
        prefix = params.get("prefix", "")
        if len(skus) > self._skus_max:
            msg = f"A feed may name at most {self._skus_max} SKUs."
            raise InvalidRequest(msg)
        set_id = params.get("set", "")
        if bool(skus) + bool(prefix) + bool(set_id) > 1:
            msg = "Name SKUs, a prefix or a set, and only one of them."
            raise InvalidRequest(msg)
        return Filter(
            skus=frozenset(skus),
            prefix=_name(prefix, "prefix") if prefix else "",
            set_id=_name(set_id, "set") if set_id else "",
        )


def number(params: MultiMapping[str], name: str) -> int | None:
    """Return a parameter that is a whole number; None when it is not there.

    Raises:
        InvalidRequest: it is something else.
    """
    text = params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        msg = f"{name} must be a whole number."
        raise InvalidRequest(msg)
    return int(text)


def _mode(params: MultiMapping[str]) -> Mode:
    text = params.get("mode", Mode.UPD)
    if text not in set(Mode):
        msg = f"mode must be {' or '.join(Mode)}."
        raise InvalidRequest(msg)
    return Mode(text)


def _name(value: str, what: str) -> str:
    try:
        return identifier(value, what)
    except PayloadRefused as problem:
        raise InvalidRequest(problem.detail) from None
