"""How agents show again what they were granted, after the store has lost something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from synchub.agents.model import Scope
from synchub.keyspace import MerchantKeys
from synchub.reservations import restoring
from synchub.web.answers import answer_json
from synchub.web.auth import agent_of
from synchub.web.bodies import Body, Rows, read_body
from synchub.web.deadline import Effect, in_time
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS
from synchub.web.reservation_bodies import reservation_body
from synchub.web.terms import terms_of

if TYPE_CHECKING:
    from aiohttp import web

    from synchub.policies.model import Terms
    from synchub.reservations.model import Restored

TOKENS_MAX: Final = 50
_TOKEN_MAX: Final = 32_768


class RestoreRequest(Body):
    """Body of ``POST /v1/reservations/restore``."""

    tokens: Annotated[
        Rows[Annotated[str, Field(max_length=_TOKEN_MAX)]], Field(min_length=1, max_length=TOKENS_MAX)
    ]


def add_restore_route(app: web.Application) -> None:
    """Add the route for tokens that are shown again."""
    app.router.add_post("/v1/reservations/restore", restore, name="reservations_restore")


@in_time(Effect.WRITE)
async def restore(request: web.Request) -> web.Response:
    """Take back what the tokens prove; says of each what was done."""
    agent = agent_of(request, Scope.RESERVATIONS)
    hub = request.app[HUB]
    asked = await read_body(request, RestoreRequest)
    await request.app[LIMITS].take(agent)
    key = hub.vault.merchant_key(agent.merchant, "token")

    def terms(sku: str, channel: str) -> Terms:
        return terms_of(hub, agent, sku, channel or None)

    answers = await restoring.restore(
        hub.redis,
        MerchantKeys(agent.merchant),
        asked.tokens,
        owner=restoring.Owner(agent=agent.name, tier=agent.tier),
        key=key,
        terms_of=terms,
        settings=hub.settings,
    )
    return answer_json({"results": [_result(key, agent.merchant, one) for one in answers]})


def _result(key: bytes, merchant: str, restored: Restored) -> dict[str, Any]:
    found = restored.reservation
    body: dict[str, Any] = {"outcome": restored.outcome.value, "reason": restored.reason or None}
    if found is None:
        return {**body, "reservation": None}
    return {**body, "reservation": reservation_body(key, merchant, found, found.status)}
