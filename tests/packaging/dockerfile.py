"""Reads a Dockerfile and carries out one of its stages in a folder, without Docker.

A new virtual environment stands in for the image's Python; absolute paths that the
stage writes to are moved below the folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_IGNORED: Final = frozenset({"__pycache__", "fixtures"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction with its continuation lines joined."""

    word: str
    rest: str


def stages(dockerfile: Path) -> list[list[Instruction]]:
    """The instructions of each stage, in order; comments and empty lines are gone."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", dockerfile.read_text(encoding="utf-8"))
    lines = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    found: list[list[Instruction]] = []
    for line in lines:
        if not line:
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word=word, rest=" ".join(rest.split())))
    return found


def carry_out(stage: list[Instruction], *, context: Path, image: Path, moved: tuple[str, ...]) -> None:
    """Run the stage's WORKDIR, COPY and RUN with ``image`` as the root of ``moved`` paths.

    Raises:
        subprocess.CalledProcessError: a RUN line failed; its output is on the terminal.
    """
    python = image / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
    folder = image
    for instruction in stage:
        rest = _move(instruction.rest, image, moved)
        match instruction.word:
            case "WORKDIR":
                folder = image / rest.lstrip("/") if not rest.startswith(str(image)) else Path(rest)
                folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(rest.split(), context, folder)
            case "RUN":
                subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", rest], check=True, cwd=folder, env=_environment(python)
                )
            case "FROM":
                pass
            case word:
                msg = f"{word} is not understood here"
                raise NotImplementedError(msg)


def _move(text: str, image: Path, moved: tuple[str, ...]) -> str:
    for path in moved:
        text = re.sub(rf"(?<![\w.]){re.escape(path)}\b", str(image / path.lstrip("/")), text)
    return text


def _copy(words: list[str], context: Path, folder: Path) -> None:
    *sources, target = words
    for source in sources:
        origin = context / source
        if origin.is_dir():
            shutil.copytree(
                origin, folder / target, ignore=lambda _, names: _IGNORED & set(names), dirs_exist_ok=True
            )
        else:
            shutil.copy(origin, folder / target)


def _environment(python: Path) -> dict[str, str]:
    """An image's environment: its own programs first, nothing of the environment the tests run in."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return {**own, "PATH": f"{python / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
