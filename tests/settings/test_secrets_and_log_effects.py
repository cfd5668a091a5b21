"""What changes when a setting of the secrets or of the log is changed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from synchub.accounts import operations as accounts
from synchub.accounts.model import Place
from synchub.accounts.operations import Registry
from synchub.accounts.vault import Vault
from synchub.errors import Misconfigured, SignatureRefused, SynchubError
from synchub.logs import scrub
from synchub.settings import SecretsSettings
from tests.support.deliveries import body_of, level, signed
from tests.support.hub import running_hub
from tests.support.merchants import CONNECTORS, Merchant, add_merchant
from tests.support.processes import Process, free_port
from tests.support.registry import KEY, OTHER_KEY
from tests.support.source import ROOT
from tests.support.wait import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLACE: Final = Place(merchant="acme", account="acme-standard", credential="signing_secret")
CANARY: Final = "canary-8c1f0e"


def secrets_of(folder: Path, *, key: bytes = b"", file: str = "secret.key") -> SecretsSettings:
    told = {"key": base64.b64encode(key).decode(), "key_file": folder / file}
    return SecretsSettings.model_validate(told)


# ------------------------------------------------------------------------------------------------- encryption


def test_the_key_decides_what_opens_whatever_the_file_holds(tmp_path: Path) -> None:
    sealed = Vault.open(secrets_of(tmp_path, key=KEY)).seal("hush", PLACE)
    assert Vault.open(secrets_of(tmp_path, key=KEY, file="other.key")).unseal(sealed, PLACE) == "hush"
    with pytest.raises(Misconfigured):
        Vault.open(secrets_of(tmp_path, key=OTHER_KEY)).unseal(sealed, PLACE)


def test_without_a_key_the_file_decides_what_opens(tmp_path: Path) -> None:
    sealed = Vault.open(secrets_of(tmp_path, file="one.key")).seal("hush", PLACE)
    assert Vault.open(secrets_of(tmp_path, file="one.key")).unseal(sealed, PLACE) == "hush"
    with pytest.raises(Misconfigured):
        Vault.open(secrets_of(tmp_path, file="other.key")).unseal(sealed, PLACE)


# --------------------------------------------------------------------------------------------------- rotation


@pytest.mark.parametrize(("overlap_hours", "status"), [(0, 401), (1, 202)])
async def test_the_old_secret_is_accepted_for_the_overlap_and_no_longer(
    redis_url: str, overlap_hours: int, status: int
) -> None:
    async with running_hub(redis_url, works=False) as site:
        secrets = SecretsSettings(rotation_overlap_hours=overlap_hours)
        registry = Registry(
            redis=site.hub.redis,
            vault=Vault(KEY),
            manifests={name: connector.manifest for name, connector in CONNECTORS.items()},
            settings=site.hub.settings.model_copy(update={"secrets": secrets}),
        )
        rotated = await accounts.rotate_credential(registry, site.merchant.account)
        now = Merchant(name="now", account=site.merchant.account, secret=rotated.secret or "", key="")
        body = body_of(level("TEE", 1), sequence=1)
        await eventually(lambda: _is_accepted(site, body, now), what="the new secret known")
        assert (await site.post(body)).status == status


async def _is_accepted(site: Any, body: bytes, merchant: Merchant) -> bool:
    return bool((await site.post(body, merchant=merchant)).status == 202)


# ---------------------------------------------------------------------------------------------------- the log


SAYING: Final = """
from synchub.logs import get_logger, set_up_logs
from synchub.settings import load_settings
set_up_logs(load_settings().log)
for level in ("debug", "info", "warning", "error"):
    getattr(get_logger(), level)("said", at=level)
