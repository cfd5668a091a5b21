"""Work that somebody may call off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

_Result = TypeVar("_Result")


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Do the work and return its result; when ``stop`` is set first, cancel it and return None."""
    job = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([job, stopped], return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return await job
        return None
    finally:
        for part in (job, stopped):
            part.cancel()
        await asyncio.gather(job, stopped, return_exceptions=True)
