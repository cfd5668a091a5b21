"""``synchub agent``: give agents, merchants and operators keys, and take them away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from synchub.agents import operations
from synchub.agents.model import Kind
from synchub.agents.operations import NewAgent
from synchub.agents.rules import DEFAULT_TIER
from synchub.commands.common import add_common, say, with_registry

if TYPE_CHECKING:
    import argparse

    from synchub.accounts.operations import Registry
    from synchub.agents.model import Agent


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="give somebody a key, shown once")
    add.set_defaults(act=_add)
    add.add_argument(
        "--kind", choices=list(Kind), default=Kind.AGENT, help="whose key it is (default: agent)"
    )
    add.add_argument("--merchant", default="", help="whose stock it is about; an operator has none")
    add.add_argument("--name", help="the name (default: MERCHANT-KIND)")
    add.add_argument("--tier", default=DEFAULT_TIER, help=f"its tier (default: {DEFAULT_TIER})")
    add.add_argument("--channel", action="append", default=[], help="a channel it is for (repeatable)")
    add.add_argument(
        "--scopes", default="", metavar="A,B", help="what it may do (default: all that its kind may)"
    )
    add.add_argument(
        "--rate", type=int, metavar="N", help="requests a second (default: limits.agent_rate_per_s)"
    )
    add.add_argument("--burst", type=int, metavar="N", help="requests at once (default: limits.agent_burst)")
    listing = actions.add_parser("list", help="show all agents")
    listing.set_defaults(act=_list)
    listing.add_argument("--merchant", help="only this merchant's")
    revoke = actions.add_parser("revoke", help="make an agent's key unknown")
    revoke.set_defaults(act=_revoke)
    revoke.add_argument("agent", metavar="AGENT")
    for action in actions.choices.values():
        add_common(action)


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 done, 1 failed."""
    return with_registry(args, args.act)


async def _add(args: argparse.Namespace, registry: Registry) -> int:
    wanted = NewAgent(
        kind=Kind(args.kind),
        merchant=args.merchant,
        name=args.name,
        tier=args.tier,
        channels=args.channel,
        scopes=[scope.strip() for scope in args.scopes.split(",") if scope.strip()],
        rate_per_s=args.rate,
        burst=args.burst,
    )
    issued = await operations.add_agent(registry.redis, wanted)
    say(
        args,
        {"agent": issued.agent.name, "key": issued.key},
        _about(issued.agent),
        f"Its key, shown only now: {issued.key}",
    )
    return 0


def _about(holder: Agent) -> str:
    match holder.kind:
        case Kind.AGENT:
            return f"Agent {holder.name} sees the stock of {holder.merchant}."
        case Kind.MERCHANT:
            return f"Key {holder.name} decides for merchant {holder.merchant}."
        case Kind.OPERATOR:
            return f"Key {holder.name} is for running the hub."


async def _list(args: argparse.Namespace, registry: Registry) -> int:
    agents = await operations.list_agents(registry.redis, args.merchant)
    sentences = [
        f"{one.name}: {one.kind}, {one.tier}, {', '.join(sorted(one.scopes))} of {one.merchant or 'the hub'}"
        for one in agents
    ]
    say(args, [_described(one) for one in agents], *(sentences or ["There are no agents."]))
    return 0


def _described(agent: Agent) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "kind": agent.kind,
        "merchant": agent.merchant,
        "tier": agent.tier,
        "channels": sorted(agent.channels),
        "scopes": sorted(agent.scopes),
        "rate_per_s": agent.rate_per_s,
        "burst": agent.burst,
        "created_at": datetime.fromtimestamp(agent.created_at_ms / 1000, UTC).isoformat(
            timespec="milliseconds"
        ),
    }


async def _revoke(args: argparse.Namespace, registry: Registry) -> int:
    await operations.revoke_agent(registry.redis, args.agent)
    say(
        args, {"agent": args.agent, "revoked": True}, f"The key of agent {args.agent} is unknown from now on."
    )
    return 0
