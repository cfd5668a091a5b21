"""Loads the hub's scripts and holds their callers to what they declare.

A script's first lines are its signature::

    -- Moves the number.
    -- PARTS rules writing
    -- KEYS head ledger
    -- ARGV now_ms ... rows
    -- FLAGS allow-oom

``PARTS`` are files of the folder ``parts``, read before the script's body. Of them only the
functions that the script needs are taken. All but the first
are scopes of their own, of which later ones see the functions and tables; only variables of the
first part can be assigned by others.
``KEYS`` and ``ARGV`` become named locals of the script, so that its body never
counts positions; a name after ``...`` is the rest of the arguments and is read
through ``ARGV[rest_from + i]``. A call with other names than declared fails in
Python, before anything is sent.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synchub.redis import Part

_TOP_LEVEL: Final = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)
_FUNCTION: Final = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
_WORD: Final = re.compile(r"\w+")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class Executes(Protocol):
    """A client that sends one command."""

    async def execute(self, *command: Part) -> Any:
        """Send it and return the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One checked script."""

    name: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str
    source: str
    sha: str

    async def __call__(
        self,
        client: Executes,
        *,
        keys: Mapping[str, str],
        args: Mapping[str, Part],
        rest: Sequence[Part] = (),
    ) -> Any:
        """Run the script; one round trip, two after a server has forgotten it.

        Raises:
            TypeError: names that the script does not declare.
            OutcomeUnknown, StoreUnavailable: as the client says.
        """
        if tuple(keys) != self.keys or tuple(args) != self.args or (rest and not self.rest):
            given = f"{tuple(keys)} and {tuple(args)}"
            msg = f"{self.name}.lua takes KEYS {self.keys} and ARGV {self.args}, not {given}"
            raise TypeError(msg)
        parts = (len(self.keys), *keys.values(), *args.values(), *rest)
        try:
            return await client.execute("EVALSHA", self.sha, *parts)
        except NoScriptError:
            return await client.execute("EVAL", self.source, *parts)


def load(name: str) -> Script:
    """Read ``name.lua`` of this package.

    Raises:
        ValueError: the head of the file does not declare KEYS and ARGV in the agreed form.
    """
    return parse(name, text_of(name))


def text_of(name: str) -> str:
    """Return the whole text of a script: its head, the parts that the head names, its own body."""
    folder = files(__name__)
    lines = (folder / f"{name}.lua").read_text(encoding="utf-8").splitlines(keepends=True)
    head = list(takewhile(lambda line: line.startswith("--"), lines))
    named = [line.split()[2:] for line in head if line.startswith("-- PARTS ")]
    body = "".join(lines[len(head) :])
    texts = [
        (folder / "parts" / f"{part}.lua").read_text(encoding="utf-8") for part in chain.from_iterable(named)
    ]
    used = _used(texts, body)
    texts = [_FUNCTION.sub(lambda found: found[0] if found[1] in used else "", text) for text in texts]
    enclosed = [_enclosed(text, "\n".join([*texts[place + 1 :], body])) for place, text in enumerate(texts)]
    return "\n".join(["".join(head), *texts[:1], *enclosed[1:], body])


def _used(texts: Sequence[str], body: str) -> set[str]:
    """Return the functions that the body needs, itself or through others.

    A script makes its functions anew for each call, so one that it does not need costs time.
    """
    functions = {found[1]: found[0] for text in texts for found in _FUNCTION.finditer(text)}
    waiting = {*_WORD.findall(body)}
    for text in texts:
        waiting |= {*_WORD.findall(_FUNCTION.sub("", text))}
    used: set[str] = set()
    while found := (waiting & functions.keys()) - used:
        used |= found
        waiting = {word for name in found for word in _WORD.findall(functions[name])}
    return used


def _enclosed(text: str, rest: str) -> str:
    """Keep a part's names to itself but for those that the rest uses: Lua allows 200 locals in one scope."""
    named = chain.from_iterable(names.split(", ") for names in _TOP_LEVEL.findall(text))
    words = {*_WORD.findall(rest)}
    used = [name for name in named if name in words]
    return (
        f"local {', '.join(used)} = (function()\n{text}\nreturn {', '.join(used)}\nend)()\n" if used else ""
    )


def parse(name: str, text: str) -> Script:
    """Turn a script's text into a :class:`Script` (see :func:`load`)."""
    comments = takewhile(lambda line: line.startswith("--"), text.splitlines())
    head = [line.removeprefix("-- ") for line in comments]
    keys, args = _declared(name, head, "KEYS"), _declared(name, head, "ARGV")
    flags = next((line.removeprefix("FLAGS ").strip() for line in head if line.startswith("FLAGS ")), "")
    rest = ""
    if "..." in args:
        position = args.index("...")
        args, (rest,) = args[:position], args[position + 1 :]
    for word in (*keys, *args, rest or "rest"):
        if not _NAME.fullmatch(word):
            msg = f"{name}.lua declares {word!r}, which is no name"
            raise ValueError(msg)
    locals_ = (
        [f"local {', '.join(keys)} = {', '.join(f'KEYS[{i + 1}]' for i in range(len(keys)))}"] if keys else []
    )
    if args:
        locals_.append(f"local {', '.join(args)} = {', '.join(f'ARGV[{i + 1}]' for i in range(len(args)))}")
    if rest:
        locals_.append(f"local rest_from = {len(args)}")
    source = f"#!lua{' flags=' + flags if flags else ''}\n{'; '.join(locals_)}\n{text}"
    sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - the name Redis gives a script
    return Script(name=name, keys=tuple(keys), args=tuple(args), rest=rest, source=source, sha=sha)


def _declared(name: str, head: list[str], kind: str) -> list[str]:
    lines = [line for line in head if line.startswith(kind)]
    if len(lines) != 1:
        msg = f"{name}.lua must have one line '-- {kind} …' in its head"
        raise ValueError(msg)
    return lines[0].removeprefix(kind).split()
