"""What an account says of its endpoint, checked as a whole.

The settings travel as the account's credentials, because that is what a merchant gives; only
``auth_header`` is a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from connectors.http_json.paths import FieldPath, read_path
from synchub.connector_kit.payloads import identifier
from synchub.errors import PayloadRefused

DEFAULT_OVERLAP_S: Final = 60
OVERLAP_S_MAX: Final = 86_400
PAGE_SIZE_MAX: Final = 100_000
URL_CHARS_MAX: Final = 2000

PATHS: Final = (
    *("items_path", "sku_path", "quantity_path", "location_path", "updated_path", "sequence_path"),
    *("id_path", "cursor_path", "next_path"),
)
PARAMETERS: Final = ("cursor_param", "tie_param", "page_param", "items_param")
NUMBERS: Final = {"overlap_s": OVERLAP_S_MAX, "page_size": PAGE_SIZE_MAX, "first_page": 1}

_PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]$:-]{1,80}")
_HEADER = re.compile(r"([A-Za-z0-9-]{1,80}): *([!-~](?:[ -~]*[!-~])?)")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NUMBER = re.compile(r"[0-9]{1,9}")


class CursorKind(StrEnum):
    """How the endpoint is asked for what has changed."""

    UPDATED_SINCE = "updated_since"
    OPAQUE = "opaque"
    EVENT_ID = "event_id"
    SWEEP = "sweep"


class TimeForm(StrEnum):
    """How times are written, in answers and in ``cursor_param``."""

    RFC3339 = "rfc3339"
    UNIX_S = "unix_s"
    UNIX_MS = "unix_ms"


class ItemsJoin(StrEnum):
    """How several SKUs are asked for."""

    ONE = "one"
    """In a call for each."""
    COMMA = "comma"
    """In one call, commas between them."""
    REPEAT = "repeat"
    """In one call, the parameter once for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """An endpoint, ready to be asked."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    kind: CursorKind
    paths: Mapping[str, FieldPath]
    """By name; those that were not given are absent, except ``items_path``."""
    texts: Mapping[str, str]
    """The paths as they were written, for sentences."""
    location: str
    """Where all rows are; empty: ``location_path`` says it."""
    time_form: TimeForm
    overlap_us: int
    cursor_param: str
    tie_param: str
    page_param: str
    page_size: int
    """Rows of a full page; 0: not known."""
    first_page: int
    items_param: str
    items_join: ItemsJoin

    @property
    def counts_pages(self) -> bool:
        """Pages are asked for by their number."""
        return bool(self.page_param) and "next_path" not in self.paths


def check_settings(credentials: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is wrong with an account's settings, in sentences for whoever wrote them."""
    return (
        *_address_faults(credentials),
        *_path_faults(credentials),
        *_form_faults(credentials),
        *_cursor_faults(credentials),
    )


def read_settings(credentials: Mapping[str, str]) -> EndpointSettings:
    """Return the settings of an account that ``check_settings`` finds nothing wrong with.

    Raises:
        ValueError: the first fault.
    """
    faults = check_settings(credentials)
    if faults:
        raise ValueError(faults[0])
    get = credentials.get
    return EndpointSettings(
        url=credentials["url"],
        headers={"accept": "application/json", **_auth_header(get("auth_header", ""))},
        kind=cursor_kind(credentials),
        paths={
            name: read_path(get(name, "")) for name in PATHS if name in credentials or name == "items_path"
        },
        texts={name: get(name, "") for name in PATHS},
        location=get("location", ""),
        time_form=TimeForm(get("time_form", "rfc3339")),
        overlap_us=int(get("overlap_s", str(DEFAULT_OVERLAP_S))) * 1_000_000,
        cursor_param=get("cursor_param", ""),
        tie_param=get("tie_param", ""),
        page_param=get("page_param", ""),
        page_size=int(get("page_size", "0")),
        first_page=int(get("first_page", "1")),
        items_param=get("items_param", ""),
        items_join=ItemsJoin(get("items_join", "one")),
    )


