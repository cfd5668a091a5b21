"""What is heard and found goes in, a judgement comes out. Pure: time and settings are arguments.

The order is: ``hear``, ``find``, ``learn_of_hooks`` as observations come, then ``judge``; ``verdict`` says
what is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub.connector_kit.contract import HookState
from synchub.sync_lag import evidence as signs
from synchub.sync_lag.model import AccountSync, SyncState
from synchub.sync_lag.rhythm import HOUR_MS, WEEK_H
from synchub.sync_lag.states import enter, next_state, suspicion
from synchub.sync_lag.watch import ASKS_MAX, DAY_H, MINUTES_KEPT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from synchub.sync_lag.model import About, Heard, HookFinding, PollFinding, Second, Terms
    from synchub.sync_lag.watch import Watch

CROWD: Final = 2
"""So many accounts whose silence is odd, and nobody heard: the cause is ours."""


def hear(watch: Watch, second: Second, now_ms: int, terms: Terms) -> None:
    """Take in what one process heard of the account within about a second."""
    for heard in second.heard:
        _hear_topic(watch, heard, terms)
    count = sum(heard.count for heard in second.heard)
    if count:
        first_ms = min(heard.first_ms for heard in second.heard)
        last_ms = max(heard.last_ms for heard in second.heard)
        watch.canary.is_mute = watch.canary.is_mute or _is_contradicted(watch, first_ms, terms)
        watch.canary.asked = [asked for asked in watch.canary.asked if asked > last_ms]
        watch.whole.hear(first_ms, last_ms, count, terms, is_sound=watch.is_sound)
        watch.deliveries += count
        watch.recovery.deliveries += count
    watch.echo_ms = max(watch.echo_ms, second.echo_ms)
    if second.canary_ms > watch.canary.last_ms:
        _hear_canary(watch, second)
    if count or second.refused:
        _count_minute(watch, now_ms, count, second.refused)


def ask(watch: Watch, at_ms: int) -> None:
    """Note that a sign of life has been asked for."""
    watch.canary.asked = [*watch.canary.asked, at_ms][-ASKS_MAX:]
    watch.canary.asked_from_ms = watch.canary.asked_from_ms or at_ms


def find(watch: Watch, finding: PollFinding, about: About, terms: Terms) -> None:
    """Take in what a poll found; one that failed says nothing."""
    if finding.failed:
        return
    watch.freshest_ms = max(watch.freshest_ms, finding.newest_ms or 0)
    if not about.posts:
        watch.whole.rhythm.note(finding.at_ms, finding.records)
        return
    oldest_ms = finding.oldest_unseen_ms
    if finding.unseen and (oldest_ms or finding.at_ms) < watch.from_ms:
        return  # it was before anybody listened
    age_ms = finding.at_ms - oldest_ms if oldest_ms is not None else 0
    is_late = finding.unseen > 0 and age_ms >= signs.typical_ms(watch)
    _count_coverage(watch, finding, unseen=finding.unseen if is_late else 0)
    if not finding.unseen and finding.reached_end:
        _find_nothing(watch, finding.at_ms, terms)
    elif finding.unseen:
        _find_unseen(watch, oldest_ms or finding.at_ms, finding.at_ms, terms, is_late=is_late)
    heard_since = max(watch.whole.heard_ms, watch.echo_ms) > watch.polls.last_ms
    if finding.unseen and (is_late or not heard_since):
        watch.recovery.polls = 0
    elif finding.reached_end and watch.state is SyncState.RECOVERING:
        watch.recovery.polls += 1
    watch.polls.last_ms = max(watch.polls.last_ms, finding.at_ms)


def learn_of_hooks(watch: Watch, finding: HookFinding) -> None:
    """Take in what the platform said of its deliveries."""
    if finding.state is not watch.hook_state or finding.state is HookState.SOUND:
        watch.hook_sentence = finding.sentence
    watch.hook_state, watch.hook_ms = finding.state, max(watch.hook_ms, finding.at_ms)


def go_deaf(watch: Watch, now_ms: int) -> None:
    """Say that nobody listened until now: no silence before it counts, and none is learned from."""
    for stream in watch.streams:
        stream.restart(now_ms)
    watch.deaf_ms = max(watch.deaf_ms, now_ms)


def judge(
    watch: Watch, about: About, now_ms: int, terms: Terms, *, ours: str = "", is_behind: bool = False
) -> SyncState:
    """Bring the account into the state that everything known calls for, and return the one before."""
    before = watch.state
    _pass_week(watch, now_ms)
    evidence = signs.gather(watch, now_ms, terms, ours=ours, is_behind=is_behind) if about.posts else ()
    after = next_state(watch, evidence, about, terms)
    if after is not before:
        enter(watch, after, evidence, now_ms)
        evidence = signs.gather(watch, now_ms, terms, ours=ours, is_behind=is_behind) if about.posts else ()
    watch.evidence, watch.judged_ms = evidence, now_ms
    if not watch.is_sound:
        for stream in watch.streams:
            stream.rhythm.spoil()
    return before


def oddness(watch: Watch, since_ms: int, now_ms: int, terms: Terms) -> float:
    """How odd it is that the account has not been heard since a time: 0 not at all, from 1 on too long."""
    missed = signs.canaries_missed(watch, now_ms, terms, since_ms=since_ms)
    by_canary = 0.0 if watch.canary.is_mute else missed / terms.canary_missed_max
    return max(watch.whole.silence(now_ms, terms, since_ms=since_ms), by_canary)


def everyone_is_silent(watches: Collection[Watch], now_ms: int, terms: Terms) -> str:
    """Return a sentence if nobody has been heard for so long that it is odd for several; empty otherwise."""
    heard_ms = max((watch.signed_ms for watch in watches), default=0)
    if not heard_ms:
        return ""
    odd = sum(oddness(watch, heard_ms, now_ms, terms) > signs.HALF for watch in watches)
    if odd < CROWD:
        return ""
    return (
        f"Nobody has been heard for {signs.duration(now_ms - heard_ms)}, which is odd for {odd} accounts at "
        "once: look at our own receiver, its name, its certificate and its network."
    )


def verdict(watch: Watch, about: About, now_ms: int, terms: Terms) -> AccountSync:
    """Return what is known of the account."""
    found, unseen = watch.coverage(now_ms)
    silence = watch.whole.silence(now_ms, terms) if about.posts else 0.0
    shown = {one.kind: one for one in (*watch.kept, *watch.evidence)}
    return AccountSync(
        account=about.account,
        merchant=about.merchant,
        platform=about.platform,
        state=watch.state,
        since_ms=watch.since_ms,
        suspicion=round(suspicion(watch.evidence, silence), 3),
        evidence=tuple(sorted(shown.values(), key=lambda one: (-one.strength, one.at_ms))),
        heard_ms=watch.whole.heard_ms,
        freshest_ms=watch.freshest_ms,
        is_busy=watch.whole.rhythm.is_busy(now_ms),
        deliveries=watch.deliveries,
        canary_ms=watch.canary.last_ms,
        found=found,
        unseen=unseen,
        topics=_silences(watch, now_ms, terms),
        judged_ms=now_ms,
    )


def _silences(watch: Watch, now_ms: int, terms: Terms) -> Mapping[str, float]:
    return {name: round(stream.silence(now_ms, terms), 3) for name, stream in sorted(watch.topics.items())}


def _pass_week(watch: Watch, now_ms: int) -> None:
    week = now_ms // (WEEK_H * HOUR_MS)
    if watch.week and week != watch.week:
        watch.delays.fade()
    watch.week = week


def _hear_topic(watch: Watch, heard: Heard, terms: Terms) -> None:
    stream = watch.topic(heard.topic)
    if stream is not watch.whole:
        stream.hear(heard.first_ms, heard.last_ms, heard.count, terms, is_sound=watch.is_sound)
    watch.freshest_ms = max(watch.freshest_ms, heard.newest_ms)
    for step, count in heard.delays.items():
        watch.delays.add(step, count)


def _hear_canary(watch: Watch, second: Second) -> None:
    canary = watch.canary
    canary.last_ms, canary.every_ms = second.canary_ms, second.canary_every_ms
    canary.asked = [asked for asked in canary.asked if asked > second.canary_ms]
    canary.asked_from_ms, canary.is_mute = 0, False
    if watch.recovery.by_canary:
        watch.recovery.deliveries += 1


def _is_contradicted(watch: Watch, at_ms: int, terms: Terms) -> bool:
    """Whether a delivery arrives although signs of life have been missing for long enough to be believed."""
    canary = watch.canary
    due_ms = (canary.last_ms if canary.every_ms else canary.asked_from_ms) or at_ms
    every_ms = canary.every_ms or terms.canary_every_ms
    return at_ms - max(due_ms, watch.deaf_ms) > (terms.canary_missed_max + 1) * every_ms


def _find_nothing(watch: Watch, at_ms: int, terms: Terms) -> None:
    for stream in watch.streams:
        stream.find_quiet(at_ms, terms, is_sound=watch.is_sound)


def _find_unseen(watch: Watch, oldest_ms: int, at_ms: int, terms: Terms, *, is_late: bool) -> None:
    polls = watch.polls
    if max(watch.whole.heard_ms, watch.echo_ms) >= oldest_ms:
        # Others arrive; one that is still on its way is not lost yet.
        polls.lost_ms = at_ms if is_late else polls.lost_ms
    elif at_ms - oldest_ms >= signs.grace_ms(watch, terms):
        polls.unseen_ms = oldest_ms
    elif not polls.doubted_ms or polls.doubted_ms <= max(watch.whole.heard_ms, watch.echo_ms):
        polls.doubted_ms = oldest_ms


def _count_coverage(watch: Watch, finding: PollFinding, *, unseen: int) -> None:
    if not finding.records:
        return
    hour, days = finding.at_ms // HOUR_MS, watch.polls.days
    if not days or days[-1][0] != hour:
        days.append([hour, 0, 0])
    days[-1][1] += finding.records
    days[-1][2] += unseen
    watch.polls.days = days[-DAY_H:]


def _count_minute(watch: Watch, now_ms: int, heard: int, refused: int) -> None:
    minute, minutes = now_ms // 60_000, watch.minutes
    if not minutes or minutes[-1][0] != minute:
        minutes.append([minute, 0, 0])
    minutes[-1][1] += heard
    minutes[-1][2] += refused
    watch.minutes = minutes[-MINUTES_KEPT:]
