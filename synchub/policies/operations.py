"""What can be done with policies: ask what holds, look at them, replace them.

An edit counts as soon as it is written: the merchant's head carries the version, and a step that was
given terms of another one is refused and asked again with newer terms. Telling the processes makes
that rare; it is not what makes it right.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.connector_kit.payloads import identifier
from synchub.errors import InvalidRequest, Misconfigured, PayloadRefused
from synchub.keyspace import LIST_SEPARATOR, SEPARATOR, MerchantKeys, check_name
from synchub.kit.clock import now_ms
from synchub.logs import get_logger
from synchub.policies import store
from synchub.policies.document import policies_of, read_form, text_of
from synchub.policies.model import Policies
from synchub.policies.rules import Compiled, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from synchub.lua import Executes
    from synchub.policies.document import PoliciesForm
    from synchub.policies.model import Edit, General, Stored, Terms, Written
    from synchub.settings import Settings

LOADED_AT_ONCE: Final = 500
_OPERATION_BYTES: Final = 16
_log: Final = get_logger()


class PolicyDirectory:
    """The policies of all merchants in memory, ready to be asked.

    Whoever follows the registry tells it which merchants' to read (see ``accounts/directory.py``).
    A merchant that it has not read yet is one without policies, version 0.
    """

    def __init__(self, redis: Executes, settings: Settings) -> None:
        self._redis = redis
        self._low_threshold = settings.stock.low_threshold
        self._none = self._compiled(Policies(version=0))
        self._known: dict[str, Compiled] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self.on_moved: Callable[[str], object] | None = None
        """Told each merchant of which another version has been read: what was shown is shown anew."""

    def terms(self, merchant: str, sku: str, tier: str | None = None, channel: str | None = None) -> Terms:
        """Return what holds for a SKU as an asker of this tier and channel has it; touches no store."""
        return resolve(self._of(merchant), sku, tier, channel)

    def general(self, merchant: str) -> General:
        """Return what holds for all of the merchant's stock."""
        return self._of(merchant).general

    def version(self, merchant: str) -> int:
        """Return the version that terms follow from at present."""
        return self._of(merchant).version

    async def refresh(self, merchant: str, *, unless_newer_than: int | None = None) -> int:
        """Read the merchant's policies again and return their version.

        A script that answers ``policy_moved`` was given terms of a version that is no longer the
        present one: with that version as ``unless_newer_than`` nothing is read when another has
        come in already, and of many callers one reads for all.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store did not answer; what was known still is.
            Misconfigured: the stored document is not one of this version of the hub.
        """
        if merchant in self._reading:
            # Begun before this call, so what it finds may be too old; only a newer version counts.
            await asyncio.shield(self._reading[merchant])
        if unless_newer_than is None or self.version(merchant) == unless_newer_than:
            await self._read_once(merchant)
        return self.version(merchant)

    async def follow(self, merchants: Collection[str]) -> None:
        """Read these merchants' policies; one whose document is unreadable keeps what is known.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store did not answer; ask again.
        """
        waiting = sorted(merchants)
        for start in range(0, len(waiting), LOADED_AT_ONCE):
            part = waiting[start : start + LOADED_AT_ONCE]
            await asyncio.gather(*(self._follow_one(merchant) for merchant in part))

    async def _follow_one(self, merchant: str) -> None:
        try:
            await self._read(merchant)
        except Misconfigured as problem:
            _log.error("policies_left_out", merchant=merchant, reason=problem.detail)

    async def _read_once(self, merchant: str) -> None:
        """Of callers in one moment one reads; a caller that is cancelled takes nobody's answer away."""
        if merchant not in self._reading:
            task = asyncio.create_task(self._read(merchant), name="read-policies")
            self._reading[merchant] = task
            task.add_done_callback(lambda done: self._read_done(merchant, done))
        await asyncio.shield(self._reading[merchant])

    def _read_done(self, merchant: str, done: asyncio.Task[None]) -> None:
        self._reading.pop(merchant, None)
        if not done.cancelled():
            done.exception()  # seen, also when every caller has been cancelled

    async def _read(self, merchant: str) -> None:
        policies = await store.read(self._redis, MerchantKeys(merchant))
        before = self.version(merchant)
        if policies.version:
            self._known[merchant] = self._compiled(policies)
        else:
            self._known.pop(merchant, None)
        if self.on_moved is not None and policies.version != before:
            self.on_moved(merchant)

    def _of(self, merchant: str) -> Compiled:
        return self._known.get(merchant, self._none)

    def _compiled(self, policies: Policies) -> Compiled:
        return Compiled(policies, low_threshold=self._low_threshold)


