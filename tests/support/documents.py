"""Writes the pages that say what the code already says: ``make docs``.

``tests/architecture/test_documents.py`` fails when one of them differs, so nothing
in them is edited by hand.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import textwrap
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from synchub import errors, keyspace
from synchub.__main__ import COMMANDS
from synchub.settings import Settings
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_NOTICE: Final = "<!-- Written by `make docs` from {source}; edit that. -->"
_WIDTH: Final = 110
_GROUPS: Final = frozenset({errors.SynchubError, errors.Refusal, errors.Fault})
"""Never raised themselves."""


def pages() -> dict[Path, str]:
    """Every generated file and what it has to hold."""
    return {
        ROOT / "docs/redis-keys.md": redis_keys(),
        ROOT / "docs/errors.md": error_page(),
        ROOT / "docs/settings.md": settings_page(),
        ROOT / "docs/commands.md": commands_page(),
        ROOT / "config/synchub.toml": settings_file(),
    }


def redis_keys() -> str:
    """Every kind of key, its owner and how long it lives."""
    rows = [
        (f"`{one.pattern}`", one.type, one.owner, one.holds, one.lifetime)
        for one in sorted(keyspace.FAMILIES, key=lambda one: (one.pattern.startswith("{"), one.pattern))
    ]
    return _page(
        "Redis keys",
        "`synchub/keyspace.py`",
        *_prose(
            """
            Everything the hub keeps lies under these names. `{merchant}` is a hash tag with the
            merchant's name in it, so all keys of one merchant share a slot and one script can change them
            in one step; `<…>` stands for a name that varies. Nothing here is a cache: deleting a key
            loses what it holds. The workers' queue has keys of its own, which begin with `arq:` and hold
            nothing that the sweep does not find again.
            """
        ),
        "",
        *_table(("key", "type", "feature", "holds", "lives"), rows),
    )


def error_page() -> str:
    """Every problem code, and every class behind it."""
    classes = [one for one in error_classes() if one not in _GROUPS]
    rows = [
        (
            f"`{one.__name__}`",
            f"`{one.code}`",
            str(one.status),
            one.retry.value,
            one.actor.value,
            first_sentence(one),
        )
        for one in classes
    ]
    return _page(
        "Errors",
        "`synchub/errors.py`",
        "A refused request is answered with a problem document (RFC 9457), `application/problem+json`:",
        "",
        "```json",
        '{"type": "https://synchub.dev/problems/key_unknown", "title": "key unknown", "status": 401,',
        ' "code": "key_unknown", "detail": "Send a known key: Authorization: Bearer sak_…"}',
        "```",
        "",
        *_prose(
            """
            Decide by `code` and `status`, which are stable; `detail` is a sentence for a person and may
            change. `type` is an identifier and need not be fetched. Every 503 and 429 carries `Retry-
            After` in seconds.
            """
        ),
        "",
        *_prose(
            """
            Retry: `never`, the same request will be refused again; `later`, it may succeed; `after`, it
            may succeed once `Retry-After` has passed. Actor: who has to do something about it.
            """
        ),
        "",
        *_table(("class", "code", "status", "retry", "actor", "meaning"), rows),
        "",
        *_prose(
            """
            An answer about stock is never an error: an unknown SKU is answered with 200 and
            `UNKNOWN_SKU`. What the hub itself does wrong is 500 with code `internal`.
            """
        ),
    )


def error_classes() -> list[type[errors.SynchubError]]:
    """All of them, in the order of the module."""
    found = [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.SynchubError) and one.__module__ == errors.__name__
    ]
    return sorted(found, key=lambda one: inspect.getsourcelines(one)[1])


def settings_page() -> str:
    """Every setting with its default and limits."""
    lines: list[str] = []
    for name, section in sections():
        lines += ["", f"## {name}", "", first_sentence(section), ""]
        rows = [
            (f"`{field}`", f"`{_shown(info)}`", limits(info), info.description or "")
            for field, info in section.model_fields.items()
        ]
        lines += _table(("setting", "default", "allowed", "what for"), rows)
    return _page(
        "Settings",
        "`synchub/settings.py`",
        *_prose(
            """
            A value comes from the environment (`SYNCHUB_REDIS__URL` is `url` of section `redis`),
            otherwise from the file that `SYNCHUB_CONFIG` names (`config/synchub.toml` if it names none),
            otherwise it is the default. A name that does not exist and a value that does not fit stop the
            start with a sentence. `synchub config` shows what is in force, with secrets masked.
            """
        ),
        *lines,
    )


def settings_file() -> str:
    """The settings as a file whose every line is still to be chosen."""
    lines = [
        "# Every setting of the hub with its default. Take the `#` away where you want something else; the",
        "# environment (SYNCHUB_REDIS__URL) wins over this file.",
        "# Written by `make docs` from synchub/settings.py.",
    ]
    for name, section in sections():
        lines += ["", f"# {first_sentence(section)}", f"[{name}]"]
        for field, info in section.model_fields.items():
            allowed = limits(info)
            text = f"{info.description}" + (f" Allowed: {allowed}." if allowed else "")
            lines += [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2)]
            lines += [f"#{field} = {_toml(info)}"]
    return "\n".join(lines) + "\n"


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Each section's name and class."""
    for name, info in Settings.model_fields.items():
        assert isinstance(info.annotation, type)
        yield name, info.annotation


