"""Every setting of the hub: its default, its limit and one sentence why.

The docstring under a field *is* its documentation: ``config/synchub.toml`` and
``docs/settings.md`` are written from it, and a test keeps them equal. A value
comes from the environment (``SYNCHUB_REDIS__URL``) before the file named by
``SYNCHUB_CONFIG`` (``config/synchub.toml`` by default) before the default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from synchub.errors import Misconfigured
from synchub.sync_settings import (
    AuthoritySettings,
    HookGuardSettings,
    PollingSettings,
    Section,
    SyncSettings,
    UpstreamSettings,
    checked_networks,
)

DEFAULT_FILE = Path("config/synchub.toml")
_FILE_VARIABLE = "SYNCHUB_CONFIG"


class RedisSettings(Section):
    """The store of stock, ledger and feeds, and the queue of the workers."""

    url: str = "redis://127.0.0.1:6379/0"
    """Data store: Redis or Valkey, 7.0 or newer. `unix://` and `rediss://` work too."""
    queue_url: str = ""
    """Where arq keeps its jobs; empty means the same server. arq cannot run on a cluster, the data can."""
    command_timeout_ms: int = Field(default=2000, ge=50, le=60_000)
    """A command not answered by then has an unknown outcome and is reported as such."""
    connect_timeout_ms: int = Field(default=1000, ge=50, le=60_000)
    """How long a connection attempt may take."""
    waiting_max: int = Field(default=20_000, ge=1)
    """Most commands that may wait in one process; beyond it callers get `store_unavailable` at once."""
    unsafe: Literal["refuse", "report"] = "refuse"
    """What to do at start with a server that could lose or evict data."""


class ServerSettings(Section):
    """The HTTP face."""

    host: str = "127.0.0.1"
    """Address to listen on; put a TLS proxy in front before you open it."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    public_url: str = ""
    """How platforms reach this hub (`https://hub.example.com`); empty means host and port."""
    header_timeout_ms: int = Field(default=10_000, ge=100, le=120_000)
    """A connection that has not sent its whole request head by then is closed."""
    body_timeout_ms: int = Field(default=10_000, ge=100, le=120_000)
    """A delivery whose body has not arrived by then is cut off with 408."""
    keepalive_ms: int = Field(default=75_000, ge=1000)
    """How long an idle connection is kept open."""
    drain_ms: int = Field(default=5000, ge=0, le=600_000)
    """On SIGTERM, how long open requests and feeds get to end."""


class IngressSettings(Section):
    """What is taken in, and how far the workers may fall behind."""

    stream_max: int = Field(default=1_000_000, ge=100)
    """Most deliveries that may wait to be applied; beyond it webhooks get 503 so that platforms retry."""
    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=16_777_216)
    """Upper limit of every connector's own body limit."""
    batch_max: int = Field(default=64, ge=1, le=256)
    """Most deliveries a worker takes at once, and most changes in one script: 64 block Redis under 1 ms."""
    claim_idle_ms: int = Field(default=3000, ge=100, le=60_000)
    """A delivery whose worker has said nothing for so long is taken over by another."""
    claim_every_ms: int = Field(default=1000, ge=50, le=60_000)
    """How often a worker looks for deliveries that a dead one left."""
    tries_max: int = Field(default=5, ge=1, le=100)
    """After so many failed tries a delivery goes to the dead-letter list."""
    dead_max: int = Field(default=10_000, ge=1)
    """Most dead letters kept; the oldest go first, counted."""
    quarantine_max: int = Field(default=10_000, ge=1)
    """Most quarantined deliveries kept; the oldest go first, counted."""
    future_skew_ms: int = Field(default=300_000, ge=0)
    """A source time further ahead than this is not believed: the whole delivery is quarantined."""


