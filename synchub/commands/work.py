"""``synchub work``: becomes one worker process.

The core never imports the workers, so this command replaces itself with theirs,
handing its options over as settings.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from synchub.commands.common import add_common, settings_of

if TYPE_CHECKING:
    import argparse

    from synchub.settings import Settings


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Check the settings and start working; returns only when that is impossible."""
    settings = settings_of(args)
    os.execve(sys.executable, [sys.executable, "-m", "workers"], {**os.environ, **environment_of(settings)})  # noqa: S606 - no shell, our own interpreter


def environment_of(settings: Settings) -> dict[str, str]:
    """Return what a child process must be told so that it means the same hub."""
    return {
        "SYNCHUB_REDIS__URL": settings.redis.url,
        "SYNCHUB_SECRETS__KEY_FILE": str(settings.secrets.key_file),
        "SYNCHUB_ARCHIVE__FOLDER": str(settings.archive.folder),
    }
