"""From the rows of an answer to records. Pure: equal rows give equal records.

One row that cannot be used is left out with a sentence and stops no other; when none can be
used, the settings do not fit the endpoint, and the whole answer is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from connectors.http_json.paths import MISSING, look_up
from connectors.http_json.settings import CursorKind, TimeForm
from synchub.connector_kit.contract import Record
from synchub.connector_kit.events import Level, LevelStatus, Scale, Version
from synchub.connector_kit.payloads import identifier, quantity, resolution_us, sequence, time_us
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from connectors.http_json.settings import EndpointSettings

ROWS_MAX: Final = 50_000
"""Rows of one answer."""

_UNITS_US: Final = {TimeForm.UNIX_S: 1_000_000, TimeForm.UNIX_MS: 1000}
_LATEST_US: Final = 253_402_300_799_000_000
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of an answer that can be used."""

    level: Level
    position: int | None
    """Its time or number, by which the next page or poll begins."""
    tie: str
    """What tells it from others of the same time."""
    changed_at_us: int | None

    @property
    def place(self) -> str:
        """Its place among the rows of an answer, whatever their order there."""
        named = [self.level.item, self.level.location, f"{self.position or 0:020d}"]
        return json.dumps(named, ensure_ascii=False)

    @property
    def record(self) -> Record:
        """What the row says, for the hub."""
        version, level = self.level.version, self.level
        order = (version.scale.value, version.number) if version else ()
        named = json.dumps([level.item, level.location, level.quantity, *order], ensure_ascii=False)
        key = hashlib.sha256(named.encode()).hexdigest()[:40]
        return Record(key=key, events=(level,), changed_at_us=self.changed_at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What an answer's rows say."""

    count: int
    """Rows in the answer, usable or not."""
    usable: tuple[Row, ...]
    """The newest of each item at each location, in the order of the answer."""
    refused: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Equal for answers with the same rows in the same order."""
        told = "\n".join(row.record.key for row in self.usable)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def rows_of(answer: object, settings: EndpointSettings) -> Rows:
    """Return the rows of a whole answer.

    Raises:
        PayloadRefused: there is no list where ``items_path`` says, it is too long, or none of
            its rows can be used.
    """
    found = _listed(look_up(answer, settings.paths["items_path"]))
    read = [_read(place, row, settings) for place, row in enumerate(found, 1)]
    usable = [row for row in read if isinstance(row, Row)]
    refused = [sentence for sentence in read if isinstance(sentence, str)]
    contradicted = _contradicted(usable)
    refused += [f"{item} at {place} has rows that contradict each other." for item, place in contradicted]
    agreed = tuple(row for row in usable if (row.level.item, row.level.location) not in contradicted)
    if found and not agreed:
        msg = f"none of its rows can be used: {refused[0]}"
        raise PayloadRefused(msg)
    return Rows(count=len(found), usable=_newest(agreed), refused=tuple(refused))


def written_time(at_us: int, form: TimeForm) -> str:
    """Return a time as the endpoint writes it; finer digits are cut off, so it is never too late."""
    at_us = min(at_us, _LATEST_US)
    if form is not TimeForm.RFC3339:
        return str(at_us // _UNITS_US[form])
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def _listed(found: object) -> Sequence[object]:
    if isinstance(found, dict):
        # {"TEE-1": 5} is a table too: what stands before the colon is its key.
        found = [{"key": key, "value": value} for key, value in found.items()]
    if not isinstance(found, list):
        msg = "there is no list where items_path says."
        raise PayloadRefused(msg)
    if len(found) > ROWS_MAX:
        msg = f"it has more than {ROWS_MAX} rows; let it answer in pages."
        raise PayloadRefused(msg)
    return found


def _read(place: int, row: object, settings: EndpointSettings) -> Row | str:
    try:
        return _row(row, settings)
    except PayloadRefused as problem:
        return f"Row {place}{_sku_of(row, settings)}: {problem.detail}"


def _row(row: object, settings: EndpointSettings) -> Row:
    item = identifier(_field(row, "sku_path", settings), settings.texts["sku_path"])
    location = settings.location or identifier(
        _field(row, "location_path", settings), settings.texts["location_path"]
    )
    counted = _field(row, "quantity_path", settings)
    number = None if counted is None else quantity(counted, settings.texts["quantity_path"])
    changed_at_us, resolution = _time(row, settings)
    own = (
        sequence(_field(row, "sequence_path", settings), settings.texts["sequence_path"])
        if ("sequence_path" in settings.paths)
        else None
    )
    level = Level(
        item=item,
        location=location,
        quantity=number,
        status=LevelStatus.UNKNOWN if number is None else LevelStatus.KNOWN,
        version=_version(own, changed_at_us, resolution),
        source_time_us=changed_at_us,
    )
    position = own if settings.kind is CursorKind.EVENT_ID else changed_at_us
    return Row(level=level, position=position, tie=_tie(row, item, settings), changed_at_us=changed_at_us)


def _field(row: object, name: str, settings: EndpointSettings) -> object:
    found = look_up(row, settings.paths[name])
    if found is MISSING:
        msg = f"there is no {settings.texts[name]}."
        raise PayloadRefused(msg)
    return found


def _time(row: object, settings: EndpointSettings) -> tuple[int | None, int]:
    if "updated_path" not in settings.paths:
        return None, 0
    value, what = _field(row, "updated_path", settings), settings.texts["updated_path"]
    if settings.time_form is TimeForm.RFC3339:
        return time_us(value, what), resolution_us(str(value))
    unit = _UNITS_US[settings.time_form]
    at_us = sequence(value, what) * unit
    if at_us > _LATEST_US:
        msg = f"{what} is not a time before the year 10000."
        raise PayloadRefused(msg)
    return at_us, unit


def _version(own: int | None, changed_at_us: int | None, resolution: int) -> Version | None:
    if own is not None:
        return Version(scale=Scale.SEQUENCE, number=own)
    if changed_at_us is None:
        return None
    return Version(scale=Scale.TIME, number=changed_at_us, resolution=resolution)


def _tie(row: object, item: str, settings: EndpointSettings) -> str:
    if not settings.tie_param or "id_path" not in settings.paths:
        return item
    return identifier(_field(row, "id_path", settings), settings.texts["id_path"])


def _contradicted(rows: Sequence[Row]) -> dict[tuple[str, str], None]:
    """Return the items and locations with several numbers at once, such as one for each shelf."""
    told: dict[tuple[object, ...], int | None] = {}
    found: dict[tuple[str, str], None] = {}
    for row in rows:
        level = row.level
        number = told.setdefault((level.item, level.location, level.version), level.quantity)
        if number != level.quantity:
            found[level.item, level.location] = None
    return found


def _newest(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the newest row of each item at each location, in their order: a level is the present one."""
    newest: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = newest.setdefault((row.level.item, row.level.location), row)
        if (row.position or 0) >= (known.position or 0):
            newest[row.level.item, row.level.location] = row
    return tuple(row for row in rows if newest[row.level.item, row.level.location] is row)


def _sku_of(row: object, settings: EndpointSettings) -> str:
    try:
        return f" ({identifier(look_up(row, settings.paths['sku_path']), 'sku')})"
    except PayloadRefused:
        return ""