class StockSettings(Section):
    """How numbers become the truth."""

    max_age_ms: int = Field(default=900_000, ge=1000)
    """A source without evidence for so long is stale: the next one takes over, or the answer is degraded."""
    low_threshold: int = Field(default=5, ge=1)
    """Below so many units an item is LOW_STOCK."""
    parked_max: int = Field(default=100_000, ge=1)
    """Most items per merchant whose events wait for a mapping; beyond it their deliveries are quarantined."""
    ledger_max: int = Field(default=1_000_000, ge=1000)
    """About how many ledger entries are kept per merchant after they have been archived."""
    settle_memory_hours: int = Field(default=168, ge=1, le=24 * 90)
    """A sale is kept among the open ones at least so long: a source that joins later may lack it."""
    settle_after_hours: int = Field(default=24, ge=1, le=24 * 90)
    """A sale that some source's level does not contain after so long is counted as overdue, for a person."""
    names_days: int = Field(default=60, ge=1, le=400)
    """How long the names of a sale are kept after it has left the reckoning, so that late news finds it."""
    lapse_max: int = Field(default=64, ge=1, le=256)
    """Most changes by time alone that are worked off in one step of the store."""
    clock: Literal["guarded", "proposed"] = "guarded"
    """`guarded`: the time that passes is the store's; `proposed`: whatever a caller says, for simulations."""
    seen_hours: int = Field(default=96, ge=24, le=168)
    """How long ids of unversioned changes are remembered; longer than any platform retries."""


class ReservationSettings(Section):
    """Holds that agents place before they pay."""

    remember_hours: int = Field(default=48, ge=1, le=24 * 30)
    """How long a hold that is over, and the first answer to a key, can be asked for again."""
    regrant_window_ms: int = Field(default=20_000, ge=0, le=600_000)
    """After a loss of the store nothing new is granted for so long, while what was granted is shown again."""
    batch_max: int = Field(default=32, ge=1, le=256)
    """Most requests for holds that one process has decided in one step of the store."""


class FeedSettings(Section):
    """What agents are told, and how fast."""

    retained: int = Field(default=100_000, ge=100)
    """About how many changes per merchant a reader can resume over; further back it gets a snapshot."""
    bound_ms: int = Field(default=1000, ge=500, le=60_000)
    """Staleness bound granted to a reader that asks for none; a heartbeat comes every third of it."""
    read_block_ms: int = Field(default=100, ge=10, le=1000)
    """How long one read of the feed waits for news; an idle feed is verified this often."""
    read_max: int = Field(default=512, ge=1, le=4096)
    """Most changes taken in one read."""
    snapshot_part: int = Field(default=500, ge=1, le=5000)
    """Most items in one part of a snapshot."""
    skus_max: int = Field(default=1000, ge=1)
    """Most SKUs that one reader may name in its query."""
    set_skus_max: int = Field(default=50_000, ge=1, le=200_000)
    """Most SKUs of one set that readers follow by its id."""
    sets_per_agent: int = Field(default=20, ge=1)
    """Most sets that one agent may have."""
    set_life_ms: int = Field(default=86_400_000, ge=1000)
    """A set that nobody has used for so long is gone."""
    readers_max: int = Field(default=20_000, ge=1)
    """Most readers of one process."""
    readers_per_merchant: int = Field(default=10_000, ge=1)
    """Most readers of one merchant and process, whatever their keys."""
    readers_per_agent: int = Field(default=100, ge=1)
    """Most readers of one agent key and process."""
    wait_max_ms: int = Field(default=30_000, ge=0, le=120_000)
    """Longest that a poll for changes may ask to wait for one."""
    ticket_ttl_ms: int = Field(default=30_000, ge=1000, le=600_000)
    """How long a browser's ticket can be used after it was given."""
    tickets_per_agent: int = Field(default=200, ge=1, le=10_000)
    """Most tickets that one agent key is given in the time that a ticket lives."""
    buffer_max_bytes: int = Field(default=65_536, ge=4096)
    """A reader that lets more than this pile up is written nothing more until it has taken most of it."""
    owed_max_ms: int = Field(default=10_000, ge=100)
    """A reader that takes nothing for so long while it is owed something is told `bye slow`."""
    owed_max: int = Field(default=10_000, ge=1)
    """Most SKUs that are noted for a slow reader of a prefix or of everything; beyond it `bye slow`."""
    connection_age_ms: int = Field(default=3_600_000, ge=1000)
    """A feed connection is ended after this long, give or take a fifth, so that keys and load move."""


