"""Events as a person writes them down, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, cast

from synchub.connector_kit.events import (
    Ack,
    Catalogue,
    CatalogueStatus,
    Delta,
    Heartbeat,
    Incoming,
    Level,
    LevelStatus,
    OrderLine,
    OrderStatus,
    Scale,
    StockEvent,
    Tickle,
    Version,
)
from synchub.connector_kit.testing.files import Shortcoming

KINDS: Final[Mapping[str, type[Any]]] = {
    "level": Level,
    "delta": Delta,
    "tickle": Tickle,
    "order_line": OrderLine,
    "ack": Ack,
    "catalogue": Catalogue,
    "heartbeat": Heartbeat,
}

_STATUSES: Final[Mapping[str, type[Enum]]] = {
    "level": LevelStatus,
    "order_line": OrderStatus,
    "catalogue": CatalogueStatus,
}


def kind_of(event: StockEvent) -> str:
    """Return the name under which manifests and expectations speak of an event."""
    return next(kind for kind, shape in KINDS.items() if isinstance(event, shape))


def event_from(row: Mapping[str, Any], where: str) -> StockEvent:
    """Return the event that a row of an expectation describes.

    Raises:
        Shortcoming: an unknown kind or field, or one that is missing.
    """
    fields = dict(row)
    kind = fields.pop("kind", "")
    try:
        return cast("StockEvent", KINDS[kind](**_typed(kind, fields)))
    except (KeyError, TypeError, ValueError) as problem:
        msg = f"{where} holds no event of events.py: {problem}."
        raise Shortcoming(msg) from problem


def check_types(event: StockEvent | Version | Incoming, where: str) -> None:
    """Raise when a field holds a value that only looks right, such as ``True`` for 1.

    Raises:
        Shortcoming: names the field.
    """
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Version | Incoming):
                check_types(part, where)
            elif not (part is None or isinstance(part, Enum) or _is_allowed(part, str(field.type))):
                msg = f"{where}: {field.name} is a {type(part).__name__}, not {field.type}."
                raise Shortcoming(msg)


def _is_allowed(value: object, annotation: str) -> bool:
    return type(value).__name__ in {"int", "str", "bool"} and type(value).__name__ in annotation


def _typed(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    if "status" in fields and fields["status"] is not None:
        fields["status"] = _STATUSES[kind](fields["status"])
    if fields.get("version") is not None:
        version = fields["version"]
        fields["version"] = Version(**{**version, "scale": Scale(version["scale"])})
    for name in ("substitutes", "references"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    if fields.get("incoming") is not None:
        fields["incoming"] = tuple(Incoming(**arrival) for arrival in fields["incoming"])
    return fields
