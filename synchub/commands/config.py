"""``synchub config``: the settings in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synchub.commands.common import add_common, say, settings_of

if TYPE_CHECKING:
    import argparse


def register(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print every setting with its resolved value; secrets are masked."""
    document = settings_of(args).model_dump(mode="json")
    lines = []
    for section, values in document.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {value!r}" for name, value in values.items()]
        lines.append("")
    say(args, document, *lines[:-1])
    return 0