class SubscriptionSettings(Section):
    """What is pushed to addresses of agents."""

    per_agent: int = Field(default=20, ge=1)
    """Most subscriptions of one agent key, those included that have ended and are still shown."""
    per_merchant: int = Field(default=500, ge=1, le=10_000)
    """Most subscriptions of one merchant; one process tells all of them."""
    in_all: int = Field(default=10_000, ge=1)
    """Most subscriptions of the hub."""
    skus_max: int = Field(default=1000, ge=1, le=10_000)
    """Most SKUs that one subscription may name."""
    grant_ms: int = Field(default=604_800_000, ge=1000)
    """For how long a subscription is granted at most, and when it asks for no time."""
    items_max: int = Field(default=100, ge=1, le=1000)
    """Most items in one message; 100 stay below the 20 kB that receivers are used to."""
    pending_max: int = Field(default=10_000, ge=1)
    """Most untold SKUs in memory per subscription by prefix; beyond it they are looked up again."""
    at_once: int = Field(default=100, ge=1, le=10_000)
    """Most requests of one worker at once; endpoints that failed last have a quarter of them."""
    timeout_ms: int = Field(default=5000, ge=50, le=60_000)
    """An endpoint that has not answered by then has failed."""
    retry_base_ms: int = Field(default=1000, ge=1)
    """Longest first pause after a failure; it doubles, with full jitter."""
    retry_max_ms: int = Field(default=3_600_000, ge=1)
    """Longest pause between two attempts, also when the endpoint asks for a longer one."""
    disable_after_ms: int = Field(default=432_000_000, ge=1)
    """An endpoint that has taken nothing for so long is left alone until its subscription is renewed."""
    attempts_kept: int = Field(default=100, ge=1, le=10_000)
    """Newest lines of each subscription's log."""
    private_targets: str = ""
    """Networks that endpoints may lie in though they are not public (`10.1.0.0/16, fd00::/8`)."""

    @field_validator("private_targets")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        return checked_networks(text)


class RefetchSettings(Section):
    """Fetching levels that a delivery could not tell."""

    confirm_after_ms: int = Field(default=30_000, ge=0)
    """An unversioned fall counts at once and is confirmed by a fetch after this long."""
    sweep_every_ms: int = Field(default=2000, ge=100)
    """How often a worker looks for fetches that are due; a new one is started at once."""
    backoff_base_ms: int = Field(default=1000, ge=10)
    """First pause after a failed fetch; it doubles, with full jitter."""
    backoff_max_ms: int = Field(default=60_000, ge=100)
    """Longest pause after failed fetches."""
    items_max: int = Field(default=10_000, ge=1)
    """Most items of an account that are fetched one by one; when more wait, everything is polled instead."""


class ArchiveSettings(Section):
    """The copy of the ledger that does not die with the store."""

    folder: Path = Path(".synchub/archive")
    """Where workers write it; all of them must see the same folder, best on another disk than the store's."""
    every_ms: int = Field(default=1000, ge=10, le=60_000)
    """How often a worker looks for something to archive."""
    wait_ms: int = Field(default=10_000, ge=0, le=3_600_000)
    """The oldest entry waits at most about so long for others to share a segment with."""
    segment_max: int = Field(default=1000, ge=1, le=10_000)
    """Most entries of one segment; so many are archived without waiting."""
    checkpoint_every: int = Field(default=100, ge=1)
    """After so many segments the state they add up to is written beside them."""
    backlog_max: int = Field(default=2_000_000, ge=1000)
    """Most ledger entries that may wait; beyond it the oldest go, counted and noted in the chain."""


