"""How a connector's client behaves when its platform does not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.http import HttpAnswer
from synchub.connector_kit.testing.files import Shortcoming, demand
from synchub.connector_kit.testing.pages import Answer
from synchub.connector_kit.testing.platform import Call, ask, calls_of, demand_discretion
from synchub.errors import SynchubError, UpstreamFailed, UpstreamRefused, UpstreamThrottled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.connector_kit.contract import Quota
    from synchub.connector_kit.testing.subject import Subject

QUOTA_EXAMPLES: Final = 500


def too_many_calls_is_throttled(subject: Subject) -> None:
    """429 is UpstreamThrottled and carries the platform's Retry-After."""
    for call in calls_of(subject):
        failure = _failure(subject, call, Answer(status=429, headers={"Retry-After": "7"}))
        fits = isinstance(failure, UpstreamThrottled)
        demand(fits, f"{call.name}: 429 gives {failure!r} instead of UpstreamThrottled.")
        waits = failure.retry_after_s == 7  # noqa: PLR2004 - sent above
        demand(waits, f"{call.name}: 429 does not hand on Retry-After.")


def refused_credentials_are_refused(subject: Subject) -> None:
    """401 and 403 are UpstreamRefused: the merchant has to act."""
    for call in calls_of(subject):
        for status in (401, 403):
            failure = _failure(subject, call, Answer(status=status, body=b'{"errors":"no"}'))
            fits = isinstance(failure, UpstreamRefused)
            demand(fits, f"{call.name}: {status} gives {failure!r} instead of UpstreamRefused.")


def platform_failures_are_failures(subject: Subject) -> None:
    """5xx, a redirect and a refused connection are UpstreamFailed."""
    for call in calls_of(subject):
        for status in (500, 502, 503, 301):
            elsewhere = {"Location": "https://elsewhere.example/"}
            _demand_failed(subject, call, Answer(status=status, headers=elsewhere), f"{status}")
        _demand_failed(subject, call, Answer(is_broken=True), "no connection")


def unreadable_answers_are_failures(subject: Subject) -> None:
    """200 with a page, half an answer or another shape is UpstreamFailed, never "no such item"."""
    answers = (b"<html>Busy</html>", b'{"data":{"', b"", b"null", b"[]", b"{}", b'{"data":null}', b"\xff")
    for call in calls_of(subject):
        for body in answers:
            _demand_failed(subject, call, Answer(body=body), f"200 with {body!r}")


def nothing_asked_is_nothing_called(subject: Subject) -> None:
    """No items, no call."""
    if subject.connector.levels_client is None:
        return
    nothing = Call(name="fetch_levels of no items", act=lambda client: client.fetch_levels(()))
    asked = ask(subject, nothing, Answer(status=500))
    demand(asked.outcome == (), f"{nothing.name} gives {asked.outcome!r} instead of an empty tuple.")


def what_is_left_is_read_or_not(subject: Subject) -> None:
    """``read_quota`` understands an answer or says nothing, whatever stands in it."""
    read_quota = subject.connector.read_quota
    if read_quota is None:
        return
    chance = random.Random(1)  # noqa: S311 - the same examples in every run
    bodies = [b"", b"null", b"[]", *(page.answers[0].body for page in subject.pages)]
    for _ in range(QUOTA_EXAMPLES):
        answer = HttpAnswer(status=200, headers=_odd_headers(chance), body=chance.choice(bodies))
        try:
            quota = read_quota(answer)
        except Exception as surprise:  # any exception is the finding
            msg = f"read_quota raises {type(surprise).__name__} for the headers {answer.headers}."
            raise Shortcoming(msg) from surprise
        demand(_is_sensible(quota), f"read_quota gives {quota!r} for the headers {answer.headers}.")


def _odd_headers(chance: random.Random) -> Mapping[str, str]:
    names = (
        *("ratelimit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-limit", "ratelimit-reset"),
        *("x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset", "retry-after"),
        *("x-shopify-shop-api-call-limit", "x-amzn-ratelimit-limit", "x-rate-limit-time-reset-ms"),
    )
    texts = (
        *("", "0", "7", "-1", "1e400", "nan", "inf", "9" * 400, "\x00", "é", "12/40", "12/", "/", "½", "٣"),
        *("limit=100, remaining=50, reset=5", '"default";r=50;t=30', '"a";r=;t', '"default";q=100;w=60'),
    )
    return {name: chance.choice(texts) for name in names if chance.random() < 0.5}  # noqa: PLR2004 - half of them


def _is_sensible(quota: Quota | None) -> bool:
    if quota is None:
        return True
    numbers = (quota.remaining, quota.capacity or 0, quota.restored_per_s or 0)
    return all(0 <= number < 10**12 for number in numbers)


def _demand_failed(subject: Subject, call: Call, answer: Answer, what: str) -> None:
    failure = _failure(subject, call, answer)
    fits = isinstance(failure, UpstreamFailed)
    demand(fits, f"{call.name}: {what} gives {failure!r} instead of UpstreamFailed.")


def _failure(subject: Subject, call: Call, answer: Answer) -> SynchubError:
    outcome = ask(subject, call, answer).outcome
    if isinstance(outcome, SynchubError):
        demand_discretion(subject, outcome)
        return outcome
    msg = (
        f"{call.name} answers {outcome!r} to status {answer.status} with {answer.body!r} instead of failing."
    )
    raise Shortcoming(msg)
