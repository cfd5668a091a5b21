"""Decides what an endpoint is told next, what its answer means, and when it is tried again."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from synchub.errors import InvalidRequest
from synchub.subscriptions.model import EVERYTHING, Filter, Outcome, Spot, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from synchub.stock.model import Answer
    from synchub.subscriptions.model import SealedSecret, Standing, Subscription

URL_MAX: Final = 2000
GRANT_MIN_MS: Final = 60_000
"""Nothing is granted for a shorter time."""
KEPT_MS: Final = 7 * 86_400_000
"""So long a subscription that has ended or expired can be looked at."""
CHANGED: Final = "stock.changed"
TEST: Final = "subscription.test"

_TAKEN: Final = 2
_REDIRECT: Final = 3
_REFUSAL: Final = 4
_GONE: Final = 410
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_DOUBLINGS_MAX: Final = 32
_DIGITS_MAX: Final = 16


def check_url(url: str, *, may_be_plain: bool) -> str:
    """Return the address of an endpoint; whether it may be reached is decided when it is connected to.

    Raises:
        InvalidRequest: it has not the form of one, or is not encrypted.
    """
    msg = ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest(_BAD_URL) from None
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        msg = f"url is an address of at most {URL_MAX} printable ASCII characters."
    elif parts.scheme not in {"https", "http"} or not host or port == 0:
        msg = _BAD_URL
    elif _is_odd_number(host):
        msg = "An address in numbers is written as four of them with dots, or as IPv6 in brackets."
    elif parts.scheme == "http" and not may_be_plain:
        msg = "url must begin with https://."
    elif parts.username is not None or parts.password is not None:
        msg = "url must not hold a name or a password: every request is signed."
    elif parts.fragment:
        msg = "url must have no fragment."
    if msg:
        raise InvalidRequest(msg)
    return url


def identity(merchant: str, key_hash: str, url: str, chosen: Filter, channel: str | None) -> str:
    """Name a subscription by what it is: asked for twice, it is still one."""
    parts = [merchant, key_hash, url, sorted(chosen.skus), chosen.prefix, channel]
    return "sub_" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def granted_ms(asked_ms: int | None, most_ms: int) -> int:
    """Return for how long a subscription is granted."""
    return most_ms if asked_ms is None else max(min(asked_ms, most_ms), min(GRANT_MIN_MS, most_ms))


def cursor_text(spot: Spot) -> str:
    """Write a position as subscribers see it."""
    return f"{spot.epoch}:{spot.seq}"


def read_cursor(text: str) -> Spot:
    """Read a position; one of the feed, which says more, will do.

    Raises:
        InvalidRequest: it is none.
    """
    epoch, _, rest = text.partition(":")
    seq = rest.partition(":")[0]
    if not epoch or not epoch.isprintable() or " " in epoch or not (seq.isascii() and seq.isdigit()):
        raise InvalidRequest(_BAD_CURSOR)
    if len(seq) > _DIGITS_MAX:
        raise InvalidRequest(_BAD_CURSOR)
    return Spot(epoch=epoch, seq=int(seq))


def matches(chosen: Filter, sku: str) -> bool:
    """Say whether a filter lets a SKU through."""
    return sku in chosen.skus if chosen.skus else sku.startswith(chosen.prefix)


def earliest(changed: Collection[Answer], most: int) -> list[Answer]:
    """Return the answers that have stood longest, in the order of their changes."""
    return heapq.nsmallest(most, changed, key=lambda answer: (answer.seq, answer.sku))


def next_part(changed: Mapping[str, Answer], reach: int, most: int) -> tuple[list[Answer], int]:
    """Return what the next message tells, and how far a reader of it then stands.

    The states that have stood longest go first, so everything that changed last up to the
    returned sequence is told by it; what changes again later has a later sequence. SKUs that
    nobody ever reported share the sequence 0 and stay together.
    """
    part = earliest(changed.values(), most)
    nothing = [answer for answer in changed.values() if answer.seq <= 0]
    if len(nothing) > most:
        part = nothing
    return part, reach if len(part) == len(changed) else min(reach, part[-1].seq)


def outcome_of(status: int, *, has_retry_after: bool) -> Outcome:
    """Say what a status means; only 2xx is success."""
    if status == _GONE:
        return Outcome.GONE
    if status == _TOO_MANY or (status == _UNAVAILABLE and has_retry_after):
        return Outcome.THROTTLED
    kinds = {_TAKEN: Outcome.DELIVERED, _REDIRECT: Outcome.REDIRECTED, _REFUSAL: Outcome.REFUSED}
    return kinds.get(status // 100, Outcome.FAILED)


def retry_after_ms(text: str, now_ms: int) -> int:
    """Return for how long an endpoint asks not to be called; 0 when it says nothing that can be read."""
    try:
        wait_ms = float(text) * 1000
    except ValueError:
        wait_ms = _until_ms(text, now_ms)
    return math.ceil(wait_ms) if 0 < wait_ms < math.inf else 0


def pause_ms(failures: int, asked_ms: int, *, base_ms: int, most_ms: int, chance: float) -> int:
    """Return how long to wait after so many failures in a row; ``chance`` is from 0 to 1.

    Full jitter below a ceiling that doubles; what the endpoint asks for is the least, and
    ``most_ms`` the most, whatever anybody asks for.
    """
    ceiling_ms = min(most_ms, base_ms * 2 ** min(max(failures - 1, 0), _DOUBLINGS_MAX))
    return min(most_ms, asked_ms + int(chance * ceiling_ms))


def has_failed_too_long(standing: Standing, now_ms: int, span_ms: int) -> bool:
    """Say whether an endpoint is to be left alone: nothing but failures for a whole span."""
    return bool(standing.failing_since_ms) and now_ms - standing.failing_since_ms >= span_ms


def status_of(subscription: Subscription, standing: Standing, now_ms: int) -> Status:
    """Return the status as it is at this time; an end is not undone by the grant's."""
    if standing.status is Status.ENDED:
        return Status.ENDED
    if now_ms >= subscription.expires_at_ms:
        return Status.EXPIRED
    return Status.ACTIVE if standing.asked.renew else standing.status


def is_forgotten(subscription: Subscription, standing: Standing, now_ms: int) -> bool:
    """Say whether a subscription that is over has been kept long enough."""
    status = status_of(subscription, standing, now_ms)
    over_ms = {Status.EXPIRED: subscription.expires_at_ms, Status.ENDED: standing.changed_at_ms}.get(status)
    return over_ms is not None and now_ms - over_ms >= KEPT_MS


def signing(secrets: Collection[SealedSecret], now_ms: int) -> list[SealedSecret]:
    """Return the secrets that sign now, the present one first."""
    return [one for one in secrets if one.until_ms is None or now_ms < one.until_ms]


def is_before(spot: Spot, oldest: int) -> bool:
    """Say whether some change after a position is no longer kept."""
    return spot.seq == EVERYTHING or spot.seq < oldest


def _is_odd_number(host: str) -> bool:
    """Say whether a host would be read as an IPv4 address by some programs, and is not written as one."""
    last = host.rstrip(".").rpartition(".")[2]
    if not (last.isdigit() or last.lower().startswith("0x")):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _until_ms(text: str, now_ms: int) -> float:
    try:
        return parsedate_to_datetime(text).timestamp() * 1000 - now_ms
    except (TypeError, ValueError, OverflowError):
        return 0


_BAD_URL: Final = "url must be an address such as https://agent.example.com/stock."
_BAD_CURSOR: Final = "A cursor is one that an occurrence or the feed has told."
