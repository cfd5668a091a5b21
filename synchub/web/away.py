"""What agents are told about stock while the store is away: what the sources say at this moment.

Such an answer has no position, no version and no checksum: it is not part of any history,
and nothing can be held on it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synchub.availability.bodies import Json, Told, stock_body
from synchub.availability.rules import view
from synchub.decisions.model import DecisionKind
from synchub.errors import Fault
from synchub.kit.clock import now_ms
from synchub.stock.model import NO_POSITION, Position
from synchub.web.answers import answer_json
from synchub.web.keys import HUB
from synchub.web.limits import LIMITS
from synchub.web.noting import note_told

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aiohttp import web

    from synchub.agents.model import Agent
    from synchub.availability.operations import Asker, Presented
    from synchub.policies.model import Terms
    from synchub.stock.model import Answer

OUTCOME: Final = "told_by_source"
_NOWHERE: Final = Position(epoch="", seq=NO_POSITION, feed_seq=NO_POSITION)


async def show_from_source(
    request: web.Request, agent: Agent, asker: Asker, wanted: Mapping[str, int | None]
) -> web.Response:
    """Answer for one SKU.

    Raises:
        RateLimited: the agent may not ask now.
        StoreUnavailable: its sources cannot be asked, or did not answer in time.
    """
    (told,) = await _ask(request, agent, asker, wanted, DecisionKind.QUERY)
    if isinstance(told, Fault):
        raise told
    return answer_json(_body(told))


async def query_sources(
    request: web.Request, agent: Agent, asker: Asker, wanted: Mapping[str, int | None]
) -> web.Response:
    """Answer for several SKUs, each for itself; when there is no answer for any, the whole is refused.

    Raises:
        RateLimited, StoreUnavailable: as :func:`show_from_source`.
    """
    found = await _ask(request, agent, asker, wanted, DecisionKind.QUERY)
    _require_some(found)
    answers = [_outcome(sku, told) for sku, told in zip(wanted, found, strict=True)]
    return answer_json({"seq": None, "epoch": None, "answers": answers})


async def compare_with_sources(
    request: web.Request, agent: Agent, asker: Asker, presented: Sequence[Presented]
) -> web.Response:
    """Answer for SKUs whose checksums were presented; whether those still hold cannot be said.

    Raises:
        RateLimited, StoreUnavailable: as :func:`show_from_source`.
    """
    wanted = dict.fromkeys(one.sku for one in presented)
    found = dict(zip(wanted, await _ask(request, agent, asker, wanted, DecisionKind.VERIFY), strict=True))
    _require_some(found.values())
    results: list[Json] = [
        {"sku": one.sku, "status": "unverified", "answer": _outcome(one.sku, found[one.sku])}
        for one in presented
    ]
    return answer_json({"seq": None, "epoch": None, "results": results})


async def _ask(
    request: web.Request, agent: Agent, asker: Asker, wanted: Mapping[str, int | None], kind: DecisionKind
) -> list[Told | Fault]:
    hub = request.app[HUB]
    request.app[LIMITS].take_here(agent)
    found = await hub.authority.ask(agent.merchant, wanted, asker.terms_of)
    told = [
        one if isinstance(one := found[sku], Fault) else _told(asker, one, units)
        for sku, units in wanted.items()
    ]
    for shown in told:
        if isinstance(shown, Told):
            note_told(hub, agent, kind, shown, OUTCOME)
    return told


def _told(asker: Asker, answer: Answer, wanted: int | None) -> Told:
    # More than there is may only be sold by whoever counts what has been sold.
    terms: Terms = replace(asker.terms_of(answer.sku), allowance_bp=0)
    at_ms = now_ms()
    max_age_ms = min(asker.max_age_of(cell.account) for cell in answer.cells)
    return Told(
        answer=replace(answer, ver=0),
        shown=view(answer, terms, now_ms=at_ms, max_age_ms=max_age_ms),
        terms=terms,
        position=_NOWHERE,
        checksum="",
        asked_at_ms=at_ms,
        wanted=wanted,
    )


def _body(told: Told) -> dict[str, Json]:
    return stock_body(told) | {"seq": None, "epoch": None, "ver": None, "checksum": None}


def _outcome(sku: str, told: Told | Fault) -> dict[str, Json]:
    if isinstance(told, Fault):
        retry_after_ms = math.ceil(told.retry_after_s or 1) * 1000
        return {
            "sku": sku,
            "state": None,
            "available": None,
            "degraded": True,
            "problem": {"code": told.code, "detail": told.detail, "retry_after_ms": retry_after_ms},
        }
    return _body(told)


def _require_some(found: Collection[Told | Fault]) -> None:
    faults = [one for one in found if isinstance(one, Fault)]
    if len(faults) == len(found):
        raise faults[0]
