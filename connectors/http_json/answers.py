"""What an endpoint's answer says besides its rows, and which address is asked next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from connectors.http_json.mapping import Rows, rows_of, written_time
from connectors.http_json.paths import MISSING, look_up
from connectors.http_json.settings import CursorKind
from synchub.connector_kit.payloads import read_value
from synchub.errors import PayloadRefused, UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.http_json.cursors import Cursor
    from connectors.http_json.settings import EndpointSettings

TOKEN_CHARS_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAnswer:
    """One answer, read."""

    rows: Rows
    next_page: str
    """The link or token of the next page; empty after the last."""
    token: str
    """Where the endpoint says that the next poll begins; empty where it says nothing."""


def read_answer(body: bytes, settings: EndpointSettings) -> EndpointAnswer:
    """Return what an answer says.

    Raises:
        UpstreamFailed: it is not JSON, or not of the form that the settings describe.
    """
    try:
        value = read_value(body)
        return EndpointAnswer(
            rows=rows_of(value, settings),
            next_page=_text(value, "next_path", settings),
            token=_text(value, "cursor_path", settings),
        )
    except PayloadRefused as problem:
        msg = f"The endpoint's answer does not fit the account's settings: {problem.detail}"
        raise UpstreamFailed(msg) from None


def address(cursor: Cursor, settings: EndpointSettings) -> str:
    """Return the address of the page that a cursor stands at.

    Raises:
        UpstreamFailed: the next page is somewhere else, where the account's secret must not go.
    """
    if cursor.page and not settings.page_param:
        return _linked(cursor.page, settings.url)
    asked: dict[str, str] = {}
    if cursor.start:
        asked[settings.cursor_param] = _start(cursor.start, settings)
    if cursor.tie and settings.tie_param:
        asked[settings.tie_param] = cursor.tie
    if cursor.page or settings.counts_pages:
        # The token of a page takes the place of the poll's where one parameter is for both.
        asked[settings.page_param] = cursor.page or str(settings.first_page)
    return with_query(settings.url, list(asked.items()))


def with_query(url: str, asked: Sequence[tuple[str, str]]) -> str:
    """Return the address with these parameters, instead of any that it has of the same name."""
    if not asked:
        return url
    parts = urlsplit(url)
    names = {name for name, _ in asked}
    kept = [
        (name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in names
    ]
    return parts._replace(query=urlencode([*kept, *asked])).geturl()


def _start(start: str, settings: EndpointSettings) -> str:
    if settings.kind is CursorKind.UPDATED_SINCE:
        return written_time(int(start), settings.time_form)
    return start


def _linked(link: str, url: str) -> str:
    home = urlsplit(url)
    try:
        target = urlsplit(urljoin(url, link))
        leads_home = (target.scheme, target.netloc) == (home.scheme, home.netloc)
    except ValueError:
        leads_home = False
    if not leads_home:
        msg = "The link to the endpoint's next page leads to another host."
        raise UpstreamFailed(msg)
    return urljoin(url, link)


def _text(value: object, name: str, settings: EndpointSettings) -> str:
    """Return a link or token; empty where it is absent, null or false.

    Raises:
        PayloadRefused: something else stands there.
    """
    found = look_up(value, settings.paths[name]) if name in settings.paths else MISSING
    if found is MISSING or found is None or found is False or found == "":
        return ""
    text = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    if not isinstance(text, str) or len(text) > TOKEN_CHARS_MAX or any(ord(char) < ord(" ") for char in text):
        msg = f"{settings.texts[name]} is not a link or token of at most {TOKEN_CHARS_MAX} characters."
        raise PayloadRefused(msg)
    return text
