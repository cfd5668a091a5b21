"""What an agent can do after the store has lost its end: show again what it was granted.

A token is the grant itself: its facts, and a MAC under the merchant's key. So what the
store has forgotten can be taken back from whoever was promised it, and from nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synchub import lua, metrics
from synchub.errors import HoldUnknown
from synchub.kit.clock import now_ms
from synchub.reservations.model import Mode, Restored, RestoreOutcome, Token
from synchub.reservations.rules import TTL_MS, life_ms, read_token, reservation_of
from synchub.steps import DAY_MS, memory_args, saw, step_args

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.policies.model import Terms
    from synchub.redis import Part
    from synchub.settings import Settings

RESTORE: Final = lua.load("restore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who shows the tokens; only what this agent was given counts."""

    agent: str
    tier: str


NOT_A_TOKEN: Final = Restored(outcome=RestoreOutcome.REFUSED, reason="not_a_token", reservation=None)
"""Of another merchant or agent, changed, or never given."""


async def restore(
    redis: Executes,
    keys: MerchantKeys,
    tokens: Sequence[str],
    *,
    owner: Owner,
    key: bytes,
    terms_of: Callable[[str, str], Terms],
    settings: Settings,
) -> list[Restored]:
    """Take back what these tokens prove; one answer each, in order.

    A receipt is a sale again whatever the stock says, a hold only if there is enough; what is
    known is left as it is. ``terms_of`` says what holds for a SKU and a channel.

    Raises:
        OutcomeUnknown: it may or may not be done; show them again.
        StoreUnavailable: nothing has changed.
    """
    read = [_read(key, keys.merchant, owner, token) for token in tokens]
    ours = [token for token in read if token is not None]
    parts = [part for token in ours for part in _token_args(token, owner, terms_of)]
    restored = iter(await _run(redis, keys, owner, parts, settings) if ours else ())
    answers = [NOT_A_TOKEN if token is None else next(restored) for token in read]
    for answer in answers:
        metrics.tokens_restored.labels(answer.outcome.value).inc()
    return answers


def _read(key: bytes, merchant: str, owner: Owner, text: str) -> Token | None:
    try:
        token = read_token(key, merchant, text)
    except HoldUnknown:
        return None
    return token if token.agent == owner.agent else None


async def _run(
    redis: Executes, keys: MerchantKeys, owner: Owner, parts: Sequence[Part], settings: Settings
) -> list[Restored]:
    now = now_ms()
    epoch, seq, results = await RESTORE(
        redis,
        keys={"head": keys.head},
        args={
            **step_args(keys, now_ms=now, settings=settings),
            **memory_args(settings),
            "feed_max": settings.feed.retained,
            "agent": owner.agent,
            # As long as the names of sales are known, no receipt can be counted twice.
            "oldest_ms": now - settings.stock.names_days * DAY_MS,
        },
        rest=parts,
    )
    saw(redis, keys, epoch, seq)
    return [_restored(did.decode(), reason.decode(), stored) for did, reason, stored in results]


def _token_args(token: Token, owner: Owner, terms_of: Callable[[str, str], Terms]) -> list[Part]:
    lines = [
        part
        for sku, quantity, location in token.lines
        for part in (sku, quantity, location, terms_of(sku, token.channel).allowance_bp)
    ]
    return [
        token.id,
        "committed" if token.is_receipt else "held",
        token.mode,
        token.channel,
        owner.tier,
        token.deadline_ms,
        token.granted_us // 1000 + life_ms(Mode(token.mode)),
        TTL_MS[Mode(token.mode)][1],
        token.granted_us,
        token.order,
        len(token.lines),
        *lines,
    ]


def _restored(did: str, reason: str, stored: bytes) -> Restored:
    if did == "failed":
        return Restored(outcome=RestoreOutcome.REFUSED, reason="internal", reservation=None)
    found = reservation_of(stored) if stored else None
    return Restored(outcome=RestoreOutcome(did), reason=reason, reservation=found)
