"""What all commands share: which hub is meant, and how they speak."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synchub.accounts.operations import Registry
from synchub.accounts.vault import Vault
from synchub.connector_kit.discovery import MANIFEST, connector_folders, settings_faults
from synchub.connector_kit.manifest import load_manifest
from synchub.errors import Misconfigured
from synchub.hub import Hub, open_hub
from synchub.local_hub import DEFAULT_DATA, read_hub_file
from synchub.logs import set_up_logs
from synchub.redis import CoalescingRedis
from synchub.settings import Settings, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from synchub.connector_kit.manifest import Manifest

_URL_VARIABLE: Final = "SYNCHUB_REDIS__URL"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", type=Path, metavar="DIR", help="data folder of a running `synchub up`")
    where.add_argument("--redis", metavar="URL", help="the store (default: the settings)")
    parser.add_argument("--json", action="store_true", help="JSON on standard output and nothing else")


def settings_of(args: argparse.Namespace, **sections: dict[str, Any]) -> Settings:
    """Resolve the settings for a command.

    Without ``--redis`` and ``--data`` the environment's ``SYNCHUB_REDIS__URL`` counts;
    without that a hub running in the default data folder is meant when there is one,
    else what the settings say.

    Raises:
        Misconfigured: no hub runs in the named folder, or a setting does not fit.
    """
    sections = {name: dict(values) for name, values in sections.items()}
    if getattr(args, "redis", None):
        sections.setdefault("redis", {})["url"] = args.redis
    elif args.data or _URL_VARIABLE not in os.environ:
        running = read_hub_file(args.data or DEFAULT_DATA)
        if running is None and args.data:
            msg = f"No hub runs in {args.data}. Start one with `synchub up --data {args.data}`."
            raise Misconfigured(msg)
        if running is not None:
            sections.setdefault("redis", {})["url"] = running["redis"]
            sections.setdefault("secrets", {})["key_file"] = running["key_file"]
            if "archive" in running:  # a hub of an earlier version has none
                sections.setdefault("archive", {})["folder"] = running["archive"]
            sections.setdefault("server", {}).setdefault("public_url", running["url"])
    return load_settings(**sections)


@contextlib.asynccontextmanager
async def hub_of(args: argparse.Namespace) -> AsyncIterator[Hub]:
    """Open the hub a command is about."""
    settings = settings_of(args)
    set_up_logs(settings.log.model_copy(update={"level": "error", "form": "console"}))
    async with open_hub(settings) as hub:
        yield hub


def with_registry(
    args: argparse.Namespace, act: Callable[[argparse.Namespace, Registry], Awaitable[int]]
) -> int:
    """Run one action on the records of accounts and agents; opens no more of a hub than that.

    It works where a hub would not start, so that a lost encryption key can be dealt with.
    """
    settings = settings_of(args)
    set_up_logs(settings.log.model_copy(update={"level": "error", "form": "console"}))
    vault = Vault.open(settings.secrets)
    manifests = {name: load_manifest(path / MANIFEST) for name, path in connector_folders().items()}
    return asyncio.run(_act(args, act, settings, vault, manifests))


async def _act(
    args: argparse.Namespace,
    act: Callable[[argparse.Namespace, Registry], Awaitable[int]],
    settings: Settings,
    vault: Vault,
    manifests: Mapping[str, Manifest],
) -> int:
    redis = CoalescingRedis(settings.redis)
    try:
        registry = Registry(
            redis=redis,
            vault=vault,
            manifests=manifests,
            settings=settings,
            settings_faults=settings_faults,
        )
        return await act(args, registry)
    finally:
        await redis.close()


def say(args: argparse.Namespace, document: Any, *sentences: str) -> None:
    """Print the result of a command: the document with ``--json``, otherwise the sentences."""
    if args.json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(sentence + "\n" for sentence in sentences)
    sys.stdout.flush()
