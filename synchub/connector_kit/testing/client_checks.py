"""How a connector's client behaves when its platform does not."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp

from synchub.connector_kit.contract import Access
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.connector_kit.testing.subject import Shortcoming, demand
from synchub.errors import SynchubError, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from synchub.connector_kit.contract import Client
    from synchub.connector_kit.testing.subject import Subject

PATIENCE_S: Final = 5.0
_ANYWHERE = re.compile(".*")


class _Response(aiohttp.ClientResponse):
    """What aioresponses 0.7.9 does not know yet: aiohttp 3.14 asks for one argument more.

    https://github.com/pnuckowski/aioresponses/issues/289
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        named.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*given, **named)


def too_many_calls_is_throttled(subject: Subject) -> None:
    """429 is UpstreamThrottled and carries the platform's Retry-After."""
    failure = _failure(subject, 429, b"", headers={"Retry-After": "7"})
    demand(isinstance(failure, UpstreamThrottled), f"429 gives {failure!r} instead of UpstreamThrottled.")
    demand(failure.retry_after_s == 7, "429 does not hand on Retry-After.")  # noqa: PLR2004 - sent above


def refused_credentials_are_refused(subject: Subject) -> None:
    """401 and 403 are UpstreamRefused: the merchant has to act."""
    for status in (401, 403):
        failure = _failure(subject, status, b'{"errors":"no"}')
        fits = isinstance(failure, UpstreamRefused)
        demand(fits, f"{status} gives {failure!r} instead of UpstreamRefused.")


def platform_failures_are_failures(subject: Subject) -> None:
    """5xx, a redirect and a refused connection are UpstreamFailed."""
    for status in (500, 502, 301):
        failure = _failure(subject, status, b"", headers={"Location": "https://elsewhere.example/"})
        fits = isinstance(failure, UpstreamFailed)
        demand(fits, f"{status} gives {failure!r} instead of UpstreamFailed.")
    failure = _failure(subject, 200, b"", broken=True)
    demand(isinstance(failure, UpstreamFailed), f"No connection gives {failure!r}, not UpstreamFailed.")


def unreadable_answers_are_failures(subject: Subject) -> None:
    """200 with a page, half an answer or another shape is UpstreamFailed, never "no such item"."""
    answers = (b"<html>Busy</html>", b'{"data":{"', b"", b"null", b"[]", b"{}", b'{"data":null}', b"\xff")
    for body in answers:
        failure = _failure(subject, 200, body)
        fits = isinstance(failure, UpstreamFailed)
        demand(fits, f"200 with {body!r} gives {failure!r} instead of UpstreamFailed.")


def nothing_asked_is_nothing_called(subject: Subject) -> None:
    """No items, no call."""
    answered = asyncio.run(_ask(subject, 500, b"", {}, items=()))
    demand(answered == (), f"fetch_levels of no items gives {answered!r} instead of an empty tuple.")


def _failure(
    subject: Subject, status: int, body: bytes, headers: dict[str, str] | None = None, *, broken: bool = False
) -> SynchubError:
    demand(subject.items, 'secrets.json needs "items", or a recording a level, to ask the client for.')
    answered = asyncio.run(_ask(subject, status, body, headers or {}, items=subject.items, broken=broken))
    if isinstance(answered, SynchubError):
        _demand_discretion(subject, answered)
        return answered
    msg = f"fetch_levels answers {answered!r} to status {status} with {body!r} instead of failing."
    raise Shortcoming(msg)


async def _ask(
    subject: Subject,
    status: int,
    body: bytes,
    headers: dict[str, str],
    *,
    items: tuple[str, ...],
    broken: bool = False,
) -> object:
    # A test's dependency: the installed hub does not need it.
    from aioresponses import aioresponses

    client = cast("type[Client]", subject.connector.client)
    async with aiohttp.ClientSession(trust_env=False) as session:
        access = Access(http=AiohttpPlatformHttp(session), credentials=_credentials(subject))
        with aioresponses() as platform:
            for method in ("GET", "POST"):
                platform.add(
                    _ANYWHERE,
                    method=method,
                    status=status,
                    body=body,
                    headers=headers,
                    repeat=True,
                    exception=aiohttp.ClientConnectionError() if broken else None,
                    response_class=_Response,
                )
            try:
                return await asyncio.wait_for(client(access).fetch_levels(items[:1]), PATIENCE_S)
            except SynchubError as failure:
                return failure
            except TimeoutError as problem:
                msg = f"fetch_levels waits more than {PATIENCE_S} s by itself; waiting is the caller's."
                raise Shortcoming(msg) from problem
            except Exception as surprise:  # any other exception is the finding
                msg = f"fetch_levels raises {type(surprise).__name__} to status {status} with {body!r}."
                raise Shortcoming(msg) from surprise


def _credentials(subject: Subject) -> dict[str, str]:
    offers = subject.connector.manifest.credentials
    return {
        name: subject.credentials.get(name, f"hush-{name}") for name in offers if _is_given(subject, name)
    }


def _is_given(subject: Subject, name: str) -> bool:
    offer = subject.connector.manifest.credentials[name]
    return name in subject.credentials or (offer.secret and not offer.signing)


def _demand_discretion(subject: Subject, failure: SynchubError) -> None:
    text = f"{failure!s} {failure!r} {failure.__cause__!r}"
    offers = subject.connector.manifest.credentials
    secret = [value for name, value in _credentials(subject).items() if offers[name].secret]
    demand(not [value for value in secret if value in text], "A failure of the client repeats a credential.")
