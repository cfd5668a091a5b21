"""Programs of other people that some tests compare with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def need_tool(name: str) -> Path:
    """The program's path; without it the test is skipped, and in CI it fails."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    sentence = f"{name} is not installed on this machine"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
