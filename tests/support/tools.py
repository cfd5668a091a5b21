"""Programs of other people that some tests compare with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

PACKAGES_VARIABLE: Final = "SYNCHUB_TEST_NPM"
"""Names the folder in which `make witness` has installed npm packages."""


def need_tool(name: str) -> Path:
    """The program's path; without it the test is skipped, and in CI it fails."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    sentence = f"{name} is not installed on this machine"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
