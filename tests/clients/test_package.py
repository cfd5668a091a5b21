"""The distribution stands alone: built, installed where nothing else is, and used."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tomllib
import venv
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

import pytest
from aiohttp import web

from tests.clients.scripted import ScriptedHub, Wire, item, starting
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCE: Final = ROOT / "clients/python"
SCRIPT: Final = """
import asyncio, json, sys
from synchub_client import FeedClient, Stale, __version__

async def main():
    async with FeedClient(sys.argv[1], "sak_x", skus=["TEE"]) as feed:
        await feed.ready()
        print(json.dumps([feed.get("TEE").available, (await feed.read("CAP")).available, __version__]))

asyncio.run(main())
"""

pytestmark = pytest.mark.xdist_group("client-package")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    # A copy: building in place leaves folders behind that the next build would pack.
    source = shutil.copytree(
        SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_types(wheel: Path) -> None:
    packed = {entry for entry in ZipFile(wheel).namelist() if ".dist-info/" not in entry}
    wanted = {f"synchub_client/{path.name}" for path in (SOURCE / "synchub_client").glob("*.py")}
    assert packed == wanted | {"synchub_client/py.typed"}
    assert any(entry.endswith("/licenses/LICENSE") for entry in ZipFile(wheel).namelist())


def test_it_depends_on_two_distributions_and_nothing_else() -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [one.partition(">")[0] for one in project["dependencies"]] == ["aiohttp", "orjson"]


@pytest.mark.slow
async def test_it_works_in_an_environment_that_has_only_what_it_asks_for(wheel: Path, tmp_path: Path) -> None:
    python = await asyncio.to_thread(installed, wheel, tmp_path / "env")

    async def serve(wire: Wire) -> None:
        await wire.hello()
        await wire.snapshot(item(), seq=1)
        await wire.beat(1)

    answer = web.json_response({**item("CAP", available=7), "epoch": "e", "seq": 1})
    async with ScriptedHub([starting(serve)], answers=[answer]).running() as hub:
        # Isolated: neither this folder nor the environment of the tests can lend it anything.
        process = await asyncio.create_subprocess_exec(
            python, "-I", "-c", SCRIPT, hub.url, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            printed, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(printed)[:2] == [5, 7]


def installed(wheel: Path, folder: Path) -> str:
    """Install the wheel into a new environment, in the versions that are locked, and return its Python."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    locked = folder / "locked.txt"
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line.partition(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))]
    locked.write_text("\n".join(names) + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*install, "--constraint", str(locked), str(wheel)], check=True)
    return python
