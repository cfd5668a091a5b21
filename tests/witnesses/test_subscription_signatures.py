"""What subscribers are sent, as the JavaScript library of Standard Webhooks understands it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.endpoints import open_town, telling
from tests.support.tools import need_tool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.witness, pytest.mark.usefixtures("npm_packages")]

_WITHIN_S: Final = 30
_VERIFY: Final = """
const { Webhook } = require("standardwebhooks");
const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => {
  const { secret, body, headers } = JSON.parse(Buffer.concat(chunks).toString());
  console.log(JSON.stringify(new Webhook(secret).verify(body, headers)));
});
"""


async def test_the_library_accepts_an_occurrence_under_both_secrets_and_refuses_another_body(
    redis_url: str, npm_packages: Path
) -> None:
    async with open_town(redis_url, tells=False) as town:
        made = await town.subscribe()
        rotated = json.loads((await town.ask("POST", f"/{made['id']}/rotate")).body)
        await town.change(Tölpel=7)
        async with telling(town.hub):
            await town.endpoint.reached(1)
        [told] = town.endpoint.taken
    for secret in (made["secret"], rotated["secret"]):
        question = {"secret": secret, "body": told.body.decode(), "headers": dict(told.headers)}
        code, answer = await _verified(npm_packages, question)
        assert (code, json.loads(answer)) == (0, told.occurrence)
        code, _ = await _verified(npm_packages, {**question, "body": question["body"] + " "})
        assert code != 0


async def _verified(folder: Path, question: dict[str, object]) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(
        need_tool("node"),
        "-e",
        _VERIFY,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(_WITHIN_S):
        answer, _ = await process.communicate(json.dumps(question).encode())
    return process.returncode, answer
