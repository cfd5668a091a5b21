"""What the pages say is so: generated ones equal the code, links lead somewhere, names exist."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from prometheus_client import Counter, Gauge, Histogram

from synchub import errors, metrics
from synchub.settings import Settings
from tests.support.documents import error_classes, pages, sections
from tests.support.source import PACKAGES, ROOT, dotted, files, modules, name, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synchub.errors import SynchubError

_LINK: Final = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")
_CODE: Final = re.compile(r"`(?P<text>[^`\n]+)`")
_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_PATH: Final = re.compile(
    r"(synchub|connectors|workers|tests|benchmarks|docs|config)/[\w./-]*\w(\.\w+)?/?(:\w+(\.\w+)*)?"
)
# The name that stands for whatever platform a reader adds.
_PLACEHOLDER: Final = re.compile(r"\bacme\b|_acme\b")
_BRANCH: Final = re.compile(r"^(?P<lines>[│ ]*)(├── |└── )?(?P<name>[A-Z]\w+)(?P<rest>.*)$")
_INDENT: Final = 4


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_generated_page_says_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == pages()[path], "run: make docs"


def test_the_tree_of_errors_is_drawn_as_it_grows() -> None:
    drawn = dict(_drawn_tree())
    grown = {one.__name__: one.__bases__[0].__name__ for one in error_classes()}
    assert drawn == grown


def test_the_tree_of_errors_says_each_ones_status_and_code() -> None:
    for line in (errors.__doc__ or "").splitlines():
        match = _BRANCH.match(line.strip())
        said = re.match(r"\s+(\d{3}) (\w+)", match["rest"]) if match else None
        if match and said:
            drawn: type[SynchubError] = getattr(errors, match["name"])
            assert (str(drawn.status), drawn.code) == said.groups(), match["name"]


def test_the_settings_file_with_every_line_chosen_is_the_defaults() -> None:
    text = (ROOT / "config/synchub.toml").read_text(encoding="utf-8")
    chosen = tomllib.loads(re.sub(r"(?m)^#(\w+ = )", r"\1", text))
    assert Settings.model_validate(chosen) == Settings.model_validate({})
    assert {part: set(values) for part, values in chosen.items()} == {
        part: set(section.model_fields) for part, section in sections()
    }


def test_the_settings_file_as_shipped_chooses_nothing() -> None:
    shipped = tomllib.loads((ROOT / "config/synchub.toml").read_text(encoding="utf-8"))
    assert set().union(*shipped.values()) == set()


def test_every_setting_is_read_somewhere() -> None:
    read = {
        node.attr
        for path in modules("synchub", "workers")
        if name(path) != "synchub/settings.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
    }
    unread = [f"{part}.{field}" for part, section in sections() for field in section.model_fields]
    assert [full for full in unread if full.partition(".")[2] not in read] == []


def test_every_metric_has_its_place_in_the_handbook() -> None:
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(synchub_\w+)`", text))
    assert described == set(_metric_names())


def test_every_line_of_the_log_is_explained_in_the_handbook() -> None:
    text = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    table = text.partition("## Log lines")[2].partition("\n## ")[0]
    explained = {word for line in table.splitlines() for word in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    logged = {
        call.args[0].value
        for path in modules("synchub", "workers")
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call)
        if re.search(r"\b_?log\.(debug|info|warning|error)$", dotted(call.func))
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    assert explained - {"event", "level", "ts"} == logged


def test_every_setting_named_in_a_page_exists() -> None:
    known = {f"{part}.{field}" for part, section in sections() for field in section.model_fields}
    parts = "|".join(part for part, _ in sections())
    named = {
        (name(path), found[0])
        for path in _written_pages()
        for found in re.finditer(rf"(?<![\w./-])(?:{parts})\.[a-z]\w*(?![\w/(])", _code_of(path))
        if not found[0].endswith((".py", ".lua", ".conf", ".md", ".key"))
    }
    assert {(page, setting) for page, setting in named if setting not in known} == set()


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{name(path)}: {link['to']}"
        for path in files(suffix=".md")
        for link in _LINK.finditer(_FENCE.sub("", path.read_text(encoding="utf-8")))
        if "://" not in link["to"] and not _is_there(path, link["to"])
    ]
    assert broken == []


def test_every_file_and_function_named_in_a_page_exists() -> None:
    missing = [
        f"{name(path)}: {code['text']}"
        for path in _written_pages()
        for code in _CODE.finditer(_FENCE.sub("", path.read_text(encoding="utf-8")))
        if _PATH.fullmatch(code["text"]) and not _PLACEHOLDER.search(code["text"])
        if not _is_named_rightly(code["text"])
    ]
    assert missing == []


def test_the_data_path_names_functions_at_every_step() -> None:
    text = (ROOT / "docs/data-path.md").read_text(encoding="utf-8")
    steps = re.split(r"(?m)^## ", text)[1:]
    without = [step.splitlines()[0] for step in steps if not re.search(r"`[\w/]+\.(py|lua):\w+", step)]
    assert without == []


def test_decisions_are_numbered_without_gaps_and_dated() -> None:
    found = sorted(path for path in files("docs/decisions", suffix=".md") if path.name != "README.md")
    numbers = [int(path.name[:4]) for path in found]
    assert numbers == list(range(1, len(found) + 1))
    undated = [name(path) for path in found if not re.search(r"(?m)^Date: 20\d\d-\d\d-\d\d$", _text(path))]
    assert undated == []


def _drawn_tree() -> Iterator[tuple[str, str]]:
    """Each class in the drawing and the one above it."""
    above: list[str] = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        match = _BRANCH.match(line[_INDENT:])
        if match is None or not line.startswith(" " * _INDENT):
            continue
        depth = (len(match["lines"]) + len(match[2] or "")) // _INDENT
        above[depth + 1 :] = [match["name"]]
        yield match["name"], above[depth]


def _metric_names() -> Iterator[str]:
    for metric in vars(metrics).values():
        if isinstance(metric, Counter):
            yield f"{next(iter(metric.describe())).name}_total"
        elif isinstance(metric, Gauge | Histogram):
            yield next(iter(metric.describe())).name


def _written_pages() -> list[Path]:
    return [ROOT / "README.md", *files("docs", suffix=".md")]


def _code_of(path: Path) -> str:
    return "\n".join(code["text"] for code in _CODE.finditer(_FENCE.sub("", _text(path))))


def _is_there(page: Path, to: str) -> bool:
    target, _, anchor = to.partition("#")
    found = (page.parent / target).resolve() if target else page
    if not found.exists():
        return False
    return not anchor or anchor in _anchors(found)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", _FENCE.sub("", _text(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_named_rightly(text: str) -> bool:
    """``path`` or ``path:function``; a Lua function is looked up by its definition."""
    where, _, what = text.partition(":")
    path = ROOT / where
    if not path.exists():
        return False
    if not what:
        return True
    if path.suffix == ".lua":
        return re.search(rf"(?m)^local function {what}\(", _text(path)) is not None
    return _has(where.removesuffix(".py").replace("/", "."), what)


def _has(module: str, what: str) -> bool:
    if module.partition(".")[0] not in PACKAGES:
        return False
    found: object = importlib.import_module(module)
    for part in what.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
