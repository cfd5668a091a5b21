"""What is asked in one turn of the event loop, answered together.

A step of the store costs much the same for one request as for ten, so those that come
together go together. First come, first served still: they keep the order they came in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")


class Together(Generic[_Key, _Asked, _Told]):
    """Collects what is asked under each key and has it answered at the end of the turn.

    ``answer`` gets a key and at most ``most`` requests, and returns one answer for each, in order;
    an answer that is an exception is raised to whoever asked. What ``answer`` raises itself is
    raised to all of them.
    """

    def __init__(
        self,
        answer: Callable[[_Key, Sequence[_Asked]], Awaitable[Sequence[_Told | Exception]]],
        *,
        most: int,
        name: str,
    ) -> None:
        self._answer = answer
        self._most = most
        self._name = name
        self._waiting: dict[_Key, list[tuple[_Asked, asyncio.Future[_Told]]]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def ask(self, key: _Key, asked: _Asked) -> asyncio.Future[_Told]:
        """Put one request; await what is returned. Giving up waiting does not take the request back."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[_Told] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [(asked, told)]
        else:
            waiting.append((asked, told))
        return told

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for key, pairs in waiting.items():
            for start in range(0, len(pairs), self._most):
                task = asyncio.create_task(
                    self._answer_some(key, pairs[start : start + self._most]), name=self._name
                )
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer_some(self, key: _Key, pairs: Sequence[tuple[_Asked, asyncio.Future[_Told]]]) -> None:
        try:
            answers = await self._answer(key, [asked for asked, _ in pairs])
        except Exception as problem:  # noqa: BLE001 - whatever it is, everybody who waits has to hear it
            answers = [problem] * len(pairs)
        for (_, told), answer in zip(pairs, answers, strict=True):
            if told.done():
                continue
            if isinstance(answer, Exception):
                told.set_exception(answer)
            else:
                told.set_result(answer)
