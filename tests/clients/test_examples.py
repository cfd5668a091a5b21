"""What the pages show can be copied and works on a real hub."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Final

from tests.support.deliveries import body_of, level
from tests.support.hub import running_hub
from tests.support.pages import saved_files
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_PATH: Final = {"PYTHONPATH": str(ROOT / "clients/python"), "PYTHONUNBUFFERED": "1"}


async def test_the_page_of_the_client_shows_a_program_that_runs(redis_url: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(saved_files("docs/client.md")["example.py"], encoding="utf-8")
    async with running_hub(redis_url, server={"drain_ms": 200}) as site:
        await site.post(body_of(level("TEE-RED-M", 12), sequence=1))
        await site.drained()
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, site.url, site.merchant.key, env=_PATH, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            printed, _ = await process.communicate()
    assert printed.decode().split() == ["IN_STOCK", "12"]


async def test_the_agent_tells_its_model_what_can_be_promised_and_notices_when_it_no_longer_can(
    redis_url: str,
) -> None:
    async with running_hub(redis_url, server={"drain_ms": 200}) as site:
        await site.post(body_of(level("TEE", 3), sequence=1))
        await site.drained()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, ROOT / "docs/examples/agent.py", site.url, site.merchant.key, "TEE"),
            env=_PATH,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(30):
            for quantity, promised in ((2, True), (5, False)):
                asked = {"name": "check_stock", "arguments": {"sku": "TEE", "quantity": quantity}}
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                told = json.loads(await process.stdout.readline())
                assert (told["can_promise"], told["available"]) == (promised, 3)
            await site.post(body_of(level("TEE", 1), sequence=2))
            assert await process.stdout.readline() == b"TEE: tell the buyer before they pay\n"
            process.stdin.close()
            await process.wait()
        assert process.returncode == 0
