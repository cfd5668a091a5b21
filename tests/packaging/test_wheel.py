"""The wheel holds the three packages with their data, and nothing that is only ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

import pytest

from tests.support.source import PACKAGES, ROOT, files, name

if TYPE_CHECKING:
    from pathlib import Path

_LEFT_OUT: Final = ("/fixtures/", "README.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    # A copy: building in place leaves folders behind that the next build would pack.
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return ZipFile(built)


@pytest.mark.xdist_group("wheel")
def test_wheel_holds_every_file_of_the_packages_but_fixtures_and_readmes(wheel: ZipFile) -> None:
    wanted = {name(path) for path in files(*PACKAGES) if not _is_left_out(path)}
    packed = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
    assert packed == wanted


@pytest.mark.xdist_group("wheel")
def test_wheel_brings_three_top_level_names(wheel: ZipFile) -> None:
    assert {entry.partition("/")[0] for entry in wheel.namelist() if ".dist-info/" not in entry} == set(
        PACKAGES
    )


@pytest.mark.xdist_group("wheel")
def test_wheel_refuses_to_be_uploaded_and_carries_its_licence(wheel: ZipFile) -> None:
    (metadata,) = (entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    assert "Classifier: Private :: Do Not Upload" in text
    assert "License-Expression: Apache-2.0" in text
    assert any(entry.endswith("/licenses/LICENSE") for entry in wheel.namelist())


@pytest.mark.parametrize("package", PACKAGES)
def test_no_dependency_brings_one_of_our_names(package: str) -> None:
    assert set(packages_distributions().get(package, ())) <= {"synchub"}


def _is_left_out(path: Path) -> bool:
    # The template of a connector brings its own example of both.
    return "/template/" not in name(path) and any(part in f"/{name(path)}" for part in _LEFT_OUT)
