"""Questions that come in one moment are read in one step of the store; each counts for its agent's rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synchub import metrics
from synchub.availability import store
from synchub.availability.store import Question
from synchub.kit.together import Together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from synchub.agents.model import Limited, Rate
    from synchub.keyspace import MerchantKeys
    from synchub.lua import Executes
    from synchub.stock.model import Reading

QUESTIONS_MAX: Final = 32
"""Questions of one step: with as many SKUs as each may name, it holds up the store for some milliseconds."""


class Questions:
    """Reads for agents."""

    def __init__(self, redis: Executes) -> None:
        self._redis = redis
        self._together: Together[MerchantKeys, Question, Reading | Limited] = Together(
            self._read, most=QUESTIONS_MAX, name="ask"
        )

    def ask(
        self, keys: MerchantKeys, agent: str, rate: Rate, skus: Sequence[str]
    ) -> Awaitable[Reading | Limited]:
        """Read some SKUs at one position, once the agent may ask; await what is returned.

        A question for which there is no room counts for nothing. The count is exact over all processes.

        Raises:
            OutcomeUnknown, StoreUnavailable: the store does not answer, nor says whether there is room.
        """
        return self._together.ask(keys, Question(agent, rate, skus))

    async def _read(self, keys: MerchantKeys, questions: Sequence[Question]) -> list[Reading | Limited]:
        metrics.questions_at_once.observe(len(questions))
        return await store.ask(self._redis, keys, questions)
