"""What can go wrong, as a tree.

::

    SynchubError
    ├── NotServed           there is no answer that could be given in good conscience
    │   ├── Stale           what is known is older than the bound
    │   └── Unknown         the feed holds nothing of this SKU, and says so within the bound
    ├── HubRefused          the hub said no, and would say so again
    │   └── AccessEnded     the key was revoked while the feed ran
    ├── HubUnavailable      the hub did not answer, or is too busy; the feed tries again by itself
    ├── ProtocolBroken      what arrived is no feed; the connection is given up and made anew
    └── FeedClosed          asked outside of ``async with``

``except NotServed`` is what an agent needs: it means "do not promise anything now".
"""

from __future__ import annotations


class SynchubError(Exception):
    """Base of everything that this library raises by itself."""


class NotServed(SynchubError):
    """No answer can be given within the bound."""

    def __init__(self, sku: str, detail: str) -> None:
        super().__init__(f"{sku}: {detail}")
        self.sku = sku


class Stale(NotServed):
    """What is known of the SKU is older than the bound, or nothing is known yet."""

    def __init__(self, sku: str, age_s: float | None = None) -> None:
        told = "nothing is known yet" if age_s is None else f"last known to be true {age_s:.3f} s ago"
        super().__init__(sku, told)
        self.age_s = age_s
        """How old the knowledge is; None when there is none."""


class Unknown(NotServed):
    """The merchant has no such SKU, or this feed does not follow it; ``read`` can tell which."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku, "the feed holds nothing of this SKU")


class HubRefused(SynchubError):
    """The hub refused the request, and repeating it would not help."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}" if detail else f"{status} {code}")
        self.status = status
        self.code = code
        self.detail = detail


class AccessEnded(HubRefused):
    """The hub ended the feed for good: the key was revoked."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, "key_unknown", f"the hub has ended the feed ({reason})")


class HubUnavailable(SynchubError):
    """The hub could not be reached or asked to come back later."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ProtocolBroken(SynchubError):
    """What arrived cannot be a frame of the feed."""


class FeedClosed(SynchubError):
    """The feed is not running: it is used with ``async with``."""

    def __init__(self) -> None:
        super().__init__("the feed is not running; use it inside `async with`")
