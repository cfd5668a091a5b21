"""Notes in the record of decisions: what an agent asked, what it was told. Nobody waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.decisions.model import Decision, Seen
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synchub.agents.model import Agent
    from synchub.availability.bodies import Told
    from synchub.decisions.model import DecisionKind
    from synchub.hub import Hub
    from synchub.reservations.model import Asker, Refused, Reservation
    from synchub.web.reservation_bodies import Where


def note_told(hub: Hub, agent: Agent, kind: DecisionKind, told: Told, outcome: str) -> None:
    """Note one answer about stock."""
    decision = Decision(
        at_ms=told.asked_at_ms,
        kind=kind,
        agent=agent.name,
        sku=told.answer.sku,
        quantity=told.wanted or 0,
        seen=seen_of(told),
        outcome=outcome,
        policy_version=told.terms.version,
    )
    hub.decisions.note(agent.merchant, decision)


def note_refusal(
    hub: Hub, asker: Asker, kind: DecisionKind, lines: Mapping[Where, int], refusal: Refused, told: Told
) -> None:
    """Note that nothing was held, for each line; what was seen is that of the SKU it failed for."""
    for (sku, _), quantity in lines.items():
        decision = Decision(
            at_ms=now_ms(),
            kind=kind,
            agent=asker.agent,
            buyer=asker.buyer,
            session=asker.session,
            sku=sku,
            quantity=quantity,
            seen=seen_of(told) if sku == refusal.sku else Seen(seq=refusal.seq),
            outcome="refused",
            reason=refusal.reason.value if sku == refusal.sku else "",
            policy_version=told.terms.version,
        )
        hub.decisions.note(asker.keys.merchant, decision)


def note_reservation(
    hub: Hub, merchant: str, kind: DecisionKind, found: Reservation, outcome: str, reason: str = ""
) -> None:
    """Note what became of a reservation, for each of its lines."""
    for line in found.lines:
        decision = Decision(
            at_ms=now_ms(),
            kind=kind,
            agent=found.agent,
            buyer=found.buyer,
            session=found.session,
            sku=line.sku,
            quantity=line.quantity,
            seen=Seen(seq=found.seq),
            outcome=outcome,
            reason=reason,
            policy_version=found.policy,
        )
        hub.decisions.note(merchant, decision)


def seen_of(told: Told) -> Seen:
    """Return what the asker was shown."""
    return Seen(
        state=told.shown.state.value,
        available=told.shown.available,
        seq=told.position.seq,
        ver=told.answer.ver,
        checksum=told.checksum,
    )
