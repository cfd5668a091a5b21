"""These tests need programs that ``make witness`` installs; without it they are skipped, and say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.tools import PACKAGES_VARIABLE


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The folder with ``node_modules``."""
    folder = os.environ.get(PACKAGES_VARIABLE)
    if not folder:
        pytest.skip("run by `make witness`")
    return Path(folder)
