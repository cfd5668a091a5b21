"""``synchub account`` on where numbers come from: roles, evidence, several sources of one SKU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synchub.accounts import evidence, operations
from synchub.accounts.evidence_rules import Way
from synchub.accounts.model import Role
from synchub.commands.common import say
from synchub.keyspace import MerchantKeys
from synchub.mappings import operations as mappings
from synchub.mappings.model import Decided, Decision

if TYPE_CHECKING:
    import argparse

    from synchub.accounts.evidence_rules import Evidence
    from synchub.accounts.operations import Registry


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options of these actions."""
    role = actions.add_parser("role", help="let the account's levels count for something else")
    role.set_defaults(act=_role)
    role.add_argument("account", metavar="ACCOUNT")
    role.add_argument("--role", choices=[one.value for one in Role], help="what its levels count for")
    role.add_argument("--rank", type=int, help="among authorities; 1 counts first")
    proof = actions.add_parser("evidence", help="show or say what proves that a level contains sales")
    proof.set_defaults(act=_evidence)
    proof.add_argument("account", metavar="AUTHORITY", help="whose levels they are")
    proof.add_argument("origin", nargs="?", metavar="ORIGIN", help="whose sales; * means everybody's")
    proof.add_argument("way", nargs="?", choices=[one.value for one in Way])
    proof.add_argument("lag_ms", nargs="?", type=int, metavar="MS", help="with lag: when all have arrived")
    decide = actions.add_parser("decide", help="say how one more source of a SKU counts")
    decide.set_defaults(act=_decide)
    decide.add_argument("account", metavar="ACCOUNT")
    decide.add_argument("decision", choices=[one.value for one in Decision])
    decide.add_argument("--sku", default="", help="with --place; without both: all of the account's")
    decide.add_argument("--place", default="", metavar="LOCATION", help="the merchant's location")


async def _role(args: argparse.Namespace, registry: Registry) -> int:
    account = await operations.find_account(registry.redis, args.account)
    role = Role(args.role) if args.role else account.role
    changed = await operations.change_role(registry, args.account, role, args.rank)
    document = {"account": changed.name, "role": changed.role.value, "rank": changed.rank}
    say(args, document, f"Account {changed.name} is {changed.role.value}, rank {changed.rank}.")
    return 0


async def _evidence(args: argparse.Namespace, registry: Registry) -> int:
    account = await operations.find_account(registry.redis, args.account)
    if args.origin is not None and args.way is not None:
        chosen = await evidence.choose_evidence(
            registry.redis,
            account.merchant,
            args.account,
            args.origin,
            Way(args.way),
            lag_ms=args.lag_ms,
            manifests=registry.manifests,
        )
        say(args, _described(chosen), _sentence(chosen))
        return 0
    everything = await evidence.list_evidence(registry.redis, account.merchant, registry.manifests)
    found = [one for one in everything if one.authority == args.account and args.origin in {None, one.origin}]
    sentences = [_sentence(one) for one in found]
    say(args, [_described(one) for one in found], *(sentences or ["Its levels do not count."]))
    return 0


def _described(one: Evidence) -> dict[str, Any]:
    return {
        "authority": one.authority,
        "origin": one.origin,
        "ways": [way.value for way in one.ways],
        "lag_ms": one.lag_ms,
        "suspended_since_ms": one.suspended_ms,
        "measured": {
            "sales": one.measured.sales,
            "lag_ms": one.measured.lag_ms,
            "late": one.measured.late,
        },
    }


def _sentence(one: Evidence) -> str:
    ways = [f"lag {one.lag_ms} ms" if way is Way.LAG else way.value for way in one.ways]
    told = f"Sales of {one.origin} in levels of {one.authority}: {', '.join(ways) or 'nothing proves them'}."
    if one.suspended_ms is not None:
        told += " Its lag is suspended."
    if one.measured.sales:
        told += f" {one.measured.sales} sales took up to {one.measured.lag_ms} ms (99.9 %)."
    return told


async def _decide(args: argparse.Namespace, registry: Registry) -> int:
    account = await operations.find_account(registry.redis, args.account)
    decided = Decided(sku=args.sku, place=args.place, decision=Decision(args.decision))
    keys = MerchantKeys(account.merchant)
    tried = await mappings.decide(registry.redis, keys, account.name, decided, settings=registry.settings)
    about = {"account": account.name, "sku": args.sku, "location": args.place}
    say(
        args,
        {**about, "decision": args.decision, "tried": tried},
        f"Decided; {tried} waiting items were tried.",
    )
    return 0
