"""The image's steps work from nothing, and what they leave behind is the program and no more."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.packaging.dockerfile import carry_out, stages
from tests.support.source import ROOT
from tests.support.topology import TOPOLOGY

if TYPE_CHECKING:
    from pathlib import Path

# The image is built once, by one process.
pytestmark = pytest.mark.xdist_group("dockerfile")

BUILD, FINAL = stages(ROOT / "Dockerfile")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("image")
    carry_out(BUILD, context=ROOT, image=image, moved=("/opt/synchub", "/src"))
    return image / "opt" / "synchub" / "bin"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("image")
def test_installed_command_explains_itself(program: Path, tmp_path: Path) -> None:
    answer = subprocess.run(
        [program / "synchub", "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "serve" in answer.stdout
    assert "work" in answer.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("image")
def test_installed_program_finds_its_connectors_and_scripts(program: Path, tmp_path: Path) -> None:
    look = "from synchub.connector_kit.discovery import discover; print(*discover())"
    answer = subprocess.run(
        [program / "python", "-c", look], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    shipped = {path.parent.name for path in (ROOT / "connectors").glob("*/manifest.toml")}
    assert set(answer.stdout.split()) == shipped


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("image")
@pytest.mark.parametrize("tool", ["pip", "setuptools", "pytest"])
def test_no_build_or_test_tool_is_left(program: Path, tmp_path: Path, tool: str) -> None:
    answer = subprocess.run(
        [program / "python", "-c", f"import {tool}"], capture_output=True, check=False, cwd=tmp_path
    )
    assert answer.returncode == 1


def test_image_runs_the_api_and_not_as_root() -> None:
    words = {instruction.word: instruction.rest for instruction in FINAL}
    assert (*json.loads(words["ENTRYPOINT"]), *json.loads(words["CMD"])) == TOPOLOGY["api"].argv
    assert words["EXPOSE"] == str(TOPOLOGY["api"].port)
    assert words["USER"] not in {"root", "0"}
    assert f"127.0.0.1:{TOPOLOGY['api'].port}/livez" in words["HEALTHCHECK"]


def test_dependencies_are_installed_by_hash() -> None:
    installs = [step.rest for step in BUILD if step.word == "RUN" and "pip install" in step.rest]
    assert installs
    for step in installs:
        assert "--require-hashes" in step or "--no-deps --no-build-isolation" in step


def test_everything_copied_is_sent_to_the_build() -> None:
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    steps = [step.rest.split()[:-1] for step in (*BUILD, *FINAL) if step.word == "COPY"]
    copied = {source for sources in steps for source in sources if not source.startswith(("--", "/"))}
    assert copied == {line[1:] for line in sent if line.startswith("!")}
