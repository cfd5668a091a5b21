"""Rules of this house that no linter knows. Each failure names file, line and what to do."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.source import PACKAGES, ROOT, comments, dotted, files, imported, modules, name, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_LINES: Final = 450
# A test module is read one case at a time.
MAX_TEST_LINES: Final = 600

# Written in two halves, so that this file passes its own rule.
_PLACES: Final = re.compile(
    "|".join(
        [
            "/wor" + "k/",
            "/tm" + "p/",
            "/roo" + "t/",
            r"/hom" + r"e/\w",
            r"/User" + r"s/\w",
            r"pypi\." + "org",
            r"pythonhosted\." + "org",
            r"npmjs\." + "org",
            r"crates\." + "io",
            r"golang\." + "org",
            r"maven\." + r"(org|apache\.org)",
            r"debian\." + "org",
        ]
    )
)
_BINARY: Final = frozenset({".png", ".ico", ".woff2", ".gz", ".rdb", ".pyc"})
# The platforms' own words, recorded: nothing of ours is in them.
_FOREIGN: Final = ("/fixtures/", "LICENSE")

_CLIENTS: Final = frozenset(
    {
        "Redis",
        "StrictRedis",
        "RedisCluster",
        "Sentinel",
        "ArqRedis",
        "ConnectionPool",
        "BlockingConnectionPool",
    }
)
_CLIENT_MAKERS: Final = frozenset(
    {"Redis.from_url", "redis.from_url", "ConnectionPool.from_url", "create_pool"}
)
_CLOCKS: Final = frozenset({"now", "utcnow", "today"})
_UNTIMELY: Final = frozenset({"time", "random", "secrets", "uuid", "os"})
_PURE: Final = frozenset({"model.py", "rules.py", "mapping.py", "signature.py"})
_MAY_PRINT: Final = re.compile(
    r"^(benchmarks/|docs/examples/|synchub/commands/|synchub/demo/|synchub/__main__\.py$|synchub/connector_kit/emulation\.py$"
    r"|connectors/\w+/emulator\.py$|tests/(mutants|witness|faults)\b)"
)
_HEADINGS: Final = ("Context", "Decision", "Consequences", "Alternatives")
_SILENCE: Final = re.compile(r"(?P<what>type:\s*ignore|noqa|nosec|pragma)(?P<rest>[^#]*(#.*)?)")
_SILENCED: Final = re.compile(r"^(\[[\w,\s-]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)(?P<reason>.*)$")
_MIN_REASON_WORDS: Final = 2


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()[:80]}"
        for path in files()
        if path.suffix not in _BINARY
        if not any(part in f"/{name(path)}" for part in _FOREIGN)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _PLACES.search(line)
    ]
    assert found == []


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {name(path): lines for path in modules() if (lines := _line_count(path)) > _limit(path)}
    assert long == {}


def test_redis_clients_are_built_in_one_place() -> None:
    found = [
        f"{name(path)}:{call.lineno}: {dotted(call.func)}"
        for path in modules(*PACKAGES)
        if name(path) != "synchub/redis.py"
        for call in _calls(path)
        if dotted(call.func).rpartition(".")[2] in _CLIENTS
        or any(dotted(call.func).endswith(maker) for maker in _CLIENT_MAKERS)
    ]
    assert found == []


def test_only_one_helper_repeats_calls() -> None:
    found = {
        name(path)
        for path in modules(*PACKAGES)
        for _, what in imported(path)
        if what.split(".")[0] == "tenacity"
    }
    assert found == {"synchub/upstream/retrying.py"}, "go through it: it knows deadline and budget"


def test_pure_modules_ask_no_clock_and_no_dice() -> None:
    found: list[str] = []
    for path in modules(*PACKAGES):
        if path.name not in _PURE:
            continue
        found += [
            f"{name(path)}:{line}: {what}" for line, what in imported(path) if what.split(".")[0] in _UNTIMELY
        ]
        found += [
            f"{name(path)}:{call.lineno}: {dotted(call.func)}"
            for call in _calls(path)
            if dotted(call.func).startswith(("datetime.", "date.", "dt."))
            and dotted(call.func).rpartition(".")[2] in _CLOCKS
        ]
    assert found == []


def test_catching_everything_gives_a_reason() -> None:
    found = [
        f"{name(path)}:{handler.lineno}"
        for path in modules()
        for handler in ast.walk(tree(path))
        if isinstance(handler, ast.ExceptHandler) and _catches_everything(handler)
        if not _has_reason(path, handler)
    ]
    assert found == [], "say in a comment on the line, or on the first below it, why nothing narrower will do"


def test_silencing_a_tool_names_the_rule_and_the_reason() -> None:
    found = [
        f"{name(path)}:{number}: {comment}"
        for path in modules()
        for number, comment in comments(path).items()
        for silence in _SILENCE.finditer(comment)
        if not _says_why(silence["rest"])
    ]
    assert found == [], "write: noqa: CODE - reason, or: type: ignore[code]  # reason"


def test_only_programs_that_talk_to_a_person_print() -> None:
    found = [
        f"{name(path)}:{call.lineno}"
        for path in modules()
        if not _MAY_PRINT.search(name(path))
        for call in _calls(path)
        if dotted(call.func) == "print"
    ]
    assert found == []


def test_public_operations_say_what_callers_rely_on() -> None:
    found = [
        f"{name(path)}:{node.lineno}: {node.name}"
        for path in modules("synchub")
        if path.name == "operations.py"
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert found == []


def test_stores_are_used_by_their_own_feature_alone() -> None:
    found = [
        f"{name(path)}:{line}: {what}"
        for path in modules("synchub", "workers")
        if name(path) != "synchub/hub.py"
        for line, what in imported(path)
        if (match := re.match(r"(synchub\.\w+)\.store\b", what))
        and not name(path).startswith(match[1].replace(".", "/") + "/")
    ]
    assert found == [], "ask the feature's operations instead"


def test_every_decision_is_recorded_in_full() -> None:
    incomplete = {
        name(path): missing
        for path in files()
        if name(path).startswith("docs/decisions/") and path.suffix == ".md"
        if (missing := _missing_headings(path)) or not re.match(r"\d{4}-", path.name)
    }
    assert incomplete == {}


def test_tests_wait_for_conditions_and_not_for_times() -> None:
    found = [
        f"{name(path)}:{call.lineno}"
        for path in modules("tests")
        if not name(path).startswith("tests/support/")
        for call in _sleeps_outside_loops(tree(path))
    ]
    assert found == [], "use tests/support/wait.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_exist_and_say_what_they_are(package: str) -> None:
    path = ROOT / package / "__init__.py"
    assert path.exists(), path
    assert ast.get_docstring(tree(path))


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name(path)
        for path in modules(*PACKAGES, "benchmarks")
        if path.stat().st_size and not ast.get_docstring(tree(path))
    ]
    assert silent == []


def _limit(path: Path) -> int:
    return MAX_TEST_LINES if name(path).startswith("tests/") else MAX_LINES


def _line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or dotted(kind) in {"Exception", "BaseException"} for kind in caught)


def _has_reason(path: Path, handler: ast.ExceptHandler) -> bool:
    """A reason stands beside the handler or between it and its first statement."""
    near = range(handler.lineno, handler.body[0].lineno + 1)
    return any(len(_without_codes(comments(path).get(line, "")).split()) > _MIN_REASON_WORDS for line in near)


def _without_codes(comment: str) -> str:
    return re.sub(r"noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|[#:-]", " ", comment)


def _says_why(rest: str) -> bool:
    named = _SILENCED.match(rest.strip())
    return named is not None and len(re.findall(r"\w+", named["reason"])) >= _MIN_REASON_WORDS


def _missing_headings(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [heading for heading in _HEADINGS if not re.search(rf"(?m)^#+ {heading}\b", text)]


def _sleeps_outside_loops(node: ast.AST, *, polling: bool = False) -> Iterator[ast.Call]:
    """Sleeps that wait for a time: a pause inside a loop that looks at something is fine, and so is 0."""
    for child in ast.iter_child_nodes(node):
        inside = polling or isinstance(child, ast.While | ast.For | ast.AsyncFor)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = False
        if isinstance(child, ast.Call) and not inside and _is_sleep(child):
            yield child
        yield from _sleeps_outside_loops(child, polling=inside)


def _is_sleep(call: ast.Call) -> bool:
    given = call.args[0] if call.args else None
    is_zero = isinstance(given, ast.Constant) and given.value == 0
    return dotted(call.func) in {"time.sleep", "asyncio.sleep", "sleep"} and not is_zero
