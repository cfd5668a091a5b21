"""Settings of everything that keeps the hub in step with platforms; ``settings.py`` has the others."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """A table of the settings: unknown names are refused, docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def checked_networks(text: str) -> str:
    """Return networks in CIDR form, separated by commas, as they are.

    Raises:
        ValueError: one of them is no network.
    """
    for part in filter(None, map(str.strip, text.split(","))):
        ip_network(part)
    return text


class UpstreamSettings(Section):
    """Calls to platforms: how long, how many, how often again, and when not at all."""

    deadline_ms: int = Field(default=10_000, ge=100)
    """A platform's answer must be complete by then."""
    answer_max_bytes: int = Field(default=4_194_304, ge=1024)
    """Largest platform answer that is read."""
    wait_max_ms: int = Field(default=10_000, ge=0)
    """A call that would have to wait longer for its turn in the platform's limits is put off instead."""
    reserve_percent: int = Field(default=25, ge=0, le=90)
    """Share of an account's limits that is kept for single items; sweeps wait when no more is left."""
    tries_max: int = Field(default=3, ge=1, le=10)
    """How often a call that may be repeated is sent within its deadline."""
    retry_percent: int = Field(default=10, ge=0, le=100)
    """Repeated calls, of a hundred calls of an account."""
    backoff_base_ms: int = Field(default=500, ge=10)
    """First pause before a call is repeated; it doubles, with full jitter."""
    backoff_max_ms: int = Field(default=10_000, ge=100)
    """Longest pause before a call is repeated."""
    breaker_window_ms: int = Field(default=60_000, ge=1000)
    """An account's breaker looks back on the calls of so long."""
    breaker_calls_min: int = Field(default=10, ge=1)
    """With fewer calls in that time nothing is concluded."""
    breaker_failed_percent: int = Field(default=50, ge=1, le=100)
    """From so many failed calls of a hundred on, the breaker opens."""
    breaker_slow_ms: int = Field(default=5000, ge=10)
    """A call that took so long was slow."""
    breaker_slow_percent: int = Field(default=80, ge=1, le=100)
    """From so many slow calls of a hundred on, the breaker opens."""
    breaker_open_ms: int = Field(default=5000, ge=10)
    """How long it stays open the first time; longer with every time in a row, with jitter."""
    breaker_open_max_ms: int = Field(default=300_000, ge=100)
    """It never stays open for longer."""
    breaker_permits: int = Field(default=3, ge=1, le=100)
    """Calls that a half-open breaker lets through, of all processes together."""
    share_every_ms: int = Field(default=500, ge=50)
    """How often a process looks at what the others have learned about a platform."""
    connections_max: int = Field(default=500, ge=1)
    """Most connections of one process to platforms; further calls wait for one, within their deadline."""
    private_targets: str = ""
    """Networks that platforms may lie in though they are not public (`10.1.0.0/16, fd00::/8`)."""

    @field_validator("private_targets")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        return checked_networks(text)


class PollingSettings(Section):
    """Reading what has changed, where deliveries cannot be relied on."""

    safety_every_ms: int = Field(default=900_000, ge=500)
    """How often a platform is polled although its deliveries arrive."""
    busy_every_ms: int = Field(default=30_000, ge=100)
    """How often a stalled one is polled in hours in which much changes."""
    quiet_every_ms: int = Field(default=300_000, ge=100)
    """How often a stalled one is polled in the other hours."""
    busy_hours: str = Field(default="learned", pattern=r"^(learned|([01]\d|2[0-3])-([01]\d|2[0-4]))$")
    """Hours in which much changes: `learned` from what arrives, or from-to in UTC such as `08-20`."""
    retry_base_ms: int = Field(default=5000, ge=10)
    """First pause after a failed poll; it doubles, with full jitter."""
    retry_max_ms: int = Field(default=300_000, ge=100)
    """Longest pause after failed polls."""
    pages_max: int = Field(default=1000, ge=1)
    """Pages in one turn; the next turn goes on from there."""
    loss_bound_ms: int = Field(default=600_000, ge=0)
    """After the store has lost something, polls begin again so long before the last one."""
    look_every_ms: int = Field(default=1000, ge=50)
    """How often workers look for polls that are due."""


class SyncSettings(Section):
    """Noticing that a platform's deliveries have stopped."""

    look_every_ms: int = Field(default=1000, ge=50)
    """How often silence is judged."""
    silence_floor_ms: int = Field(default=20_000, ge=100)
    """Silence shorter than this is never a sign."""
    false_alarm_weeks: int = Field(default=8, ge=1, le=520)
    """Silence alone may raise one wrong suspicion in so many weeks, of all accounts and topics together."""
    learn_hours: int = Field(default=168, ge=1)
    """Before an account's rhythm has been observed for so long, silence alone says nothing."""
    canary_every_ms: int = Field(default=60_000, ge=500)
    """How often a platform is asked for a sign of life, where it can give one."""
    canary_missed_max: int = Field(default=3, ge=1, le=100)
    """So many signs of life missing in a row say that deliveries do not arrive."""
    grace_ms: int = Field(default=60_000, ge=100)
    """A delivery may be so late before a poll that finds its change proves it lost."""
    recover_deliveries: int = Field(default=3, ge=1)
    """Deliveries that must have arrived before a stalled account is believed to be well again."""
    recover_polls: int = Field(default=2, ge=1)
    """Polls in a row that must have found nothing unheard of before it is."""


class HookGuardSettings(Section):
    """Seeing to it that platforms go on sending."""

    check_every_ms: int = Field(default=600_000, ge=500)
    """How often a platform is asked whether our subscriptions stand, with a fifth of jitter."""
    repairs_max: int = Field(default=3, ge=0)
    """Most repairs of one account in a day; beyond it a person is needed."""


class AuthoritySettings(Section):
    """Answers from the source itself while the store is away."""

    after_ms: int = Field(default=5000, ge=100)
    """The store has been away for so long before sources are asked instead."""
    deadline_ms: int = Field(default=500, ge=50)
    """A source's answer must be complete by then."""
    calls_per_s: float = Field(default=2.0, gt=0)
    """Most calls to one account in a second, of one process."""
    items_max: int = Field(default=200_000, ge=0)
    """Most mapped items that a process keeps for this; what it does not hold is `store_unavailable`."""
    refresh_every_ms: int = Field(default=60_000, ge=100)
    """How often mapped items are read again."""
