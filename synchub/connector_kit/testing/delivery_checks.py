"""What a connector does with deliveries: recorded, forged, repeated and damaged ones."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.testing.expectations import check_types, event_from, kind_of
from synchub.connector_kit.testing.files import Shortcoming, demand
from synchub.errors import DeliveryStale, PayloadRefused, Refusal, SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synchub.connector_kit.delivery import Delivery
    from synchub.connector_kit.events import StockEvent
    from synchub.connector_kit.testing.subject import Recording, Subject

POSITIONS: Final = 64
"""Places of each body at which a byte is flipped or the rest cut off."""

MUTATIONS: Final = 100
NORMALIZE_MS_MAX: Final = 10.0
"""For the best of five; the largest recorded bodies take a tenth of it."""

YEARS_MS: Final = 10 * 365 * 86_400_000
UNKNOWN_TOPIC: Final = "something/never-declared"


def recordings_are_signed(subject: Subject) -> None:
    """Each recording is accepted, wherever its secret stands among the active ones."""
    for recording in subject.recordings:
        for secrets in ([*subject.secrets, subject.other], [subject.other, *subject.secrets]):
            refusal = _refusal(subject, recording.delivery, secrets, recording.now_ms)
            demand(refusal is None, f"{recording.name} is refused: {refusal}")


def foreign_secrets_are_refused(subject: Subject) -> None:
    """A valid secret that did not sign, an empty one and none at all accept nothing."""
    has_other = subject.other and subject.other not in subject.secrets
    demand(has_other or not subject.recordings, 'secrets.json needs "other".')
    for recording in subject.recordings:
        for secrets in ([subject.other], [""], []):
            _demand_refusal(subject, recording, recording.delivery, secrets)


def unsigned_deliveries_are_refused(subject: Subject) -> None:
    """A delivery without its headers, or with empty or absurd ones, is refused."""
    for recording in subject.recordings:
        for text in (None, "", "\x00", "\udcff", "é" * 300, "=" * 44, "a b,c.d", "[" * 50):
            headers = {} if text is None else dict.fromkeys(recording.headers, text)
            _demand_refusal(subject, recording, replace(recording.delivery, headers=headers), subject.secrets)


def one_changed_byte_is_refused(subject: Subject) -> None:
    """A flipped byte, a missing one or one too many breaks the signature."""
    for recording in subject.recordings:
        for place in _positions(recording.body):
            _demand_refusal(
                subject, recording, recording.with_body(_flip(recording.body, place)), subject.secrets
            )
        for body in (recording.body + b" ", recording.body[:-1]):
            _demand_refusal(subject, recording, recording.with_body(body), subject.secrets)


def another_time_is_fine_or_stale(subject: Subject) -> None:
    """Years earlier or later a rightly signed delivery is accepted or stale, a forged one refused."""
    for recording in subject.recordings:
        for now_ms in (max(0, recording.now_ms - YEARS_MS), recording.now_ms + YEARS_MS):
            refusal = _refusal(subject, recording.delivery, subject.secrets, now_ms)
            fine = refusal is None or isinstance(refusal, DeliveryStale)
            demand(fine, f"{recording.name} at another time is neither accepted nor stale: {refusal}")
            forged = _refusal(subject, recording.delivery, [subject.other], now_ms)
            demand(
                isinstance(forged, SignatureRefused),
                f"{recording.name}, forged and at another time, must be SignatureRefused: "
                "only a sender with the secret may learn that its clock is wrong.",
            )


def topics_are_found(subject: Subject) -> None:
    """The manifest finds the topic that the recording's name says."""
    for recording in subject.recordings:
        found = subject.connector.manifest.topic_of(recording.delivery)
        demand(found == recording.topic, f"{recording.name}: the manifest finds the topic {found!r}.")


def recordings_give_what_was_expected(subject: Subject) -> None:
    """Each recording gives exactly the events written down for it, or its refusal."""
    for recording in subject.recordings:
        if recording.refused is not None:
            _demand_sentence(subject, recording, recording.refused)
            continue
        where = recording.name
        events = _events(subject, recording)
        expected = tuple(event_from(row, where) for row in recording.expected)
        for place, (event, wanted) in enumerate(zip(events, expected, strict=False), 1):
            demand(event == wanted, f"{where}, event {place}: {event} instead of {wanted}.")
            check_types(event, where)
        demand(len(events) == len(expected), f"{where}: {len(events)} events instead of {len(expected)}.")


def only_promised_kinds_are_emitted(subject: Subject) -> None:
    """No topic emits a kind of event that its manifest does not declare."""
    for recording in subject.readable:
        promised = subject.connector.manifest.topics[recording.topic].emits
        for event in _events(subject, recording):
            kind = kind_of(event)
            demand(kind in promised, f"{recording.name} emits {kind}, which manifest.toml does not declare.")


def equal_bytes_give_equal_events(subject: Subject) -> None:
    """The same delivery twice, or with only the headers the worker keeps, gives the same events."""
    manifest = subject.connector.manifest
    for recording in subject.readable:
        kept = {name: text for name, text in recording.headers.items() if name in manifest.headers_kept}
        at_worker = replace(recording.delivery, headers=kept, arrived_at_us=1)
        again = _read(subject, recording.topic, at_worker, recording.name)
        demand(
            _events(subject, recording) == again == _events(subject, recording),
            f"{recording.name} gives other events when it is read again with the headers that the manifest "
            "keeps (keep_headers), at another time.",
        )
        same_id = manifest.dedupe_id(recording.delivery) == manifest.dedupe_id(at_worker)
        demand(same_id, f"{recording.name} has another dedupe id with the headers that are kept.")


