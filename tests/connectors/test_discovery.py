from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import connectors
from synchub.connector_kit import discovery
from synchub.connector_kit.discovery import connector_folders, discover, load_connector
from synchub.connector_kit.scaffold import write_connector
from synchub.errors import Misconfigured


@pytest.fixture(autouse=True)
def _imports_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(connectors, "__path__", list(connectors.__path__))
    before = set(sys.modules)
    yield
    for module in set(sys.modules) - before:
        del sys.modules[module]


def announce(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    entry = EntryPoint(name=name, value=module, group=discovery.ENTRY_POINTS)

    def installed(group: str, name: str = name) -> list[EntryPoint]:
        return [entry] if (group, name) == (entry.group, entry.name) else []

    monkeypatch.setattr(discovery, "entry_points", installed)


def test_the_shipped_connectors_are_found_without_a_list() -> None:
    found = discover()
    assert {"shiphero", "shopify", "standard"} <= set(found)
    assert found["standard"].client is None
    assert found["shopify"].client is not None
    assert all(connector.name == name for name, connector in found.items())


def test_looking_for_folders_imports_nothing() -> None:
    before = set(sys.modules)
    assert connector_folders()
    assert not {module for module in set(sys.modules) - before if module.startswith("connectors.")}


def test_a_folder_elsewhere_is_a_place_for_connectors_too(tmp_path: Path) -> None:
    write_connector("acme_here", tmp_path)
    (tmp_path / "not_a_connector").mkdir()
    assert set(discover(tmp_path)) == {"acme_here"}


def test_an_installed_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = {path.parent for path in write_connector("acme", tmp_path) if path.name == "manifest.toml"}
    package = folder.rename(tmp_path / "synchub_acme")
    for path in package.glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("connectors.acme", "synchub_acme"))
    monkeypatch.syspath_prepend(tmp_path)
    announce(monkeypatch, "acme", "synchub_acme")
    assert discover()["acme"].verify.__module__ == "synchub_acme.signature"


def test_an_entry_point_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, "acme", "acme_that_is_not_installed")
    with pytest.raises(Misconfigured, match="acme_that_is_not_installed, which is not installed"):
        discover()


def test_two_connectors_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, "standard", "connectors.shopify")
    with pytest.raises(Misconfigured, match="Two connectors are named standard"):
        discover()


def test_a_folder_named_like_a_shipped_connector_is_refused(tmp_path: Path) -> None:
    write_connector("standard", tmp_path)
    with pytest.raises(Misconfigured, match="another connector is named standard"):
        load_connector(tmp_path / "standard")


def test_an_unknown_key_in_a_manifest_is_named(tmp_path: Path) -> None:
    write_connector("acme_misspelt", tmp_path)
    manifest = tmp_path / "acme_misspelt" / "manifest.toml"
    manifest.write_text("dedup = 1\n" + manifest.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(Misconfigured, match="dedup"):
        discover(tmp_path)


def test_a_package_without_its_functions_is_refused(tmp_path: Path) -> None:
    write_connector("acme_empty", tmp_path)
    (tmp_path / "acme_empty" / "__init__.py").write_text("")
    with pytest.raises(Misconfigured, match="gives no function verify"):
        discover(tmp_path)