async def show(redis: Executes, merchant: str, version: int | None = None) -> Stored | None:
    """Return a version as it was written, the present one by default; None before the first edit.

    Raises:
        NotFound: there is no such version, or it is no longer kept.
    """
    return await store.read_stored(redis, MerchantKeys(merchant), version)


async def list_history(redis: Executes, merchant: str) -> tuple[Edit, ...]:
    """Return who made which version when, newest first, as far as they are kept."""
    return await store.read_history(redis, MerchantKeys(merchant))


async def replace(
    redis: Executes,
    merchant: str,
    form: PoliciesForm,
    *,
    expected: int,
    author: str,
    settings: Settings,
    operation: str | None = None,
) -> Written:
    """Make the document the merchant's policies, if ``expected`` is still the present version.

    With the same author and ``operation`` again nothing is written and the first answer is given, for as long
    as that version is kept. Repeatable also when it was cut off half-way: the repeat tells the
    processes again.

    Raises:
        Conflict: somebody else has edited them meanwhile.
        IdempotencyMismatch: the operation was another edit before.
        InvalidRequest: the operation is no possible name.
    """
    operation = _named(check_name(author, "The author"), operation)
    edition = _edition(form, expected, author, operation)
    written = await store.write(
        redis,
        MerchantKeys(merchant),
        edition,
        now_ms=now_ms(),
        clock_kind=settings.stock.clock,
    )
    if not written.repeated:
        metrics.policy_edits.inc()
    await store.announce(redis, merchant)
    return written


def read_document(body: bytes) -> PoliciesForm:
    """Return a document that somebody has written, checked.

    Raises:
        PayloadTooLarge, InvalidRequest: it does not fit; the sentence says where and what would.
    """
    return read_form(body)


def _edition(form: PoliciesForm, expected: int, author: str, operation: str) -> store.Edition:
    document = text_of(form)
    policies = policies_of(form, expected)
    digest = hashlib.sha256(b"%d %s" % (expected, document)).hexdigest()
    # Of the takeover alone no threshold matters.
    takeover = Compiled(policies, low_threshold=1).takeover
    general = policies.general
    return store.Edition(
        expected=expected,
        operation=operation,
        fingerprint=digest,
        author=author,
        document=document,
        lag_step_ms=general.lag_step_ms,
        lag_grace_ms=general.lag_grace_ms,
        takeover=takeover.value,
        places=LIST_SEPARATOR.join(general.locations),
        destinations=LIST_SEPARATOR.join(
            SEPARATOR.join((country, *places)) for country, places in general.destinations
        ),
        fast_age_ms=general.fast_max_age_ms or 0,
        slow_age_ms=general.slow_max_age_ms or 0,
        asks_first=general.confirm_new_sources,
    )


def _named(author: str, operation: str | None) -> str:
    """Return under which name an edit is remembered: every author has keys of its own."""
    if operation is None:
        return f"{author}:once:{secrets.token_urlsafe(_OPERATION_BYTES)}"
    try:
        return f"{author}:key:{identifier(operation, 'The idempotency key')}"
    except PayloadRefused as refusal:
        raise InvalidRequest(refusal.detail) from None