def repeats_are_known_by_what_the_manifest_names(subject: Subject) -> None:
    """One of the manifest's dedupe rules applies to each recording, and no two share an id."""
    manifest = subject.connector.manifest
    by_hash = ("topic", "body-hash") in manifest.receive.dedupe
    bare = manifest.model_copy(update={"receive": manifest.receive.model_copy(update={"dedupe": ()})})
    seen: dict[str, str] = {}
    for recording in subject.recordings:
        found = manifest.dedupe_id(recording.delivery)
        named = by_hash or found != bare.dedupe_id(recording.delivery)
        demand(named, f"{recording.name} has none of what the manifest's dedupe rules name.")
        demand(found not in seen, f"{recording.name} has the dedupe id of {seen.get(found)}.")
        seen[found] = recording.name


def unknown_topics_are_refused(subject: Subject) -> None:
    """A topic that the manifest does not declare is a PayloadRefused."""
    for recording in subject.recordings:
        for topic in (UNKNOWN_TOPIC, ""):
            events = _read(subject, topic, recording.delivery, f"the topic {topic!r}")
            demand(events is None, f"normalize reads the undeclared topic {topic!r} instead of refusing it.")


def damaged_bodies_are_refused_or_read(subject: Subject) -> None:
    """A truncated body is refused; a mutated one refused or read, with no other exception."""
    chance = random.Random(1)  # noqa: S311 - the same damage in every run
    for recording in subject.recordings:
        for place in _positions(recording.body.rstrip()):
            events = _read(
                subject, recording.topic, recording.with_body(recording.body[:place]), "a cut body"
            )
            demand(events is None, f"{recording.name}, cut after {place} bytes, is read as if it were whole.")
        for _ in range(MUTATIONS):
            body = damage(recording.body, chance)
            _read(subject, recording.topic, recording.with_body(body), f"{body!r}")


def reading_is_quick(subject: Subject) -> None:
    """Verifying and reading a recording takes milliseconds: it happens for every delivery."""
    for recording in subject.readable:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subject.connector.verify(recording.delivery, subject.secrets, now_ms=recording.now_ms)
            subject.connector.normalize(recording.topic, recording.delivery)
            times.append((time.perf_counter() - start) * 1000)
        demand(min(times) < NORMALIZE_MS_MAX, f"{recording.name} takes {min(times):.1f} ms to read.")


def bodies_fit(subject: Subject) -> None:
    """No recording is larger than the manifest accepts."""
    for recording in subject.recordings:
        fits = len(recording.body) <= subject.connector.manifest.receive.max_body_bytes
        demand(fits, f"{recording.name} is larger than max_body_bytes of the manifest.")


def damage(body: bytes, chance: random.Random) -> bytes:
    """Return the body with one value or a few bytes replaced by something awkward."""
    awkward = (
        b"null",
        b"true",
        b"-1",
        b"1e400",
        b"[]",
        b"{}",
        b'""',
        b'"\\ud800"',
        b"NaN",
        b"9" * 30,
        b"\x00",
    )
    start = chance.randrange(len(body) + 1)
    end = min(len(body), start + chance.choice((0, 1, 2, 5, 20)))
    return body[:start] + chance.choice(awkward) + body[end:]


def _events(subject: Subject, recording: Recording) -> tuple[StockEvent, ...]:
    events = _read(subject, recording.topic, recording.delivery, recording.name)
    demand(events is not None, f"{recording.name} is refused, though its expectation is a list of events.")
    return events or ()


def _read(subject: Subject, topic: str, delivery: Delivery, what: str) -> tuple[StockEvent, ...] | None:
    """Return the events, or ``None`` when they were refused as they should be."""
    try:
        return subject.connector.normalize(topic, delivery)
    except PayloadRefused as refusal:
        demand(refusal.detail, "PayloadRefused needs a sentence for the person who looks at the quarantine.")
        _demand_discretion(subject, refusal)
        return None
    except Exception as surprise:  # any other exception is the finding
        msg = f"normalize raises {type(surprise).__name__} instead of PayloadRefused for {what[:300]}."
        raise Shortcoming(msg) from surprise


def _refusal(subject: Subject, delivery: Delivery, secrets: Sequence[str], now_ms: int) -> Refusal | None:
    try:
        subject.connector.verify(delivery, secrets, now_ms=now_ms)
    except (SignatureRefused, DeliveryStale) as refusal:
        _demand_discretion(subject, refusal)
        return refusal
    except Exception as surprise:  # any other exception is the finding
        msg = f"verify raises {type(surprise).__name__} instead of SignatureRefused."
        raise Shortcoming(msg) from surprise
    return None


def _demand_refusal(
    subject: Subject, recording: Recording, delivery: Delivery, secrets: Sequence[str]
) -> None:
    refusal = _refusal(subject, delivery, secrets, recording.now_ms)
    demand(isinstance(refusal, SignatureRefused), f"A forgery of {recording.name} is accepted.")


def _demand_sentence(subject: Subject, recording: Recording, sentence: str) -> None:
    try:
        subject.connector.normalize(recording.topic, recording.delivery)
    except PayloadRefused as refusal:
        fits = sentence in refusal.detail
        demand(fits, f"{recording.name} is refused with {refusal.detail!r}, not {sentence!r}.")
    else:
        msg = f"{recording.name} is read, though its expectation is a refusal."
        raise Shortcoming(msg)


def _demand_discretion(subject: Subject, refusal: Refusal) -> None:
    text = f"{refusal!s} {refusal!r} {refusal.__cause__!r}"
    told = [secret for secret in (*subject.secrets, subject.other) if secret and secret in text]
    demand(not told, "A refusal repeats a secret.")


def _positions(body: bytes) -> list[int]:
    step = max(1, len(body) // POSITIONS)
    return list(range(0, len(body), step))


def _flip(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 0x01]) + body[place + 1 :]
