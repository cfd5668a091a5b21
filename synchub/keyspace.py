"""Every Redis key the hub uses: who owns it, what type it is, how long it lives.

All keys of one merchant carry the hash tag ``{merchant}``, so that one script
works on one slot and everything runs unchanged on Redis Cluster. Variable parts
stand last and merchants' names cannot contain a brace or a colon, so no SKU,
however odd, can name another key. ``docs/redis-keys.md`` is written from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from synchub.errors import InvalidRequest
from synchub.feed_keys import FEED_FAMILIES, FeedKeys
from synchub.push_keys import PUSH_FAMILIES
from synchub.script_keys import SCRIPT_FAMILIES, Family
from synchub.sync_keys import SYNC_FAMILIES

SEPARATOR: Final = "\x1f"
"""Joins parts inside a field or member; identifiers never contain control characters."""

LIST_SEPARATOR: Final = "\x1e"
"""Ends or joins items of a list inside a field."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What merchants, accounts and agents may be called."""


def check_name(text: str, what: str) -> str:
    """Return the name.

    Raises:
        InvalidRequest: not of the form of names, which are part of URLs and keys.
    """
    if not NAME.fullmatch(text):
        msg = (
            f"{what} must have 1 to 63 characters: a-z, 0-9, hyphen and underscore, "
            "beginning with a letter or digit."
        )
        raise InvalidRequest(msg)
    return text


_families: list[Family] = []


def _family(pattern: str, type_: str, owner: str, lifetime: str, holds: str) -> str:
    _families.append(Family(pattern=pattern, type=type_, owner=owner, lifetime=lifetime, holds=holds))
    return pattern


