"""The repository's own files, for the tests that judge them."""

from __future__ import annotations

import ast
import io
import os
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("synchub", "connectors", "workers")
CODE: Final = (*PACKAGES, "clients", "docs/examples", "tests", "benchmarks")

_NOT_OURS: Final = frozenset(
    {
        ".git",
        ".venv",
        ".venv-lock",
        ".synchub",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".import_linter_cache",
        ".hypothesis",
        "__pycache__",
        "node_modules",
        "build",
        "dist",
    }
)


def files(*folders: str, suffix: str = "") -> list[Path]:
    """Every file of the repository, or of some of its folders, in a stable order."""
    roots = [ROOT / folder for folder in folders] if folders else [ROOT]
    return sorted(path for root in roots for path in _walk(root) if path.name.endswith(suffix))


def modules(*folders: str) -> list[Path]:
    """Every Python file of these folders, of all code when none is named."""
    return files(*(folders or CODE), suffix=".py")


def name(path: Path) -> str:
    """The path as a reader knows it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The parsed module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def comments(path: Path) -> dict[int, str]:
    """The comments of a module by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of names, otherwise an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports; ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [
            entry for entry in folders if entry not in _NOT_OURS and not entry.endswith(".egg-info")
        ]
        yield from (Path(folder) / entry for entry in names)
