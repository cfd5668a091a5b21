"""``synchub account``: connect platforms, say whose identifiers are whose, rotate, remove."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synchub.accounts import operations, rules
from synchub.accounts.model import NewAccount, Role
from synchub.commands.account_sources import register as register_sources
from synchub.commands.common import add_common, say, with_registry
from synchub.errors import InvalidRequest
from synchub.keyspace import MerchantKeys
from synchub.mappings import operations as mappings
from synchub.mappings.model import Part

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from synchub.accounts.model import Account
    from synchub.accounts.operations import Registry
    from synchub.mappings.model import Parked


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="connect an account of a platform")
    add.set_defaults(act=_add)
    add.add_argument("platform", metavar="PLATFORM", help="a connector's name, see `synchub connector list`")
    add.add_argument("--merchant", required=True, help="whose account it is; created when new")
    add.add_argument("--name", help="part of the delivery URL (default: MERCHANT-PLATFORM)")
    add.add_argument("--role", choices=[role.value for role in Role], help="what its levels count for")
    add.add_argument("--rank", type=int, help="among authorities; 1 counts first")
    _add_credentials(add, "give a credential: its value, @FILE, or - for standard input")
    _register_others(actions)
    for action in actions.choices.values():
        add_common(action)


def _register_others(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = actions.add_parser("list", help="show all accounts")
    listing.set_defaults(act=_list)
    listing.add_argument("--merchant", help="only this merchant's")
    rotate = _one_account(actions, "rotate", _rotate, "replace the signing secret, or the credential named")
    _add_credentials(rotate, "the new value; without one a secret is generated where the scheme allows it")
    rotate.add_argument("--overlap-hours", type=float, help="how long the old secret stays valid")
    mapping = _one_account(actions, "map", _map, "say what the platform's items and locations are")
    mapping.add_argument("--item", action="append", default=[], metavar="ITEM=SKU")
    mapping.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="ITEM=SKU=UNITS",
        help="a part of a pack or kit; give all parts of an item together",
    )
    mapping.add_argument("--location", action="append", default=[], metavar="THEIRS=OURS")
    mapping.add_argument(
        "--covers",
        action="append",
        default=[],
        metavar="OURS=MEMBER",
        help="the location OURS of --location is a total of MEMBER; * is all (repeatable)",
    )
    register_sources(actions)
    _one_account(actions, "check", _check, "say whether the account can work")
    _one_account(actions, "remove", _remove, "stop counting the account and forget it")
    _one_account(actions, "mappings", _mappings, "show what is mapped")
    _one_account(actions, "parked", _parked, "show what waits for a mapping")


def _one_account(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, act: Any, text: str
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text)
    action.set_defaults(act=act)
    action.add_argument("account", metavar="ACCOUNT")
    return action


def _add_credentials(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--credential", action="append", default=[], metavar="NAME=VALUE", help=f"{text} (repeatable)"
    )


def run(args: argparse.Namespace) -> int:
    """Do one action; 0 done, 1 failed."""
    # Files and standard input are read before anything else happens.
    args.credentials = read_credentials(getattr(args, "credential", []))
    return with_registry(args, args.act)


def read_credentials(texts: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE``, ``NAME=@FILE`` and ``NAME=-``; one line end after a file's value is dropped.

    Raises:
        InvalidRequest: another form, a name given twice, an unreadable file; no value is repeated.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, is_pair, value = text.partition("=")
        if not is_pair or not name or name in found:
            msg = "A credential is NAME=VALUE, NAME=@FILE or NAME=-, each name once."
            raise InvalidRequest(msg)
        found[name] = _value(name, value)
    return found


def _value(name: str, value: str) -> str:
    try:
        if value == "-":
            return _without_line_end(sys.stdin.read())
        if value.startswith("@"):
            return _without_line_end(Path(value[1:]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        msg = f"The file for credential {name} cannot be read as text."
        raise InvalidRequest(msg) from None
    return value


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


async def _add(args: argparse.Namespace, registry: Registry) -> int:
    wanted = NewAccount(
        platform=args.platform,
        merchant=args.merchant,
        name=args.name,
        role=Role(args.role) if args.role else None,
        rank=args.rank,
        credentials=args.credentials,
    )
    added = await operations.add_account(registry, wanted)
    name, url = added.account.name, _url(registry, added.account.name)
    is_posted = bool(registry.manifest(added.account.platform).signing_credential)
    document: dict[str, Any] = {"account": name} | ({"url": url} if is_posted else {})
    sentences = [
        f"Account {name} is {added.account.role.value} of {args.merchant}.",
        f"Post deliveries to {url}" if is_posted else "It is polled; nothing has to be set up elsewhere.",
    ]
    if added.secret is not None:
        document["secret"] = added.secret
        sentences.append(f"Its signing secret, shown only now: {added.secret}")
    if added.warnings:
        document["warnings"] = list(added.warnings)
    say(args, document, *sentences, *added.warnings)
    return 0


def _url(registry: Registry, account: str) -> str:
    server = registry.settings.server
    return rules.hook_url(server.public_url or f"http://{server.host}:{server.port}", account)


async def _list(args: argparse.Namespace, registry: Registry) -> int:
    accounts = await operations.list_accounts(registry.redis, args.merchant)
    sentences = [
        f"{one.name}: {one.platform}, {one.role.value} {one.rank} of {one.merchant}" for one in accounts
    ]
    say(args, [_described(registry, one) for one in accounts], *(sentences or ["There are no accounts."]))
    return 0


def _described(registry: Registry, account: Account) -> dict[str, Any]:
    return {
        "account": account.name,
        "merchant": account.merchant,
        "platform": account.platform,
        "role": account.role.value,
        "rank": account.rank,
        "credentials": sorted(account.credentials),
        "url": _url(registry, account.name),
        "created_at": _time(account.created_at_ms),
    }


async def _check(args: argparse.Namespace, registry: Registry) -> int:
    checked = await operations.check_account(registry, args.account)
    document = {"account": args.account, "sound": checked.is_sound, "sentences": list(checked.sentences)}
    say(args, document, *checked.sentences)
    return 0 if checked.is_sound else 1


async def _rotate(args: argparse.Namespace, registry: Registry) -> int:
    if len(args.credentials) > 1:
        msg = "Rotate one credential at a time."
        raise InvalidRequest(msg)
    name, value = next(iter(args.credentials.items()), (None, None))
    rotated = await operations.rotate_credential(
        registry, args.account, name, value=value, overlap_hours=args.overlap_hours
    )
    document = {"account": args.account} | ({"secret": rotated.secret} if rotated.secret else {})
    sentences = [f"Account {args.account} has a new {name or 'signing secret'}."]
    if rotated.secret:
        sentences.append(f"Shown only now: {rotated.secret}")
    say(args, document, *sentences)
    return 0


async def _remove(args: argparse.Namespace, registry: Registry) -> int:
    await operations.remove_account(registry, args.account)
    say(args, {"account": args.account, "removed": True}, f"Account {args.account} is removed.")
    return 0


async def _map(args: argparse.Namespace, registry: Registry) -> int:
    items, locations = _pairs(args.item, "--item ITEM=SKU"), _pairs(args.location, "--location THEIRS=OURS")
    kits = _kits(args.part)
    if not items and not locations and not kits:
        msg = "Give --item ITEM=SKU, --part ITEM=SKU=UNITS or --location THEIRS=OURS."
        raise InvalidRequest(msg)
    keys = await _keys(args, registry)
    covered = _pairs(args.covers, "--covers OURS=MEMBER")
    for theirs, ours in locations:
        await mappings.map_location(
            registry.redis,
            keys,
            args.account,
            theirs,
            ours,
            covers=[member for place, member in covered if place == ours],
            settings=registry.settings,
        )
    for item, sku in items:
        await mappings.map_item(registry.redis, keys, args.account, item, sku, settings=registry.settings)
    for item, parts in kits.items():
        await mappings.map_parts(registry.redis, keys, args.account, item, parts, settings=registry.settings)
    count = len(items) + len(kits)
    document = {"account": args.account, "items": count, "locations": len(locations)}
    say(args, document, f"{count} items and {len(locations)} locations are mapped.")
    return 0


def _kits(texts: Sequence[str]) -> dict[str, list[Part]]:
    kits: dict[str, list[Part]] = {}
    for text in texts:
        mapped, _, units = text.rpartition("=")
        item, _, sku = mapped.rpartition("=")
        if not item or not sku or not units.isdecimal():
            msg = "Each part has the form --part ITEM=SKU=UNITS."
            raise InvalidRequest(msg)
        kits.setdefault(item, []).append(Part(sku=sku, units=int(units)))
    return kits


def _pairs(texts: Sequence[str], form: str) -> list[tuple[str, str]]:
    pairs = [text.rpartition("=") for text in texts]
    if not all(theirs and ours for theirs, _, ours in pairs):
        msg = f"Each mapping has the form {form}."
        raise InvalidRequest(msg)
    return [(theirs, ours) for theirs, _, ours in pairs]


async def _mappings(args: argparse.Namespace, registry: Registry) -> int:
    found = await mappings.list_mappings(registry.redis, await _keys(args, registry), args.account)
    document = {
        "account": args.account,
        "items": found.items,
        "kits": {
            item: [{"sku": part.sku, "units": part.units} for part in parts]
            for item, parts in found.kits.items()
        },
        "items_total": found.items_total,
        "locations": found.locations,
    }
    sentences = [f"Location {theirs} is {ours}." for theirs, ours in sorted(found.locations.items())]
    sentences += [f"Item {item} is {sku}." for item, sku in sorted(found.items.items())]
    for item, parts in sorted(found.kits.items()):
        told = " and ".join(f"{part.units} of {part.sku}" for part in parts)
        sentences.append(f"Item {item} is {told}.")
    say(args, document, *sentences, f"{found.items_total} items are mapped.")
    return 0


async def _parked(args: argparse.Namespace, registry: Registry) -> int:
    page = await mappings.list_parked(registry.redis, await _keys(args, registry), args.account)
    items = [
        {
            "item": parked.item,
            "levels": parked.levels,
            "changes": parked.changes,
            "locations": list(parked.locations),
            "since": _time(parked.since_ms),
            "undecided": [{"sku": sku, "location": place} for sku, place in parked.undecided],
        }
        for parked in page.items
    ]
    sentences = [_waits(one) for one in page.items]
    document = {"account": args.account, "total": page.total, "items": items}
    say(args, document, *sentences, f"{page.total} items wait for a mapping or a decision.")
    return 0


def _waits(parked: Parked) -> str:
    where = (
        f"Item {parked.item} at {', '.join(parked.locations)}" if parked.locations else f"Item {parked.item}"
    )
    if not parked.undecided:
        return f"{where} waits for a mapping."
    told = ", ".join(f"{sku} at {place}" for sku, place in parked.undecided)
    return f"{where} waits: it is one more source of {told}; say how it counts with `synchub account decide`."


async def _keys(args: argparse.Namespace, registry: Registry) -> MerchantKeys:
    return MerchantKeys((await operations.find_account(registry.redis, args.account)).merchant)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
