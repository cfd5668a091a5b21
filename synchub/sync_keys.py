"""Keys of polling, of calls to platforms, and of what is known about silence; ``keyspace.py`` has the others.

What concerns one merchant's stock lies in that merchant's slot; what one worker judges for all accounts lies
in a slot of its own.
"""

from __future__ import annotations

from typing import Final

from synchub.script_keys import Family

_OBSERVED: Final = Family(
    pattern="synchub:{sync}:observed",
    type="stream",
    owner="sync_lag",
    lifetime="until judged; at most 10,000",
    holds="what workers heard and found of every account, a summary a second",
)
_WATCHED: Final = Family(
    pattern="synchub:{sync}:watched",
    type="hash",
    owner="sync_lag",
    lifetime="as long as the account",
    holds="account to its state and the evidence for it; under `~everyone` what is known of all together",
)
_RHYTHMS: Final = Family(
    pattern="synchub:{sync}:rhythms",
    type="hash",
    owner="sync_lag",
    lifetime="as long as the account",
    holds="account to all that was learned of it, with the last observation that is part of it",
)
_WATCH_LEASE: Final = Family(
    pattern="synchub:{sync}:watch-lease",
    type="string",
    owner="sync_lag",
    lifetime="5 s after its owner's last sign of life",
    holds="which worker judges now",
)
_CURSORS: Final = Family(
    pattern="{merchant}:cursors",
    type="hash",
    owner="polling",
    lifetime="as long as the account",
    holds="account to where its next poll begins, when that was written, and in which epoch",
)
_POLL_TIMES: Final = Family(
    pattern="{merchant}:polls",
    type="hash",
    owner="polling",
    lifetime="as long as the account",
    holds="account to how its last polls went and when the next one is due",
)
_POLL_LEASE: Final = Family(
    pattern="{merchant}:poll-lease:<account>",
    type="string",
    owner="polling",
    lifetime="5 s after its owner's last sign of life",
    holds="which worker polls the account now",
)
_BUDGET: Final = Family(
    pattern="{merchant}:budget:<account>",
    type="hash",
    owner="upstream",
    lifetime="a day after the last call",
    holds="what is left of the platform's limits, and which calls are on their way",
)
_LISTINGS: Final = Family(
    pattern="{merchant}:listings:<account>",
    type="hash",
    owner="upstream",
    lifetime="a day after the last call",
    holds="how often each listing was written to today, where the platform limits that",
)
_BREAKER: Final = Family(
    pattern="{merchant}:breaker:<account>",
    type="hash",
    owner="upstream",
    lifetime="a day after the last change",
    holds="operation to the breaker's state, since when, how often in a row, and the permits given out",
)
_GUARD: Final = Family(
    pattern="{merchant}:hook-guard",
    type="hash",
    owner="hook_guard",
    lifetime="as long as the account",
    holds="account to what its platform last said of our webhooks, and when they were repaired",
)
_GUARD_LEASE: Final = Family(
    pattern="{merchant}:hook-lease:<account>",
    type="string",
    owner="hook_guard",
    lifetime="a minute, or until the round ends",
    holds="which worker asks the account's platform about our webhooks now",
)

SYNC_FAMILIES: Final = (
    _OBSERVED,
    _WATCHED,
    _RHYTHMS,
    _WATCH_LEASE,
    _CURSORS,
    _POLL_TIMES,
    _POLL_LEASE,
    _BUDGET,
    _LISTINGS,
    _BREAKER,
    _GUARD,
    _GUARD_LEASE,
)


def observed() -> str:
    """Key of the stream of observations."""
    return _OBSERVED.pattern


def watched() -> str:
    """Key of what is known of every account."""
    return _WATCHED.pattern


def rhythms() -> str:
    """Key of what was learned of every account."""
    return _RHYTHMS.pattern


def watch_lease() -> str:
    """Key of the judge's lease."""
    return _WATCH_LEASE.pattern


def cursors(merchant: str) -> str:
    """Key of the merchant's cursors."""
    return _of(merchant, _CURSORS)


def polls(merchant: str) -> str:
    """Key of how the merchant's polls go."""
    return _of(merchant, _POLL_TIMES)


def poll_lease(merchant: str, account: str) -> str:
    """Key of the right to poll one account."""
    return _of(merchant, _POLL_LEASE, account)


def budget(merchant: str, account: str) -> str:
    """Key of what is left of one account's limits."""
    return _of(merchant, _BUDGET, account)


def listings(merchant: str, account: str) -> str:
    """Key of how often one account's listings were written to today."""
    return _of(merchant, _LISTINGS, account)


def breaker(merchant: str, account: str) -> str:
    """Key of one account's breakers."""
    return _of(merchant, _BREAKER, account)


def hook_guard(merchant: str) -> str:
    """Key of what the merchant's platforms say of our webhooks."""
    return _of(merchant, _GUARD)


def hook_lease(merchant: str, account: str) -> str:
    """Key of the right to ask one account's platform about our webhooks."""
    return _of(merchant, _GUARD_LEASE, account)


def _of(merchant: str, family: Family, account: str = "") -> str:
    return family.pattern.replace("{merchant}", f"{{{merchant}}}", 1).replace("<account>", account)
