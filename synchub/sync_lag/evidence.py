"""What speaks against an account at a moment. Pure.

Silence and missing signs of life vanish by themselves when something is heard. What polls and platforms
have said ages out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub.connector_kit.contract import HookState
from synchub.sync_lag.model import Evidence, Kind, Strength

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synchub.sync_lag.model import Terms
    from synchub.sync_lag.watch import Watch

HALF: Final = 0.5
"""From this share of a silence that would be too long on it is worth a look."""
LIFE_MS: Final = 3_600_000
"""So long what a poll or a platform has said counts, unless it is said again."""
CANARY_WAIT_MS: Final = 30_000
"""A sign of life may be so late, or by half the time between two, whichever is less."""
LATE_MAX_MS: Final = 900_000
"""Deliveries that are usually later than this are not waited for."""
TYPICAL_MIN_MS: Final = 2000
COVERAGE: Final = 0.99
COVERAGE_LOW: Final = 0.90
FOUND_MIN: Final = 100
FOUND_MIN_LOW: Final = 30
UNSEEN_MIN: Final = 3
MINUTES: Final = 5
"""So far back refused deliveries are looked at."""
REFUSED_MIN: Final = 5
REFUSED_SHARE: Final = 2
"""Times as many refused as accepted ones."""
SILENT_KINDS: Final = frozenset({Kind.SILENCE, Kind.TOPIC_SILENCE, Kind.CANARY})
"""What our own deafness would explain too."""


def gather(watch: Watch, now_ms: int, terms: Terms, *, ours: str, is_behind: bool) -> tuple[Evidence, ...]:
    """Return everything that speaks against the account now, each since it first did.

    ``ours`` says why nobody is heard, if so: then silence blames no account. ``is_behind``: what has
    arrived may not have been heard yet, so that polls prove nothing either.
    """
    found = list(_all(watch, now_ms, terms))
    if ours:
        excused = SILENT_KINDS | ({Kind.UNSEEN} if is_behind else set())
        if any(one.kind in excused for one in found):
            found = [one for one in found if one.kind not in excused]
            found.append(Evidence(kind=Kind.OURS, strength=Strength.WEAK, at_ms=now_ms, sentence=ours))
    before = {one.kind: one.at_ms for one in watch.evidence}
    return tuple(replace(one, at_ms=min(one.at_ms, before.get(one.kind, one.at_ms))) for one in found)


def canaries_missed(watch: Watch, now_ms: int, terms: Terms, *, since_ms: int = 0) -> int:
    """How many signs of life were due, and did not come, since anything was heard."""
    canary = watch.canary
    heard_ms = max(watch.signed_ms, watch.deaf_ms, since_ms)
    if canary.every_ms:
        wait_ms = min(canary.every_ms // 2, CANARY_WAIT_MS)
        return max(0, (now_ms - heard_ms - wait_ms) // canary.every_ms) if canary.last_ms else 0
    wait_ms = min(terms.canary_every_ms // 2, CANARY_WAIT_MS)
    wait_ms = max(wait_ms, min(watch.delays.quantile_ms(0.99), terms.canary_every_ms))
    return sum(heard_ms < asked_ms <= now_ms - wait_ms for asked_ms in canary.asked)


def grace_ms(watch: Watch, terms: Terms) -> int:
    """How late a delivery may be before a poll that finds its change proves it lost."""
    return max(terms.grace_ms, min(watch.delays.quantile_ms(0.999), LATE_MAX_MS))


def typical_ms(watch: Watch) -> int:
    """How late nearly all deliveries are at most."""
    return max(TYPICAL_MIN_MS, min(watch.delays.quantile_ms(0.99), LATE_MAX_MS))


def duration(ms: int) -> str:
    """Return a length of time in words."""
    seconds = max(0, ms) // 1000
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _all(watch: Watch, now_ms: int, terms: Terms) -> Iterator[Evidence]:
    yield from _silence(watch, now_ms, terms)
    yield from _canary(watch, now_ms, terms)
    yield from _polls(watch, now_ms, terms)
    yield from _coverage(watch, now_ms)
    yield from _platform(watch, now_ms)
    yield from _refused(watch, now_ms)


def _silence(watch: Watch, now_ms: int, terms: Terms) -> Iterator[Evidence]:
    share = watch.whole.silence(now_ms, terms)
    if share > HALF:
        usual = watch.whole.rhythm.expected(watch.whole.quiet_ms, now_ms)
        sentence = (
            f"It is silent for {duration(now_ms - watch.whole.quiet_ms)}, in which {usual:.0f} deliveries "
            f"are usual: {share:.0%} of what would be too long."
        )
        yield _new(Kind.SILENCE, _strength_of(share), now_ms, sentence)
    # With one topic, that topic is the whole.
    silent = {
        name: share
        for name, stream in (watch.topics.items() if len(watch.topics) > 1 else ())
        if (share := stream.silence(now_ms, terms)) > HALF
    }
    if silent:
        sentence = f"Nothing comes under {', '.join(sorted(silent))} any more."
        yield _new(Kind.TOPIC_SILENCE, _strength_of(max(silent.values())), now_ms, sentence)


def _strength_of(share: float) -> Strength:
    return Strength.MEDIUM if share > 1 else Strength.WEAK


def _canary(watch: Watch, now_ms: int, terms: Terms) -> Iterator[Evidence]:
    if watch.canary.is_mute:
        sentence = "Its signs of life have stopped, although deliveries arrive."
        yield _new(Kind.CANARY, Strength.WEAK, now_ms, sentence)
        return
    missed = canaries_missed(watch, now_ms, terms)
    if not missed:
        return
    strength = Strength.WEAK if missed == 1 else Strength.MEDIUM
    if missed >= terms.canary_missed_max:
        strength = Strength.DECISIVE
    noun = "sign of life has" if missed == 1 else "signs of life in a row have"
    sentence = f"{missed} {noun} not come; the last was {duration(now_ms - watch.canary.last_ms)} ago."
    if not watch.canary.last_ms:
        sentence = f"{missed} {noun} not come, and none ever has."
    yield _new(Kind.CANARY, strength, now_ms, sentence)


def _polls(watch: Watch, now_ms: int, terms: Terms) -> Iterator[Evidence]:
    polls = watch.polls
    heard_ms = max(watch.whole.heard_ms, watch.echo_ms)
    doubted_ms = polls.doubted_ms if now_ms - polls.doubted_ms >= grace_ms(watch, terms) else 0
    for changed_ms in (polls.unseen_ms, doubted_ms):
        if changed_ms and heard_ms < changed_ms:
            sentence = (
                f"A poll found a change made {duration(now_ms - changed_ms)} ago of which no delivery told, "
                "and none has arrived since."
            )
            yield _new(Kind.UNSEEN, Strength.DECISIVE, now_ms, sentence)
            break
    if polls.lost_ms and now_ms - polls.lost_ms < LIFE_MS:
        sentence = (
            f"A poll found, {duration(now_ms - polls.lost_ms)} ago, a change of which no delivery told."
        )
        yield Evidence(kind=Kind.LOST, strength=Strength.MEDIUM, at_ms=polls.lost_ms, sentence=sentence)


def _coverage(watch: Watch, now_ms: int) -> Iterator[Evidence]:
    found, unseen = watch.coverage(now_ms)
    if unseen < UNSEEN_MIN:
        return
    share = (found - unseen) / found
    is_low = found >= FOUND_MIN_LOW and share < COVERAGE_LOW
    if is_low or (found >= FOUND_MIN and share < COVERAGE):
        strength = Strength.DECISIVE if is_low else Strength.MEDIUM
        sentence = f"Of {found} changes that polls found within a day, {unseen} were never delivered."
        yield _new(Kind.COVERAGE, strength, now_ms, sentence)


def _platform(watch: Watch, now_ms: int) -> Iterator[Evidence]:
    if watch.hook_state is HookState.SOUND or now_ms - watch.hook_ms >= LIFE_MS:
        return
    is_warning = watch.hook_state is HookState.WARNED
    what = {
        HookState.WARNED: "The platform says that it may stop sending.",
        HookState.MISSING: "The platform is not asked to send any more: a subscription is missing.",
        HookState.DISABLED: "The platform has switched its deliveries off.",
    }[watch.hook_state]
    yield Evidence(
        kind=Kind.WARNED if is_warning else Kind.SUBSCRIPTION,
        strength=Strength.WEAK if is_warning else Strength.DECISIVE,
        at_ms=watch.hook_ms,
        sentence=f"{what} {watch.hook_sentence}".strip(),
    )


def _refused(watch: Watch, now_ms: int) -> Iterator[Evidence]:
    recent = [minute for minute in watch.minutes if minute[0] > now_ms // 60_000 - MINUTES]
    heard, refused = sum(minute[1] for minute in recent), sum(minute[2] for minute in recent)
    if refused >= REFUSED_MIN and refused >= REFUSED_SHARE * heard:
        sentence = (
            f"{refused} deliveries of the last minutes were refused because no secret had signed them, and "
            f"{heard} were taken: is the secret right?"
        )
        yield _new(Kind.REJECTING, Strength.WEAK, now_ms, sentence)


def _new(kind: Kind, strength: Strength, now_ms: int, sentence: str) -> Evidence:
    return Evidence(kind=kind, strength=strength, at_ms=now_ms, sentence=sentence)
