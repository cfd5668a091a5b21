"""A platform that answers as it is told, so that a client can be watched while it calls."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from synchub.connector_kit.contract import Access
from synchub.connector_kit.http import AiohttpPlatformHttp
from synchub.connector_kit.testing.files import Shortcoming, demand
from synchub.errors import SynchubError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aioresponses import aioresponses as Platform  # noqa: N812 - the library's own name is lower case

    from synchub.connector_kit.testing.pages import Answer
    from synchub.connector_kit.testing.subject import Subject

PATIENCE_S: Final = 5.0
HOOK_URL: Final = "https://hub.example/hooks/acc_test"
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH")

_ANYWHERE = re.compile(".*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One thing that a client can be asked for."""

    name: str
    act: Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of a call."""

    outcome: object
    """What it returned, or the ``SynchubError`` that it raised."""
    requests: tuple[str, ...]
    """Method, address and body of each request it made."""


class _Response(aiohttp.ClientResponse):
    """What aioresponses 0.7.9 does not know yet: aiohttp 3.14 asks for one argument more.

    https://github.com/pnuckowski/aioresponses/issues/289
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        named.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*given, **named)


def calls_of(subject: Subject) -> list[Call]:
    """Return everything that the connector's manifest offers."""
    connector = subject.connector
    calls = []
    if connector.levels_client:
        demand(subject.items, 'secrets.json needs "items", or a recording a level, to ask the client for.')
        calls.append(Call(name="fetch_levels", act=lambda client: client.fetch_levels(subject.items[:1])))
    if connector.pages_client:
        calls.append(Call(name="fetch_page", act=lambda client: client.fetch_page("")))
    if connector.hooks_client:
        calls.append(Call(name="check_subscription", act=lambda client: client.check_subscription(HOOK_URL)))
        calls.append(
            Call(name="repair_subscription", act=lambda client: client.repair_subscription(HOOK_URL))
        )
    if connector.canary_client:
        calls.append(Call(name="ask_canary", act=lambda client: client.ask_canary()))
    return calls


def page_at(cursor: str) -> Call:
    """Return the question for the page that begins at a cursor."""
    return Call(name=f"fetch_page({cursor[:60]!r})", act=lambda client: client.fetch_page(cursor))


def ask(
    subject: Subject,
    call: Call,
    *answers: Answer,
    is_repeated: bool = True,
    credentials: Mapping[str, str | None] | None = None,
) -> Asked:
    """Let a client call a platform that gives these answers in turn, the last for ever if repeated.

    Raises:
        Shortcoming: it waits by itself, or raises what no client may raise.
    """
    (asked,) = asyncio.run(_ask(subject, call, [answers], is_repeated=is_repeated, changed=credentials or {}))
    return asked


def ask_each(
    subject: Subject,
    call: Call,
    platforms: Sequence[Sequence[Answer]],
    credentials: Mapping[str, str | None],
) -> list[Asked]:
    """Ask the same of one platform after the other, each with its own answers; otherwise as ``ask``."""
    return asyncio.run(_ask(subject, call, platforms, is_repeated=True, changed=credentials))


async def _ask(
    subject: Subject,
    call: Call,
    platforms: Sequence[Sequence[Answer]],
    *,
    is_repeated: bool,
    changed: Mapping[str, str | None],
) -> list[Asked]:
    # A test's dependency: the installed hub does not need it.
    from aioresponses import aioresponses

    mixed = {**credentials_of(subject), **changed}
    kept = {name: value for name, value in mixed.items() if value is not None}
    found = []
    async with aiohttp.ClientSession(trust_env=False) as session:
        for answers in platforms:
            client = _client(subject, Access(http=AiohttpPlatformHttp(session), credentials=kept))
            with aioresponses() as platform:
                for place, answer in enumerate(answers, 1):
                    _prepare(platform, answer, is_repeated=is_repeated and place == len(answers))
                outcome = await _outcome(call, client, answers)
                found.append(Asked(outcome=outcome, requests=_requests(platform)))
    return found


def _client(subject: Subject, access: Access) -> object:
    client = subject.connector.client
    if client is None:
        msg = "The connector has no client to ask."
        raise Shortcoming(msg)
    return client(access)


def _prepare(platform: Platform, answer: Answer, *, is_repeated: bool) -> None:
    for method in METHODS:
        platform.add(
            _ANYWHERE,
            method=method,
            status=answer.status,
            body=answer.body,
            headers=dict(answer.headers),
            repeat=is_repeated,
            exception=aiohttp.ClientConnectionError() if answer.is_broken else None,
            response_class=_Response,
        )


async def _outcome(call: Call, client: object, answers: Sequence[Answer]) -> object:
    told = ", ".join(f"status {answer.status} with {answer.body[:300]!r}" for answer in answers)
    try:
        return await asyncio.wait_for(_awaited(call, client), PATIENCE_S)
    except SynchubError as failure:
        return failure
    except TimeoutError as problem:
        msg = f"{call.name} waits more than {PATIENCE_S} s by itself; waiting is the caller's."
        raise Shortcoming(msg) from problem
    except Exception as surprise:  # any other exception is the finding
        msg = f"{call.name} raises {type(surprise).__name__} to {told}."
        raise Shortcoming(msg) from surprise


async def _awaited(call: Call, client: object) -> object:
    return await call.act(client)


def _requests(platform: Platform) -> tuple[str, ...]:
    return tuple(
        f"{method} {url} {json.dumps(made.kwargs.get('json'), ensure_ascii=False)}"
        for (method, url), every in (platform.requests or {}).items()
        for made in every
    )


def credentials_of(subject: Subject) -> dict[str, str]:
    """Return what the account of the checks has: the fixtures' values, made-up ones for other secrets."""
    offers = subject.connector.manifest.credentials
    return {
        name: subject.credentials.get(name, f"hush-{name}") for name in offers if _is_given(subject, name)
    }


def _is_given(subject: Subject, name: str) -> bool:
    offer = subject.connector.manifest.credentials[name]
    return name in subject.credentials or (offer.secret and not offer.signing)


def demand_discretion(subject: Subject, told: object) -> None:
    """Raise when a failure, a page or a report repeats a credential.

    Raises:
        Shortcoming: it does.
    """
    text = f"{told!s} {told!r} {getattr(told, '__cause__', None)!r}"
    offers = subject.connector.manifest.credentials
    secret = [value for name, value in credentials_of(subject).items() if offers[name].secret]
    demand(not [value for value in secret if value in text], f"A {type(told).__name__} repeats a credential.")
