"""One delivery of a platform, exactly as it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Raw bytes and the headers that matter.

    ``headers`` is asked by lower-case names. At the receiver it is all headers of the
    request, in the worker only those that the manifest keeps. ``body`` is never
    decoded or re-serialized before the signature has been checked.
    """

    account: str
    headers: Mapping[str, str]
    body: bytes
    arrived_at_us: int
    """Hub wall clock, microseconds since the epoch."""
    url: str = ""
    """The public URL it was posted to, for schemes that sign it."""

    def __repr__(self) -> str:
        """Name the delivery without its content: bodies and headers never reach a log."""
        return f"<Delivery to {self.account}, {len(self.body)} bytes>"
