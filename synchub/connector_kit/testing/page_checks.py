"""How a connector's client reads changes page by page, from recorded answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.contract import Page
from synchub.connector_kit.testing.delivery_checks import damage
from synchub.connector_kit.testing.expectations import check_types
from synchub.connector_kit.testing.files import Shortcoming, demand
from synchub.connector_kit.testing.pages import Answer, PageRecording
from synchub.connector_kit.testing.platform import Call, ask, ask_each, demand_discretion, page_at
from synchub.errors import (
    CursorRefused,
    SynchubError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamThrottled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.contract import PagesClient, Record
    from synchub.connector_kit.testing.platform import Asked
    from synchub.connector_kit.testing.subject import Subject

CURSOR_CHARS_MAX: Final = 4096
KEY_CHARS_MAX: Final = 200
CUTS: Final = 24
"""Places of each recorded answer at which the rest is cut off."""

MUTATIONS: Final = 40
TIMES_MS: Final = (0, 1, 1_795_257_600_123, 4_102_444_800_000)

GARBAGE: Final = (
    *(
        "?",
        "not a cursor",
        "{",
        "{}",
        "[]",
        "null",
        "0",
        "-1",
        "\x00",
        "é",
        "\u202e",
        '{"v":1}',
        '""',
        "a" * 4096,
    ),
    *("eyJ2IjoxfQ", "eyJ2IjoxfQ==", "2026-11-21", "::", "1e400", '{"since":null}', "9" * 400),
)
"""None of them is a cursor that a client handed out."""

_AGREED: Final = (UpstreamThrottled, UpstreamRefused, UpstreamFailed)


def pages_are_recorded(subject: Subject) -> None:
    """There are recorded pages: one that is read, and one that is the last."""
    readable = [page for page in subject.pages if page.is_readable]
    demand(readable, "[polling] in manifest.toml needs recorded pages, page__CASE.json in fixtures/.")
    last = [page for page in readable if page.expected["is_last"]]
    demand(last, "None of the recorded pages is the last one.")


def pages_give_what_was_expected(subject: Subject) -> None:
    """Each recorded page gives exactly the records written down for it, or its failure."""
    for recording in subject.pages:
        if recording.is_readable:
            _demand_page(subject, recording)
        else:
            _demand_failure(subject, recording)


def pages_ask_for_what_they_should(subject: Subject) -> None:
    """The first call of each recorded page says what its recording says that it asks."""
    for recording in subject.pages:
        requests = _ask(subject, recording).requests
        demand(requests or not recording.is_readable, f"{recording.name}: the platform is not asked.")
        for text in recording.asks:
            is_asked = requests and text in requests[0]
            demand(is_asked, f"{recording.name}: the first call does not ask {text!r}.")


def pages_keep_their_measure(subject: Subject) -> None:
    """No page has more records than promised, no cursor and no key is too long, no topic unknown."""
    polling = subject.connector.manifest.polling
    most = polling.page_max if polling else 0
    topics = {"", *subject.connector.manifest.topics}
    for recording in _readable(subject):
        page = _page(subject, recording)
        demand(len(page.records) <= most, f"{recording.name} gives more than {most} records.")
        demand(len(page.cursor) <= CURSOR_CHARS_MAX, f"{recording.name} ends with too long a cursor.")
        for record in page.records:
            fits = 0 < len(record.key) <= KEY_CHARS_MAX
            demand(
                fits, f"{recording.name}: a key has {len(record.key)} characters, not 1 to {KEY_CHARS_MAX}."
            )
            demand(record.topic in topics, f"{recording.name}: manifest.toml has no topic {record.topic!r}.")
            for event in record.events:
                check_types(event, recording.name)
        demand_discretion(subject, page)


def the_same_page_twice_is_the_same(subject: Subject) -> None:
    """The same answers to the same cursor give equal records and an equal end."""
    for recording in _readable(subject):
        first, second = _page(subject, recording), _page(subject, recording)
        demand(first == second, f"{recording.name}, read twice, gives two different pages.")


def other_facts_have_other_keys(subject: Subject) -> None:
    """No two records of a page that say different things share a key."""
    for recording in _readable(subject):
        seen: dict[str, Record] = {}
        for record in _page(subject, recording).records:
            known = seen.setdefault(record.key, record)
            demand(known == record, f"{recording.name}: two different records have the key {record.key!r}.")


def cursors_only_go_forward(subject: Subject) -> None:
    """Where pages follow each other, an older answer that comes again does not lead back.

    Not for opaque tokens, of which the platform alone knows what is forward, nor where a page
    ends with the beginning of everything, as a sweep does.
    """
    if _is_opaque(subject):
        return
    for recording in _readable(subject):
        if not recording.after:
            continue
        before = _named(subject, recording.after)
        begun, ended = _cursor(subject, recording), _page(subject, recording).cursor
        if not ended:
            continue
        demand(begun != ended or not recording.expected["records"], f"{recording.name} leads nowhere.")
        again = ask(subject, page_at(ended), *before.answers, credentials=recording.credentials).outcome
        if isinstance(again, Page):
            led_back = again.cursor == begun != ended
            demand(not led_back, f"{recording.name}: the answer of {before.name}, come again, leads back.")


def foreign_cursors_are_refused(subject: Subject) -> None:
    """What is no cursor of this connector is CursorRefused, without a call.

    A platform's own tokens may be handed through as they are: then the platform refuses them.
    """
    for recording in _accounts(subject):
        for garbage in GARBAGE:
            asked = ask(subject, page_at(garbage), *recording.answers, credentials=recording.credentials)
            if _is_opaque(subject):
                _agreed(subject, asked.outcome, f"the cursor {garbage[:40]!r}")
                continue
            refused = isinstance(asked.outcome, CursorRefused)
            demand(refused, f"The cursor {garbage[:40]!r} gives {asked.outcome!r} instead of CursorRefused.")


def polling_can_begin_at_a_time(subject: Subject) -> None:
    """``cursor_at`` gives a cursor for any time, the same each time, and ``fetch_page`` takes it."""
    for recording in _accounts(subject):
        for time_ms in TIMES_MS:
            first, second = (_cursor_at(subject, recording, time_ms) for _ in range(2))
            demand(first == second, f"cursor_at({time_ms}) gives two different cursors.")
            demand(len(first) <= CURSOR_CHARS_MAX, f"cursor_at({time_ms}) gives too long a cursor.")
            asked = ask(subject, page_at(first), *recording.answers, credentials=recording.credentials)
            taken = not isinstance(asked.outcome, CursorRefused)
            demand(taken, f"fetch_page refuses the cursor of cursor_at({time_ms}).")
            _agreed(subject, asked.outcome, f"a cursor of cursor_at({time_ms})")


def damaged_pages_are_failures_or_read(subject: Subject) -> None:
    """Half an answer is UpstreamFailed; a mutated one a page or a failure, with no other exception."""
    chance = random.Random(1)  # noqa: S311 - the same damage in every run
    for recording in _readable(subject):
        body = recording.answers[0].body.rstrip()
        cut = [body[:place] for place in range(0, len(body), max(1, len(body) // CUTS))]
        for part, outcome in zip(cut, _answered(subject, recording, cut), strict=True):
            failed = isinstance(outcome, UpstreamFailed)
            demand(failed, f"{recording.name}, cut after {len(part)} bytes, is read as if it were whole.")
        mutated = [damage(recording.answers[0].body, chance) for _ in range(MUTATIONS)]
        for odd, outcome in zip(mutated, _answered(subject, recording, mutated), strict=True):
            _agreed(subject, outcome, f"{recording.name}, damaged: {odd[:300]!r}")


def _readable(subject: Subject) -> list[PageRecording]:
    return [page for page in subject.pages if page.is_readable]


def _accounts(subject: Subject) -> list[PageRecording]:
    """Return a readable recording for each account that the recordings are of."""
    found: dict[str, PageRecording] = {}
    for page in _readable(subject):
        found.setdefault(repr(sorted(page.credentials.items())), page)
    return list(found.values())


def _named(subject: Subject, name: str) -> PageRecording:
    return next(page for page in subject.pages if page.name == name)


def _is_opaque(subject: Subject) -> bool:
    polling = subject.connector.manifest.polling
    return polling is not None and polling.cursor == "opaque"


def _cursor(subject: Subject, recording: PageRecording) -> str:
    """Return where a recorded page begins."""
    return _page(subject, _named(subject, recording.after)).cursor if recording.after else recording.cursor


def _cursor_at(subject: Subject, recording: PageRecording, time_ms: int) -> str:
    async def act(client: PagesClient) -> str:
        return client.cursor_at(time_ms)

    call = Call(name=f"cursor_at({time_ms})", act=act)
    asked = ask(subject, call, Answer(status=500), credentials=recording.credentials)
    demand(not asked.requests, "cursor_at calls the platform.")
    if not isinstance(asked.outcome, str):
        msg = f"cursor_at({time_ms}) gives {asked.outcome!r}, not a cursor."
        raise Shortcoming(msg)
    return asked.outcome


def _ask(subject: Subject, recording: PageRecording) -> Asked:
    call = page_at(_cursor(subject, recording))
    return ask(subject, call, *recording.answers, is_repeated=False, credentials=recording.credentials)


def _answered(subject: Subject, recording: PageRecording, bodies: Sequence[bytes]) -> list[object]:
    """Return what comes of a recorded page with each of these bodies as its first answer."""
    call = page_at(_cursor(subject, recording))
    first, *others = recording.answers
    platforms = [[_with_body(first, body), *others] for body in bodies]
    return [asked.outcome for asked in ask_each(subject, call, platforms, recording.credentials)]


def _page(subject: Subject, recording: PageRecording) -> Page:
    outcome = _ask(subject, recording).outcome
    if not isinstance(outcome, Page):
        msg = f"{recording.name} gives {outcome!r}, though its expectation is a page."
        raise Shortcoming(msg)
    return outcome


def _agreed(subject: Subject, outcome: object, what: str) -> None:
    fits = isinstance(outcome, (Page, *_AGREED))
    demand(fits, f"fetch_page gives {outcome!r} for {what}: neither a page nor an agreed failure.")
    if isinstance(outcome, SynchubError):
        demand_discretion(subject, outcome)


def _with_body(answer: Answer, body: bytes) -> Answer:
    return Answer(status=answer.status, headers=answer.headers, body=body)


def _demand_page(subject: Subject, recording: PageRecording) -> None:
    page, where = _page(subject, recording), recording.name
    for place, (record, wanted) in enumerate(zip(page.records, recording.records, strict=False), 1):
        _demand_record(record, wanted, f"{where}, record {place}")
    count = len(recording.records)
    demand(len(page.records) == count, f"{where}: {len(page.records)} records instead of {count}.")
    is_last = recording.expected["is_last"]
    demand(page.is_last == is_last, f"{where}: is_last is {page.is_last}, not {is_last}.")
    cursor = recording.expected.get("cursor", page.cursor)
    demand(page.cursor == cursor, f"{where} ends with {page.cursor!r} instead of {cursor!r}.")
    _demand_sentences(page.refused, recording.expected.get("refused", ()), where)


def _demand_record(record: Record, wanted: Record, where: str) -> None:
    for event, expected in zip(record.events, wanted.events, strict=False):
        demand(event == expected, f"{where}: {event} instead of {expected}.")
    demand(
        len(record.events) == len(wanted.events), f"{where}: {len(record.events)} events are not expected."
    )
    demand(not wanted.key or record.key == wanted.key, f"{where}: its key is {record.key!r}.")
    same = (record.changed_at_us, record.topic) == (wanted.changed_at_us, wanted.topic)
    demand(same, f"{where}: it changed at {record.changed_at_us}, told by {record.topic!r}.")


def _demand_sentences(told: Sequence[str], expected: Sequence[str], where: str) -> None:
    demand(len(told) == len(expected), f"{where}: these rows are refused: {list(told)}.")
    for sentence, part in zip(told, expected, strict=True):
        demand(part in sentence, f"{where}: a row is refused with {sentence!r}, not {part!r}.")


def _demand_failure(subject: Subject, recording: PageRecording) -> None:
    outcome, wanted = _ask(subject, recording).outcome, recording.expected["raises"]
    demand(type(outcome).__name__ == wanted, f"{recording.name} gives {outcome!r} instead of {wanted}.")
    part = recording.expected.get("detail", "")
    told = outcome.detail if isinstance(outcome, SynchubError) else ""
    demand(part in told, f"{recording.name} fails with {told!r}, not {part!r}.")
    _agreed(subject, outcome, recording.name)
