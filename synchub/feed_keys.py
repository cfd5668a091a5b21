"""Keys of what readers of the feed leave in the store; ``keyspace.py`` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from synchub.script_keys import Family

_TICKET: Final = Family(
    pattern="synchub:ticket:<hash>",
    type="string",
    owner="feed",
    lifetime="until used; at most feed.ticket_ttl_ms",
    holds="whose connection to the feed a ticket opens, and for what; of the ticket only its hash",
)
_TICKETS: Final = Family(
    pattern="{merchant}:tickets:<agent>",
    type="string",
    owner="feed",
    lifetime="feed.ticket_ttl_ms after the first ticket it counts",
    holds="how many tickets the agent was given lately",
)
_FEED_SET: Final = Family(
    pattern="{merchant}:feed-set:<id>",
    type="hash",
    owner="feed",
    lifetime="feed.set_life_ms after its last use",
    holds="whose set of SKUs it is, its revision, and a mark of that",
)
_FEED_SET_SKUS: Final = Family(
    pattern="{merchant}:feed-set-skus:<id>",
    type="set",
    owner="feed",
    lifetime="as long as the set",
    holds="the SKUs of a set that readers follow",
)
_FEED_SETS_OF: Final = Family(
    pattern="{merchant}:feed-sets-of:<agent>",
    type="sorted set",
    owner="feed",
    lifetime="as long as the agent has sets",
    holds="an agent's sets, by the time at which they end",
)
_FEED_SET_CHANGES: Final = Family(
    pattern="{merchant}:feed-set-changes",
    type="stream",
    owner="feed",
    lifetime="feed.set_life_ms after the last change; about the newest 1000",
    holds="which sets have changed; every process that has followers reads it",
)

FEED_FAMILIES: Final = (_TICKET, _TICKETS, _FEED_SET, _FEED_SET_SKUS, _FEED_SETS_OF, _FEED_SET_CHANGES)


def ticket(ticket_hash: str) -> str:
    """Key of one ticket."""
    return _TICKET.pattern.replace("<hash>", ticket_hash)


@dataclass(frozen=True, slots=True)
class FeedKeys:
    """Those of one merchant."""

    merchant: str

    @property
    def tag(self) -> str:
        """The hash tag with its colon, which starts every key of the merchant."""
        return f"{{{self.merchant}}}:"

    def _fixed(self, pattern: str) -> str:
        return pattern.replace("{merchant}:", self.tag, 1)

    @property
    def feed_set_changes(self) -> str:
        """Changes of the sets that readers follow."""
        return self._fixed(_FEED_SET_CHANGES.pattern)

    def feed_set(self, set_id: str) -> str:
        """Owner and revision of a set."""
        return f"{self.tag}feed-set:{set_id}"

    def feed_set_skus(self, set_id: str) -> str:
        """SKUs of a set."""
        return f"{self.tag}feed-set-skus:{set_id}"

    def feed_sets_of(self, agent: str) -> str:
        """Sets of an agent."""
        return f"{self.tag}feed-sets-of:{agent}"

    def tickets(self, agent: str) -> str:
        """How many tickets an agent was given lately."""
        return f"{self.tag}tickets:{agent}"