def cursor_kind(credentials: Mapping[str, str]) -> CursorKind:
    """Return how changes are asked for: as ``cursor_kind`` says, or as the other settings suggest."""
    if "cursor_kind" in credentials:
        return CursorKind(credentials["cursor_kind"])
    if "cursor_param" not in credentials:
        return CursorKind.SWEEP
    if "cursor_path" in credentials:
        return CursorKind.OPAQUE
    return CursorKind.UPDATED_SINCE if "updated_path" in credentials else CursorKind.EVENT_ID


def _auth_header(text: str) -> dict[str, str]:
    if not text:
        return {}
    named = _HEADER.fullmatch(text)
    return {named[1]: named[2]} if named else {"Authorization": text}


def _address_faults(credentials: Mapping[str, str]) -> list[str]:
    url, auth = credentials.get("url", ""), credentials.get("auth_header", "")
    faults = []
    if not _is_address(url):
        faults.append("url is not an http or https address, without a name, a password or a # in it.")
    elif auth and not _may_carry_secrets(url):
        faults.append("url begins with http://, so anybody on the way could read auth_header; use https://.")
    if auth and not _VALUE.fullmatch(auth):
        faults.append("auth_header is not one line of plain characters.")
    return faults


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_plain = len(url) <= URL_CHARS_MAX and all("!" <= char <= "~" for char in url)
    return is_whole and is_plain and "@" not in parts.netloc and "#" not in url


def _may_carry_secrets(url: str) -> bool:
    """Whether nobody outside can read along: https, or an address inside a private network."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_private
    except ValueError:
        return False


def _path_faults(credentials: Mapping[str, str]) -> list[str]:
    faults = [f"{name} is missing." for name in ("sku_path", "quantity_path") if not credentials.get(name)]
    for name in PATHS:
        try:
            read_path(credentials.get(name, ""))
        except ValueError as problem:
            faults.append(f"{name} {problem}.")
    if bool(credentials.get("location")) == bool(credentials.get("location_path")):
        faults.append(
            "Give either location, which all rows have, or location_path, where a row says its own."
        )
    try:
        identifier(credentials.get("location") or "any", "location")
    except PayloadRefused as problem:
        faults.append(problem.detail)
    return faults


def _form_faults(credentials: Mapping[str, str]) -> list[str]:
    faults = [
        f"{name} is not the name of a query parameter."
        for name in PARAMETERS
        if name in credentials and not _PARAMETER.fullmatch(credentials[name])
    ]
    faults += [
        f"{name} is not a number from 0 to {most}."
        for name, most in NUMBERS.items()
        if name in credentials
        and not (_NUMBER.fullmatch(credentials[name]) and int(credentials[name]) <= most)
    ]
    choices = {"cursor_kind": CursorKind, "time_form": TimeForm, "items_join": ItemsJoin}
    faults += [
        f"{name} is one of {', '.join(kinds)}."
        for name, kinds in choices.items()
        if name in credentials and credentials[name] not in set(kinds)
    ]
    return faults


def _cursor_faults(credentials: Mapping[str, str]) -> list[str]:
    if credentials.get("cursor_kind", "sweep") not in set(CursorKind):
        return []
    kind = cursor_kind(credentials)
    needed = {
        CursorKind.UPDATED_SINCE: ("cursor_param", "updated_path"),
        CursorKind.OPAQUE: ("cursor_param", "cursor_path"),
        CursorKind.EVENT_ID: ("cursor_param", "sequence_path"),
        CursorKind.SWEEP: (),
    }[kind]
    faults = [f"cursor_kind {kind} needs {name}." for name in needed if not credentials.get(name)]
    if "tie_param" in credentials and (
        kind is not CursorKind.UPDATED_SINCE or "page_size" not in credentials
    ):
        faults.append("tie_param is for cursor_kind updated_since with a page_size.")
    return faults