"""


def said(folder: Path, **settings: str) -> list[str]:
    """The lines of a process that says one thing at each level."""
    chosen = {f"SYNCHUB_LOG__{name.upper()}": value for name, value in settings.items()}
    process = subprocess.run(
        [sys.executable, "-c", SAYING],
        env={**os.environ, "PYTHONPATH": str(ROOT), **chosen},
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
    )
    return process.stderr.splitlines()


def test_nothing_below_the_level_is_written(tmp_path: Path) -> None:
    assert [json.loads(line)["at"] for line in said(tmp_path, level="warning")] == ["warning", "error"]


def test_lines_of_the_console_form_are_for_a_person(tmp_path: Path) -> None:
    lines = said(tmp_path, form="console")
    assert [re.findall(r"at=(\w+)", line) for line in lines] == [["info"], ["warning"], ["error"]]
    assert not any(line.startswith("{") for line in lines)


def test_lines_are_json_objects_unless_chosen_otherwise(tmp_path: Path) -> None:
    assert [json.loads(line)["event"] for line in said(tmp_path)] == ["said"] * 3


# -------------------------------------------------------------------------------------------------- reporting


class Sink:
    """Stands in for the service that faults are sent to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.events: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        """Keep an envelope: a line about it, then pairs of lines, one about the next and that itself."""
        body = await request.read()
        self.bodies.append(body)
        _, *lines = [json.loads(line) for line in body.splitlines() if line]
        kinds = (about["type"] for about in lines[::2])
        self.events += [item for kind, item in zip(kinds, lines[1::2], strict=True) if kind == "event"]
        return web.json_response({})

    def faults(self) -> list[list[str]]:
        """The kinds of exceptions of each event, cause first."""
        return [[one["type"] for one in event["exception"]["values"]] for event in self.events]


@contextlib.asynccontextmanager
async def a_sink() -> AsyncIterator[tuple[Sink, str]]:
    sink, app = Sink(), web.Application()
    app.router.add_post("/api/1/envelope/", sink.take)
    async with TestServer(app) as server:
        yield sink, f"http://public@127.0.0.1:{server.port}/1"


@contextlib.asynccontextmanager
async def a_faulty_api(redis_url: str, folder: Path, dsn: str) -> AsyncIterator[Process]:
    port = free_port()
    told = {
        "SYNCHUB_REDIS__URL": redis_url,
        "SYNCHUB_SECRETS__KEY": base64.b64encode(KEY).decode(),
        "SYNCHUB_LOG__SENTRY_DSN": dsn,
    }
    argv = ["tests.support.faulty_api", "serve", "--port", str(port)]
    api = Process("api", argv, folder, port=port, environment=told)
    api.start(wait=False)
    try:
        await eventually(lambda: api.answers("/readyz"), what="the api")
        yield api
    finally:
        api.stop()


async def test_faults_of_ours_are_reported_without_anything_a_request_carried(
    redis_url: str, tmp_path: Path
) -> None:
    merchant = await add_merchant(redis_url)
    body = body_of(level(f"{CANARY}-sku", 1), sequence=1)
    delivery = {**signed(merchant, body), "X-Canary": f"{CANARY}-header"}
    agent = {"Authorization": f"Bearer {merchant.key}"}
    async with a_sink() as (sink, dsn), a_faulty_api(redis_url, tmp_path, dsn) as api:
        hook, stock = f"http://127.0.0.1:{api.port}{merchant.hook}", f"http://127.0.0.1:{api.port}/v1/stock"
        async with aiohttp.ClientSession() as session:
            # Refusals first: events are sent in order, so these would have come before the others.
            assert await status(session, "POST", hook, data=body) == 401
            assert await status(session, "POST", hook, data=b"x" * 300_000, headers=delivery) == 413
            assert await status(session, "GET", f"{stock}/{CANARY}") == 401
            assert await status(session, "POST", f"{hook}?q={CANARY}", data=body, headers=delivery) == 500
            assert await status(session, "GET", f"{stock}/TEE", headers=agent) == 500
        await eventually(lambda: len(sink.events) == 2, what="two reports")
    assert sink.faults() == [["ValueError", "RuntimeError"], ["LookupError"]]
    assert sink.events[0]["request"] == {"method": "POST", "url": hook}
    told = b"".join(sink.bodies).decode()
    for secret in (CANARY, merchant.secret, merchant.secret.removeprefix("whsec_"), merchant.key):
        assert secret not in told


async def status(session: aiohttp.ClientSession, method: str, url: str, **about: Any) -> int:
    async with session.request(method, url, **about) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("problem", "is_sent"),
    [(SignatureRefused("no"), False), (Misconfigured("no"), True), (KeyError("x"), True)],
)
def test_a_refusal_is_not_reported_wherever_it_ends_up(problem: Exception, is_sent: bool) -> None:
    assert (scrub({}, {"exc_info": (type(problem), problem, None)}) is not None) is is_sent


def test_only_the_hubs_own_sentences_are_reported() -> None:
    own = {"type": "Misconfigured", "module": SynchubError.__module__, "value": "Set redis.url."}
    other = {"type": "ValueError", "module": None, "value": CANARY}
    event = scrub({"exception": {"values": [own, other]}, "logentry": {"message": CANARY}}, {})
    assert event is not None
    assert "Set redis.url." in json.dumps(event)
    assert CANARY not in json.dumps(event)
