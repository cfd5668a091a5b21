"""Finds the connectors: folders of the ``connectors`` package, and installed packages.

Nothing lists them. A folder is a connector when it has a ``manifest.toml``; a
package of somebody else names its module under the entry points
``synchub.connectors``. Reading manifests imports no code.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from synchub.connector_kit.contract import CheckSettings, Client, Connector, Normalize, ReadQuota, Verify
from synchub.connector_kit.manifest import Manifest, load_manifest
from synchub.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

ENTRY_POINTS: Final = "synchub.connectors"
MANIFEST: Final = "manifest.toml"
_PACKAGE: Final = "connectors"


def discover(folder: Path | None = None) -> dict[str, Connector]:
    """Return all connectors by name: those of one folder, or all that are installed.

    Raises:
        Misconfigured: an unusable manifest, a name that is not its folder's or is taken
            twice, or a package that does not give what its manifest promises.
    """
    return {name: load_connector(path, name) for name, path in connector_folders(folder).items()}


def connector_folders(folder: Path | None = None) -> dict[str, Path]:
    """Return each connector's folder by name, without importing any.

    Raises:
        Misconfigured: a name is taken twice.
    """
    if folder is not None:
        return _folders_in(folder)
    spec = importlib.util.find_spec(_PACKAGE)
    homes = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found: dict[str, Path] = {}
    for home in homes:
        found.update(_folders_in(home))
    for name, path in _installed().items():
        if name in found:
            msg = f"Two connectors are named {name}: {found[name]} and {path}."
            raise Misconfigured(msg)
        found[name] = path
    return found


def load_connector(path: Path, name: str | None = None) -> Connector:
    """Import one connector's folder and check that it keeps what its manifest promises.

    Its name is the folder's, or for an installed package its entry point's.

    Raises:
        Misconfigured: it does not; the sentence says what is missing.
    """
    manifest = load_manifest(path / MANIFEST)
    if manifest.name != (name or path.name):
        msg = f"{path / MANIFEST} names {manifest.name}, its folder or entry point {name or path.name}."
        raise Misconfigured(msg)
    module = _import(path)
    return Connector(
        manifest=manifest,
        verify=cast("Verify", _function(module, "verify", path)),
        normalize=cast("Normalize", _function(module, "normalize", path)),
        client=_client(module, manifest, path),
        read_quota=cast("ReadQuota | None", getattr(module, "read_quota", None)),
        check_settings=cast("CheckSettings | None", getattr(module, "check_settings", None)),
    )


def settings_faults(platform: str, credentials: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a platform's own code finds wrong with an account's credentials; imports that code.

    Raises:
        Misconfigured: the connector cannot be loaded.
    """
    folders = connector_folders()
    if platform not in folders:
        return ()
    check = load_connector(folders[platform], platform).check_settings
    return check(credentials) if check else ()


def _folders_in(home: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(home.glob(f"*/{MANIFEST}"))}


def _installed() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(entry.module)
        if spec is None or spec.origin is None:
            msg = f"The entry point {entry.name} names {entry.module}, which is not installed."
            raise Misconfigured(msg)
        found[entry.name] = Path(spec.origin).parent
    return found


def _import(path: Path) -> ModuleType:
    module = importlib.import_module(_module_name(path))
    if module.__file__ is None or Path(module.__file__).parent.resolve() != path.resolve():
        msg = f"{path} has no __init__.py, or another connector is named {path.name}."
        raise Misconfigured(msg)
    return module


def _module_name(path: Path) -> str:
    for name, installed in _installed().items():
        if installed == path:
            return next(entry.module for entry in entry_points(group=ENTRY_POINTS, name=name))
    package = importlib.import_module(_PACKAGE)
    if str(path.parent) not in package.__path__:
        # A folder elsewhere becomes part of the package, so that its absolute imports work.
        package.__path__.append(str(path.parent))
        importlib.invalidate_caches()
    return f"{_PACKAGE}.{path.name}"


def _function(module: ModuleType, name: str, path: Path) -> object:
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"{path / '__init__.py'} gives no function {name}."
        raise Misconfigured(msg)
    return cast("object", function)


def _client(module: ModuleType, manifest: Manifest, path: Path) -> type[Client] | None:
    client = getattr(module, "Client", None)
    promised = {
        "fetch_levels": manifest.client is not None,
        "fetch_page": manifest.polling is not None,
        "cursor_at": manifest.polling is not None,
        "check_subscription": manifest.subscription.check,
        "repair_subscription": manifest.subscription.check,
        "ask_canary": manifest.subscription.canary == "asked",
    }
    if client is not None and not any(promised.values()):
        msg = f"{path}: a Client in __init__.py and what its manifest offers come together."
        raise Misconfigured(msg)
    for name, is_promised in promised.items():
        if hasattr(client, name) != is_promised:
            side = "promises" if is_promised else "does not promise"
            msg = f"{path}: its manifest {side} what Client.{name} in __init__.py is for."
            raise Misconfigured(msg)
    return cast("type[Client] | None", client)
