"""Every refusal and fault the hub can report, in one tree.

::

    SynchubError
    ├── Refusal                      somebody sent something we will not act on
    │   ├── SignatureRefused         401 signature_refused
    │   ├── DeliveryStale            401 delivery_stale
    │   ├── PayloadTooLarge          413 payload_too_large
    │   ├── EncodingRefused          415 invalid_request
    │   ├── BodyTooSlow              408 invalid_request
    │   ├── PayloadRefused           422 invalid_request   (a signed delivery: quarantined)
    │   ├── KeyUnknown               401 key_unknown
    │   ├── NotAllowed               403 not_allowed
    │   ├── NotFound                 404 not_found
    │   ├── RateLimited              429 rate_limited
    │   ├── Conflict                 409 conflict
    │   ├── IdempotencyMismatch      409 idempotency_mismatch
    │   ├── HoldUnknown              404 hold_unknown
    │   ├── HoldExpired              410 hold_expired
    │   ├── HoldClosed               409 conflict
    │   ├── SequenceMoved            409 sequence_moved
    │   ├── CursorTooOld             410 cursor_too_old
    │   └── InvalidRequest           422 invalid_request
    ├── Fault                        something we depend on did not do its part
    │   ├── OutcomeUnknown           503 outcome_unknown
    │   ├── StoreUnavailable         503 store_unavailable
    │   │   └── IngestFull           503 store_unavailable
    │   ├── Frozen                   503 frozen
    │   ├── UpstreamThrottled        503 throttled_upstream
    │   │   └── UpstreamPutOff       503 throttled_upstream
    │   ├── UpstreamRefused          503 throttled_upstream
    │   └── UpstreamFailed           503 throttled_upstream
    │       ├── UpstreamOpen         503 throttled_upstream
    │       └── CursorRefused        503 throttled_upstream
    └── Misconfigured                the hub will not start like this
        └── UnsafeStore

Each class says its problem ``code``, its HTTP ``status``, whether a retry helps
and who has to act. The HTTP face renders them in one middleware; the table in
``docs/errors.md`` is generated from this module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """Whether sending the same request again can help."""

    NEVER = "never"
    LATER = "later"
    AFTER = "after"
    """After the number of seconds in ``Retry-After``."""


class Actor(StrEnum):
    """Who has to do something about it."""

    CALLER = "caller"
    MERCHANT = "merchant"
    PLATFORM = "platform"
    US = "us"


class SynchubError(Exception):
    """Root of the tree. ``detail`` is one sentence for a person and holds no secret."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry: ClassVar[Retry] = Retry.LATER
    actor: ClassVar[Actor] = Actor.US

    def __init__(self, detail: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Refusal(SynchubError):
    """What arrived is not acceptable; nothing was changed."""

    retry = Retry.NEVER
    actor = Actor.CALLER


class SignatureRefused(Refusal):
    """A delivery that no active secret of the account has signed, or an unknown account."""

    code = "signature_refused"
    status = 401
    actor = Actor.PLATFORM


class DeliveryStale(Refusal):
    """A correctly signed delivery whose signed time is outside the accepted window."""

    code = "delivery_stale"
    status = 401
    actor = Actor.PLATFORM


class PayloadTooLarge(Refusal):
    """More body bytes were read than the connector accepts."""

    code = "payload_too_large"
    status = 413


class EncodingRefused(Refusal):
    """A compressed delivery: its signature is of other bytes, and its size of another body."""

    code = "invalid_request"
    status = 415


class BodyTooSlow(Refusal):
    """A request whose body did not arrive in time."""

    code = "invalid_request"
    status = 408
    retry = Retry.LATER


class PayloadRefused(Refusal):
    """A signed delivery that its connector cannot turn into events; it is quarantined."""

    code = "invalid_request"
    status = 422
    actor = Actor.PLATFORM


class KeyUnknown(Refusal):
    """No key, or a key that was never issued or has been revoked."""

    code = "key_unknown"
    status = 401


class NotAllowed(Refusal):
    """The key is known and lacks the scope."""

    code = "not_allowed"
    status = 403


class NotFound(Refusal):
    """No such object for this key; another merchant's object looks the same."""

    code = "not_found"
    status = 404


class RateLimited(Refusal):
    """More requests or connections than the key may have."""

    code = "rate_limited"
    status = 429
    retry = Retry.AFTER


class Conflict(Refusal):
    """What it was to change has been changed by somebody else meanwhile."""

    code = "conflict"
    status = 409


class IdempotencyMismatch(Refusal):
    """An idempotency key that came with another request before."""

    code = "idempotency_mismatch"
    status = 409


class HoldUnknown(Refusal):
    """No reservation of that id for this key; another agent's looks the same."""

    code = "hold_unknown"
    status = 404


class HoldExpired(Refusal):
    """The hold's deadline has passed: what it kept may be somebody else's by now."""

    code = "hold_expired"
    status = 410


class HoldClosed(Refusal):
    """The reservation was committed, released or taken back before."""

    code = "conflict"
    status = 409


class SequenceMoved(Refusal):
    """What the caller saw has changed since, and what it holds is no longer covered."""

    code = "sequence_moved"
    status = 409


class CursorTooOld(Refusal):
    """The position asked for is no longer kept; start again from a snapshot."""

    code = "cursor_too_old"
    status = 410


class InvalidRequest(Refusal):
    """A request whose parts do not fit its form; ``detail`` says which."""

    code = "invalid_request"
    status = 422


class Fault(SynchubError):
    """A part the hub depends on failed; the same request may succeed later."""

    retry = Retry.AFTER
    actor = Actor.US
    status = 503


class OutcomeUnknown(Fault):
    """The store did not answer in time: the change may or may not have happened."""

    code = "outcome_unknown"
    retry = Retry.LATER


class StoreUnavailable(Fault):
    """The store refused or could not be reached; nothing was changed."""

    code = "store_unavailable"


class IngestFull(StoreUnavailable):
    """The durable ingest stream holds as many deliveries as it is allowed to."""


class Frozen(Fault):
    """The store was started anew and has not yet been proven complete; nothing is granted meanwhile."""

    code = "frozen"
    status = 503


class UpstreamThrottled(Fault):
    """The platform asked for fewer calls; ``retry_after_s`` says for how long."""

    code = "throttled_upstream"
    actor = Actor.PLATFORM


class UpstreamPutOff(UpstreamThrottled):
    """The platform's limits, as the hub counts them, leave no room for the call in time; it was not sent."""


class UpstreamRefused(Fault):
    """The platform refused our credentials or the request itself; a retry will not help."""

    code = "throttled_upstream"
    retry = Retry.NEVER
    actor = Actor.MERCHANT

    def __init__(
        self, detail: str = "", *, retry_after_s: int | None = None, answered: int | None = None
    ) -> None:
        """``answered`` is the HTTP status that said so, where it was one."""
        super().__init__(detail, retry_after_s=retry_after_s)
        self.answered = answered


class UpstreamFailed(Fault):
    """The platform answered with a failure, with something unreadable, or not at all."""

    code = "throttled_upstream"
    actor = Actor.PLATFORM


class UpstreamOpen(UpstreamFailed):
    """The platform has failed too often of late and is not called until ``retry_after_s`` are over."""


class CursorRefused(UpstreamFailed):
    """The platform no longer takes the position of the last poll; polling begins at a time, or anew."""


class Misconfigured(SynchubError):
    """A setting, file or server that the hub will not run with; ``detail`` says what to change."""

    code = "misconfigured"
    retry = Retry.NEVER
    actor = Actor.US


class UnsafeStore(Misconfigured):
    """A Redis whose configuration could lose or evict what the hub must keep."""
