"""The lock files are complete, agree with each other and with pyproject.toml, and name no server."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.source import ROOT

_LOCKS: Final = ("requirements.lock", "requirements-image.lock")
_PIN: Final = re.compile(r"(?m)^(?P<name>[\w.-]+)(?:\[[\w,]+\])?==(?P<version>\S+)")


def test_every_dependency_is_locked_at_a_version_it_allows() -> None:
    pins = locked("requirements.lock")
    for requirement in (*_declared(), *_group("dev")):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_image_gets_what_the_tests_ran_with() -> None:
    assert locked("requirements-image.lock").items() <= locked("requirements.lock").items()


def test_image_gets_no_test_tool() -> None:
    pins = locked("requirements-image.lock")
    assert {canonicalize_name(requirement.name) for requirement in _declared()} <= set(pins)
    assert not {canonicalize_name(requirement.name) for requirement in _group("dev", nested=False)} & set(
        pins
    )


@pytest.mark.parametrize("lock", _LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    blocks = re.split(r"(?m)^(?=[\w.-]+==)", (ROOT / lock).read_text(encoding="utf-8"))
    assert len(blocks) > 1
    assert all("--hash=sha256:" in block for block in blocks if block.strip())


@pytest.mark.parametrize("lock", _LOCKS)
def test_lock_names_no_server(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"(?m)^\s*--(index|extra-index|find-links|trusted)", text)


def test_every_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    names = {requirement.name for requirement in (*_declared(), *_group("dev"))}
    for number, line in enumerate(lines):
        quoted = re.fullmatch(r'\s+"([\w.-]+)(\[\w+\])?[<>=].*",', line)
        if quoted and quoted[1] in names and not quoted[1].startswith("types-"):
            assert lines[number - 1].lstrip().startswith("# "), line


def locked(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonicalize_name(found["name"]): found["version"] for found in _PIN.finditer(text)}


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _declared() -> list[Requirement]:
    return [Requirement(text) for text in _project()["project"]["dependencies"]]


def _group(group: str, *, nested: bool = True) -> list[Requirement]:
    found: list[Requirement] = []
    for entry in _project()["dependency-groups"][group]:
        if isinstance(entry, str):
            found.append(Requirement(entry))
        elif nested:
            found.extend(_group(entry["include-group"]))
    return found
