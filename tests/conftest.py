"""What every test may rely on: a real Valkey, an event loop that is never blocked, no other machine."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests.support.loopback import guard_loopback
from tests.support.source import PACKAGES
from tests.support.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartValkey(Protocol):
    """The type of the ``own_valkey`` fixture."""

    def __call__(self, **options: str) -> Valkey:
        """Start one more server."""


def pytest_configure() -> None:
    """Keep the whole run on this machine, and its examples the same for the same code."""
    guard_loopback()
    settings.register_profile("suite", derandomize=True, database=None)
    settings.load_profile("suite")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The server that all tests of this process share; a test that needs it asks for ``redis_url``."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of an empty store with the shipped configuration."""
    valkey.flush()
    return valkey.url


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[StartValkey]:
    """Starts servers that belong to the test alone: it may kill, freeze and restart them.

    ``own_valkey(maxmemory="2mb")`` overrides the shipped configuration; underscores
    stand for the dashes of option names.
    """
    with ExitStack() as servers:
        count = 0

        def start(**options: str) -> Valkey:
            nonlocal count
            count += 1
            named = {option.replace("_", "-"): value for option, value in options.items()}
            return servers.enter_context(Valkey(tmp_path / f"valkey-{count}", options=named))

        yield start


@pytest.fixture(autouse=True)
def _loop_is_never_blocked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an async test in which our code blocks its event loop.

    Only calls that pass through our own packages count: what a test itself does to
    prepare its case (reading a fixture, starting a server) may take its time.
    """
    is_async = inspect.iscoroutinefunction(getattr(request, "function", None))
    if not is_async or request.node.get_closest_marker("blocking_allowed"):
        yield
        return
    with blockbuster_ctx(scanned_modules=list(PACKAGES)):
        yield
