"""Keys of subscriptions and of what is pushed for them; ``keyspace.py`` has the others."""

from __future__ import annotations

from typing import Final

from synchub.script_keys import Family

_SUBSCRIPTIONS: Final = Family(
    pattern="synchub:{registry}:subscriptions:<merchant>",
    type="hash",
    owner="subscriptions",
    lifetime="until deleted; a week after its end",
    holds="subscription to its record; secrets are encrypted",
)
_COUNTS: Final = Family(
    pattern="synchub:{registry}:subscription-counts",
    type="hash",
    owner="subscriptions",
    lifetime="as long as there are subscriptions",
    holds="how many there are: in all, of each merchant, of each agent",
)
_NEWS: Final = Family(
    pattern="synchub:{registry}:subscription-news",
    type="hash",
    owner="subscriptions",
    lifetime="as long as the merchant has subscriptions",
    holds="merchant to the number of changes of its subscriptions; workers look there",
)
_LANE: Final = Family(
    pattern="{merchant}:lane:<subscription>",
    type="hash",
    owner="subscriptions",
    lifetime="as long as the subscription",
    holds="how far an endpoint has been told, the one message in hand, and how it is doing",
)
_ATTEMPTS: Final = Family(
    pattern="{merchant}:attempts:<subscription>",
    type="stream",
    owner="subscriptions",
    lifetime="as long as the subscription; the newest subscriptions.attempts_kept",
    holds="each attempt to tell the endpoint something, and what came of it",
)
_LEASE: Final = Family(
    pattern="{merchant}:push-lease",
    type="string",
    owner="subscriptions",
    lifetime="5 s after its owner's last sign of life",
    holds="which worker tells the merchant's subscribers now",
)

PUSH_FAMILIES: Final = (_SUBSCRIPTIONS, _COUNTS, _NEWS, _LANE, _ATTEMPTS, _LEASE)


def subscriptions(merchant: str) -> str:
    """Key of one merchant's subscriptions."""
    return _SUBSCRIPTIONS.pattern.replace("<merchant>", merchant)


def subscription_counts() -> str:
    """Key of the numbers of subscriptions."""
    return _COUNTS.pattern


def subscription_news() -> str:
    """Key of the merchants that have subscriptions."""
    return _NEWS.pattern


def lane(tag: str, subscription: str) -> str:
    """Key of how far an endpoint has been told; ``tag`` is the merchant's."""
    return f"{tag}lane:{subscription}"


def attempts(tag: str, subscription: str) -> str:
    """Key of the attempts for one subscription."""
    return f"{tag}attempts:{subscription}"


def push_lease(tag: str) -> str:
    """Key of who tells the merchant's subscribers."""
    return f"{tag}push-lease"