def limits(info: FieldInfo) -> str:
    """What a value has to be, as far as its type does not say it."""
    least = next((one.ge for one in info.metadata if hasattr(one, "ge")), None)
    most = next((one.le for one in info.metadata if hasattr(one, "le")), None)
    choices = getattr(info.annotation, "__args__", ())
    if choices:
        return " or ".join(f"`{choice}`" for choice in choices)
    if least is not None and most is not None:
        return f"{least} to {most}"
    return "" if least is None else f"at least {least}"


def commands_page() -> str:
    """Every command that is there, with its options."""
    lines: list[str] = []
    for name, text in sorted(COMMANDS.items()):
        module = f"synchub.commands.{name.replace('-', '_')}"
        if importlib.util.find_spec(module) is None:
            continue
        parser = argparse.ArgumentParser(prog=f"synchub {name}")
        importlib.import_module(module).register(parser)
        lines += ["", f"## synchub {name}", "", f"{text[0].upper()}{text[1:]}."]
        lines += _options(parser, f"synchub {name}")
    return _page(
        "Commands",
        "`synchub/commands/`",
        *_prose(
            """
            Every command ends with 0 when it did what was asked, 1 when it could not and 2 when it was
            called wrongly. What went wrong is one sentence on standard error. With `--json` standard
            output holds JSON and nothing else. Commands that ask a hub mean the store
            of `--redis`, the hub that runs in `--data`, the store of `SYNCHUB_REDIS__URL`, the hub that
            runs in `.synchub`, or the store in the settings: the first of these that there is.
            """
        ),
        *lines,
    )


def _options(parser: argparse.ArgumentParser, called: str) -> list[str]:
    lines: list[str] = []
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help for choice in action._choices_actions}
            for verb, below in action.choices.items():
                lines += ["", f"### {called} {verb}", "", f"{_sentence(texts.get(verb) or verb)}"]
                lines += _options(below, f"{called} {verb}")
        elif not isinstance(action, argparse._HelpAction):
            rows.append((f"`{_called(action)}`", action.help or ""))
    return ["", *_table(("option", "meaning"), rows), *lines] if rows else lines


def _called(action: argparse.Action) -> str:
    metavar = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return f"[{metavar}…]" if action.nargs == "*" else metavar
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    return f"{name} {choices or metavar}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def first_sentence(thing: type) -> str:
    """The first paragraph of a docstring on one line, as Markdown writes code."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def _plain(info: FieldInfo) -> Any:
    value = info.default
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _shown(info: FieldInfo) -> str:
    value = _plain(info)
    return str(value) if value != "" else '""'


def _toml(info: FieldInfo) -> str:
    value = _plain(info)
    return str(value) if isinstance(value, int | float) else json.dumps(str(value))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        _row(heads),
        _row(tuple("---" for _ in heads)),
        *(_row(tuple(cell.replace("|", "\\|") for cell in row)) for row in rows),
    ]


def _prose(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _page(title: str, source: str, *lines: str) -> str:
    return "\n".join([f"# {title}", "", _NOTICE.format(source=source), "", *lines]) + "\n"


def main() -> None:
    """Write them all."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