class DecisionSettings(Section):
    """The record of what agents asked and were told."""

    buffer_max: int = Field(default=10_000, ge=1)
    """Most decisions that wait in one process to be written; beyond it the oldest go, counted."""
    flush_ms: int = Field(default=200, ge=1, le=60_000)
    """How long a decision waits for others to be written with."""
    stream_max: int = Field(default=100_000, ge=100)
    """About how many decisions per merchant may wait for the archive; beyond it the oldest go."""


class LimitSettings(Section):
    """How much an agent may ask, where its key does not say otherwise."""

    agent_rate_per_s: int = Field(default=500, ge=1, le=10_000)
    """Requests a second, on average; beyond it and the burst they are answered 429."""
    agent_burst: int = Field(default=2000, ge=1, le=1_000_000)
    """Requests at once, after a pause."""


class WorkerSettings(Section):
    """The worker process."""

    port: int = Field(default=0, ge=0, le=65_535)
    """Port for the worker's `/livez`, `/readyz` and `/metrics`; 0 opens none."""


class SecretsSettings(Section):
    """Encryption of account credentials at rest."""

    key: SecretStr = SecretStr("")
    """32 bytes in base64; when empty the key file is used."""
    key_file: Path = Path(".synchub/secret.key")
    """Created on first run, readable by its owner only. Losing it means entering every credential again."""
    rotation_overlap_hours: int = Field(default=24, ge=0, le=720)
    """How long an old signing secret stays valid after a rotation."""


class LogSettings(Section):
    """What the hub says about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    form: Literal["json", "console"] = "json"
    """One JSON object per line, or lines for a person."""
    sentry_dsn: SecretStr = SecretStr("")
    """Faults of the hub itself are sent there, without bodies, headers or secrets."""


class Settings(BaseSettings):
    """All sections."""

    model_config = SettingsConfigDict(
        env_prefix="SYNCHUB_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    redis: RedisSettings = RedisSettings()
    server: ServerSettings = ServerSettings()
    ingress: IngressSettings = IngressSettings()
    stock: StockSettings = StockSettings()
    reservations: ReservationSettings = ReservationSettings()
    feed: FeedSettings = FeedSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    refetch: RefetchSettings = RefetchSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    polling: PollingSettings = PollingSettings()
    sync: SyncSettings = SyncSettings()
    hook_guard: HookGuardSettings = HookGuardSettings()
    authority: AuthoritySettings = AuthoritySettings()
    archive: ArchiveSettings = ArchiveSettings()
    decisions: DecisionSettings = DecisionSettings()
    limits: LimitSettings = LimitSettings()
    worker: WorkerSettings = WorkerSettings()
    secrets: SecretsSettings = SecretsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: explicit values, environment, file."""
        file = Path(os.environ.get(_FILE_VARIABLE, DEFAULT_FILE))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def load_settings(**sections: dict[str, Any]) -> Settings:
    """Resolve the settings; ``sections`` override single values (``redis={"url": …}``).

    Raises:
        Misconfigured: a value that does not fit; the sentence names it and what would fit.
    """
    _refuse_unknown_names()
    _refuse_missing_file()
    try:
        return Settings(**sections)  # type: ignore[arg-type]  # sections of unchecked values
    except ValidationError as problem:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors(include_input=False)]
        msg = "These settings do not fit. " + "; ".join(lines)
        raise Misconfigured(msg) from None


def _refuse_unknown_names() -> None:
    """A misspelt environment name must not silently do nothing."""
    known = {_FILE_VARIABLE} | {
        f"SYNCHUB_{section}__{name}".upper()
        for section, field in Settings.model_fields.items()
        for name in getattr(field.annotation, "model_fields", {})
    }
    unknown = sorted(name for name in os.environ if name.startswith("SYNCHUB_") and name not in known)
    if unknown:
        msg = f"No such setting: {', '.join(unknown)}. `synchub config` lists them all."
        raise Misconfigured(msg)


def _refuse_missing_file() -> None:
    """A file that was asked for must be there; the default one need not."""
    named = os.environ.get(_FILE_VARIABLE)
    if named and not Path(named).is_file():
        msg = f"{_FILE_VARIABLE} names {named}, which is not there."
        raise Misconfigured(msg)