_INGEST = _family(
    "synchub:{ingest}:stream",
    "stream",
    "ingress",
    "until applied; at most ingress.stream_max",
    "verified deliveries on their way to the workers",
)
_DEAD = _family(
    "synchub:{ingest}:dead",
    "stream",
    "ingress",
    "the newest ingress.dead_max",
    "deliveries that failed ingress.tries_max times",
)
_QUARANTINE = _family(
    "synchub:{ingest}:quarantine",
    "stream",
    "ingress",
    "the newest ingress.quarantine_max",
    "deliveries that are signed and not understood",
)
_WORKERS = _family(
    "synchub:{ingest}:workers",
    "sorted set",
    "ingress",
    "a minute after the last sign of life",
    "running workers by the time of their last sign of life",
)
_REGISTRY = _family(
    "synchub:{registry}:changes",
    "stream",
    "accounts",
    "the newest 10,000",
    "which account or agent record changed; processes follow it",
)
_ACCOUNTS = _family(
    "synchub:{registry}:accounts",
    "hash",
    "accounts",
    "until removed",
    "account name to its record; credentials are encrypted",
)
_REGISTRY_KEY = _family(
    "synchub:{registry}:key",
    "string",
    "accounts",
    "as long as accounts exist",
    "fingerprint of the key that credentials are encrypted with, so that no process uses another",
)
_AGENTS = _family(
    "synchub:{registry}:agents",
    "hash",
    "agents",
    "until revoked",
    "agent name to its record; of the key only a hash",
)
_HEAD = _family(
    "{merchant}:head",
    "hash",
    "stock",
    "as long as the merchant",
    "epoch and former ones, ledger sequence, last feed sequence, the merchant's clock, the server's run; "
    "until when it is frozen, and from when on evidence counts",
)
_SKU = _family(
    "{merchant}:sku:<sku>",
    "hash",
    "stock",
    "as long as the SKU",
    "every source's report on the SKU and the answer that follows from them",
)
_SKUS = _family(
    "{merchant}:skus",
    "sorted set",
    "stock",
    "as long as the merchant",
    "all SKUs, in byte order",
)
_POLICIES = _family(
    "{merchant}:policies",
    "hash",
    "policies",
    "as long as the merchant; the newest 100 versions",
    "every version of the merchant's policies, who made it, and by which operation",
)
_RATE = _family(
    "{merchant}:rate:<agent>",
    "string",
    "agents",
    "until the agent's whole burst is free again",
    "when the agent's requests so far would have been used up at its rate, in µs",
)
_LEDGER = _family(
    "{merchant}:ledger",
    "stream",
    "ledger",
    "until archived, and then about the newest stock.ledger_max; at most archive.backlog_max",
    "every effect, under its sequence",
)
_DECISIONS = _family(
    "{merchant}:decisions",
    "stream",
    "decisions",
    "until archived; at most about decisions.stream_max",
    "what agents asked and were told, numbered",
)
_ARCHIVED = _family(
    "{merchant}:archived",
    "hash",
    "archive",
    "as long as the merchant",
    "how far ledger and decisions lie in the archive, and the hash of the last segment",
)
_ARCHIVE_LEASE = _family(
    "{merchant}:archive-lease",
    "string",
    "archive",
    "10 s after it was taken",
    "which worker writes to the merchant's archive now",
)
_FEED = _family(
    "{merchant}:feed",
    "stream",
    "feed",
    "about the newest feed.retained",
    "every changed answer, under its sequence",
)
_ITEMS = _family(
    "{merchant}:items:<account>",
    "hash",
    "accounts",
    "until mapped otherwise",
    "platform item to the merchant's SKU, or to several with their units",
)
_DECIDED = "{merchant}:decided"
_GROUPS = "{merchant}:groups"
_EVIDENCE = "{merchant}:evidence"
_EVIDENCE_TIMES = "{merchant}:evidence-times"
_DUE = "{merchant}:due"
_GROUP = _family(
    "{merchant}:group:<account>:<group>",
    "set",
    "accounts",
    "until the group is removed",
    "platform items of one product",
)
_LOCATIONS = _family(
    "{merchant}:locations",
    "hash",
    "accounts",
    "until mapped otherwise",
    "account and platform location to the merchant's location",
)
_ROLES = _family(
    "{merchant}:roles",
    "hash",
    "accounts",
    "until the account is removed",
    "account to role, rank and whose identifiers it uses",
)
_WATERMARKS = _family(
    "{merchant}:watermarks",
    "hash",
    "stock",
    "until the account is removed",
    "account to the time up to which it is known to be complete",
)
_HEARD = _family(
    "{merchant}:heard",
    "hash",
    "stock",
    "until the account is removed",
    "account to the time at which the newest delivery or read of it arrived that was applied",
)
_SEEN = _family(
    "{merchant}:seen:<day>",
    "set",
    "stock",
    "stock.seen_hours and a day",
    "ids of unversioned changes already counted",
)
_PARKED = _family(
    "{merchant}:parked",
    "sorted set",
    "stock",
    "until mapped; at most stock.parked_max",
    "account and item of events that wait for a mapping, by the time of the first",
)
_PARKED_ITEM = _family(
    "{merchant}:parked:<account><item>",
    "hash",
    "stock",
    "until mapped",
    "the waiting events of one item, levels conflated to the newest",
)
_REFETCH = _family(
    "{merchant}:refetch:<account>",
    "sorted set",
    "polling",
    "until fetched",
    "platform items to fetch, by the time the fetch is due",
)
_FETCH_LEASE = _family(
    "{merchant}:fetch-lease:<account>",
    "string",
    "polling",
    "5 s after its owner's last sign of life, or until a pause is over",
    "who calls the platform for this account now",
)
_FETCH_FAILURES = _family(
    "{merchant}:fetch-failures:<account>",
    "string",
    "polling",
    "until a fetch succeeds; an hour at most",
    "how many fetches in a row have failed",
)


FAMILIES: Final = (*_families, *FEED_FAMILIES, *PUSH_FAMILIES, *SYNC_FAMILIES, *SCRIPT_FAMILIES)
"""Every kind of key there is, for the documentation and the tests."""


def ingest_stream() -> str:
    """Key of the durable ingest stream."""
    return _INGEST


def dead_letters() -> str:
    """Key of the dead-letter list."""
    return _DEAD


