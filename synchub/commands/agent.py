"""``synchub agent``: give agent runtimes keys, and take them away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from synchub.agents import operations
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
    add = actions.add_parser("add", help="give an agent a key, shown once")
    add.set_defaults(act=_add)
    add.add_argument("--merchant", required=True, help="whose stock the agent sees")
    add.add_argument("--name", help="the agent's name (default: MERCHANT-agent)")
    add.add_argument("--tier", default=DEFAULT_TIER, help=f"its tier (default: {DEFAULT_TIER})")
    add.add_argument("--channel", action="append", default=[], help="a channel it is for (repeatable)")
    add.add_argument(
        "--scopes", default="", metavar="A,B", help="what it may do (default: stock:read,feed:read)"
    )
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
        merchant=args.merchant,
        name=args.name,
        tier=args.tier,
        channels=args.channel,
        scopes=[scope.strip() for scope in args.scopes.split(",") if scope.strip()],
    )
    issued = await operations.add_agent(registry.redis, wanted)
    say(
        args,
        {"agent": issued.agent.name, "key": issued.key},
        f"Agent {issued.agent.name} sees the stock of {args.merchant}.",
        f"Its key, shown only now: {issued.key}",
    )
    return 0


async def _list(args: argparse.Namespace, registry: Registry) -> int:
    agents = await operations.list_agents(registry.redis, args.merchant)
    sentences = [
        f"{one.name}: {one.tier}, {', '.join(sorted(one.scopes))} of {one.merchant}" for one in agents
    ]
    say(args, [_described(one) for one in agents], *(sentences or ["There are no agents."]))
    return 0


def _described(agent: Agent) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "merchant": agent.merchant,
        "tier": agent.tier,
        "channels": sorted(agent.channels),
        "scopes": sorted(agent.scopes),
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