def quarantine() -> str:
    """Key of the quarantine."""
    return _QUARANTINE


def workers() -> str:
    """Key of the workers' signs of life."""
    return _WORKERS


def registry_changes() -> str:
    """Key of the stream of changed records."""
    return _REGISTRY


def accounts() -> str:
    """Key of all account records."""
    return _ACCOUNTS


def registry_key() -> str:
    """Key of the fingerprint of the encryption key."""
    return _REGISTRY_KEY


def agents() -> str:
    """Key of all agent records."""
    return _AGENTS


@dataclass(frozen=True, slots=True)
class MerchantKeys(FeedKeys):
    """The keys of one merchant."""

    @property
    def head(self) -> str:
        """Epoch, sequence, clock."""
        return self._fixed(_HEAD)

    @property
    def skus(self) -> str:
        """Index of all SKUs."""
        return self._fixed(_SKUS)

    @property
    def policies(self) -> str:
        """Versions of the policies."""
        return self._fixed(_POLICIES)

    @property
    def ledger(self) -> str:
        """Effects."""
        return self._fixed(_LEDGER)

    @property
    def decisions(self) -> str:
        """What agents asked and were told."""
        return self._fixed(_DECISIONS)

    @property
    def archived(self) -> str:
        """How far the archive reaches."""
        return self._fixed(_ARCHIVED)

    @property
    def archive_lease(self) -> str:
        """Who writes to the archive."""
        return self._fixed(_ARCHIVE_LEASE)

    @property
    def feed(self) -> str:
        """Changed answers."""
        return self._fixed(_FEED)

    @property
    def heard(self) -> str:
        """When each account was last heard."""
        return self._fixed(_HEARD)

    @property
    def locations(self) -> str:
        """Location map."""
        return self._fixed(_LOCATIONS)

    @property
    def roles(self) -> str:
        """Roles of the accounts."""
        return self._fixed(_ROLES)

    @property
    def decided(self) -> str:
        """What people have said of several sources of one SKU."""
        return self._fixed(_DECIDED)

    @property
    def groups(self) -> str:
        """Locations that are totals of others."""
        return self._fixed(_GROUPS)

    @property
    def evidence(self) -> str:
        """How authorities come to contain sales."""
        return self._fixed(_EVIDENCE)

    @property
    def evidence_times(self) -> str:
        """How long it took."""
        return self._fixed(_EVIDENCE_TIMES)

    @property
    def due(self) -> str:
        """What the reaper looks at, and when."""
        return self._fixed(_DUE)

    @property
    def watermarks(self) -> str:
        """Watermarks of the accounts."""
        return self._fixed(_WATERMARKS)

    @property
    def parked(self) -> str:
        """Index of parked items; also the prefix of their hashes."""
        return self._fixed(_PARKED)

    def sku(self, sku: str) -> str:
        """State of one SKU."""
        return f"{self.tag}sku:{sku}"

    def rate(self, agent: str) -> str:
        """How much of its rate an agent has used."""
        return f"{self.tag}rate:{agent}"

    def items(self, account: str) -> str:
        """Item map of one account."""
        return f"{self.tag}items:{account}"

    def group(self, account: str, group: str) -> str:
        """Items of one product."""
        return f"{self.tag}group:{account}:{group}"

    def seen(self, day: int) -> str:
        """Ids counted on one day (whole days since the epoch)."""
        return f"{self.tag}seen:{day}"

    def parked_item(self, account: str, item: str) -> str:
        """Waiting events of one item."""
        return f"{self.tag}parked:{account}{SEPARATOR}{item}"

    def refetch(self, account: str) -> str:
        """Fetches due for one account."""
        return f"{self.tag}refetch:{account}"

    def fetch_lease(self, account: str) -> str:
        """Who calls the platform now."""
        return f"{self.tag}fetch-lease:{account}"

    def fetch_failures(self, account: str) -> str:
        """Failed fetches in a row."""
        return f"{self.tag}fetch-failures:{account}"
