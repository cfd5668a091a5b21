"""What the README has a newcomer type, typed: the commands are taken from the page itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tests.support.pages import commands, saved_files
from tests.support.source import ROOT
from tests.support.up import Up
from tests.support.wait import eventually_true

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]

PAGE: Final = "README.md"
WRITTEN_URL: Final = "http://127.0.0.1:8080"
WRITTEN_KEY: Final = "sak_…"
_COMMAND_S: Final = 30

# For machines without curl: what the page uses of it.
_CURL: Final = """\
import sys, urllib.request
words, headers, body = [word for word in sys.argv[1:] if word not in ("-s", "-sN")], {}, None
if "-d" in words:
    at = words.index("-d")
    body = words[at + 1].encode()
    del words[at : at + 2]
while "-H" in words:
    at = words.index("-H")
    name, _, value = words[at + 1].partition(": ")
    headers[name] = value
    del words[at : at + 2]
for line in urllib.request.urlopen(urllib.request.Request(words[-1], body, headers)):
    sys.stdout.write(line.decode())
    sys.stdout.flush()
"""


@dataclass(kw_only=True)
class Newcomer:
    """A terminal in an empty folder, with the environment of the repository."""

    folder: Path
    url: str
    replaced: dict[str, str] = field(default_factory=dict)
    """What this reader has to write instead of what stands in the page."""

    def __enter__(self) -> Self:
        tools = self.folder / "bin"
        tools.mkdir()
        _write_tool(tools / "python", f'exec {sys.executable} "$@"')
        _write_tool(tools / "synchub", f'exec {sys.executable} -m synchub "$@"')
        if shutil.which("curl") is None:
            (tools / "curl.py").write_text(_CURL, encoding="utf-8")
            _write_tool(tools / "curl", f'exec {sys.executable} {tools}/curl.py "$@"')
        self.replaced[WRITTEN_URL] = self.url
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder / "bin")

    def save(self, name: str) -> None:
        """Save a file of the page."""
        (self.folder / name).write_text(saved_files(PAGE)[name], encoding="utf-8")

    def types(self, what: str, *, instead: tuple[str, str] = ("", "")) -> str:
        """Run a marked command of the page and return what it prints."""
        done = subprocess.run(
            self._shell(what, instead), check=False, capture_output=True, timeout=_COMMAND_S, **self._place()
        )
        assert done.returncode == 0, done.stderr.decode()
        printed: str = done.stdout.decode()
        return printed

    @contextlib.contextmanager
    def keeps_running(self, what: str) -> Iterator[Path]:
        """Run a marked command that does not end by itself; yields where its output is."""
        output = self.folder / f"{what}.out"
        with output.open("wb") as written:
            process = subprocess.Popen(
                self._shell(what, ("", "")),
                stdout=written,
                stderr=written,
                start_new_session=True,
                **self._place(),
            )
            try:
                yield output
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 15)
                process.wait(_COMMAND_S)

    def _shell(self, what: str, instead: tuple[str, str]) -> list[str]:
        text = commands(PAGE)[what]
        if instead[0]:
            assert instead[0] in text
            text = text.replace(*instead)
        for written, real in self.replaced.items():
            text = text.replace(written, real)
        assert "…" not in text, text
        return ["bash", "-euo", "pipefail", "-c", text]

    def _place(self) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCHUB_")}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {"cwd": self.folder, "env": {**kept, "PATH": path, "PYTHONPATH": str(ROOT)}}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Somebody whose hub runs, as `synchub up` leaves it, in the folder that commands look at."""
    folder = tmp_path_factory.mktemp("newcomer")
    with Up(folder, "--port", "0") as up:
        (folder / ".synchub").symlink_to(up.data)
        with Newcomer(folder=folder, url=up.hub()["url"]) as newcomer:
            newcomer.replaced[WRITTEN_KEY] = _key_of(newcomer.types("agent"))
            newcomer.types("account")
            newcomer.save("send.py")
            yield newcomer


def test_the_account_is_told_with_address_and_secret(newcomer: Newcomer) -> None:
    account = json.loads((newcomer.folder / "account.json").read_text())
    assert account["url"] == f"{newcomer.url}/hooks/{account['account']}"
    assert account["secret"].startswith("whsec_")


def test_a_level_that_was_sent_is_what_an_agent_is_told(newcomer: Newcomer) -> None:
    assert newcomer.types("send") == "202\n"
    eventually_true(lambda: _asked(newcomer)["available"] == 12, what="the level")
    assert _asked(newcomer)["state"] == "IN_STOCK"


def test_a_change_appears_while_the_feed_is_watched(newcomer: Newcomer) -> None:
    newcomer.types("send")
    eventually_true(lambda: _asked(newcomer)["available"] == 12, what="the level")
    with newcomer.keeps_running("watch") as output:
        eventually_true(lambda: "Complete up to" in output.read_text(), what="the snapshot")
        newcomer.types("send", instead=("12", "3"))
        eventually_true(lambda: "LOW_STOCK" in output.read_text(), what="the change")
    shown = output.read_text()
    assert "Connected (snapshot)" in shown
    assert re.search(r"TEE-RED-M +LOW_STOCK +3 ", shown)


def test_the_feed_over_plain_http_is_what_the_page_says(newcomer: Newcomer) -> None:
    newcomer.types("send")
    with newcomer.keeps_running("feed") as output:
        eventually_true(lambda: "event: hb" in output.read_text(), what="a heartbeat")
    shown = output.read_text()
    names = re.findall(r"(?m)^event: (\w+)$", shown)
    assert names[:3] == ["hello", "snap", "snap_end"]
    assert '"sku":"TEE-RED-M"' in shown


def test_what_is_held_and_bought_is_taken_off_once(newcomer: Newcomer) -> None:
    newcomer.types("send", instead=("12", "3"))
    eventually_true(lambda: _asked(newcomer)["available"] == 3, what="the level")
    assert json.loads(newcomer.types("hold"))["status"] == "held"
    assert _asked(newcomer)["available"] == 1
    assert json.loads(newcomer.types("commit"))["current_status"] == "committed"
    assert _asked(newcomer)["available"] == 1
    assert "2 not in acme-standard (WH1)" in newcomer.types("sales")
    assert newcomer.types("sold") == "202\n"
    # Another account of the same place, which other readers of this page have added, may lack it for ever.
    eventually_true(lambda: "not in acme-standard" not in newcomer.types("sales"), what="its absorption")
    assert _asked(newcomer)["available"] == 1


def test_a_shop_counts_from_the_moment_its_location_is_mapped(newcomer: Newcomer) -> None:
    (newcomer.folder / "client_secret.txt").write_text("hush\n")
    (newcomer.folder / "access_token.txt").write_text("shpat\n")
    with _shop(f"{newcomer.url}/hooks/acme-shopify") as shop:
        newcomer.replaced["example.myshopify.com"] = f"http://127.0.0.1:{shop}"
        assert "/hooks/acme-shopify" in newcomer.types("shopify")
        _emulator(shop, "announce", post=b"")
        truth = json.loads(_emulator(shop, "truth"))
        [location] = {place for places in truth["levels"].values() for place in places}
        eventually_true(lambda: location in newcomer.types("parked"), within_s=20, what="waiting levels")
        item, sku = next(iter(truth["skus"].items()))
        assert _asked(newcomer, sku)["state"] == "UNKNOWN_SKU"
        newcomer.replaced["24826418"] = location
        newcomer.types("map")
        level = truth["levels"][item][location]
        eventually_true(lambda: _asked(newcomer, sku)["available"] == level, within_s=20, what="its level")


def test_every_command_of_the_page_was_typed_here() -> None:
    text = (ROOT / "tests/walkthrough/test_readme.py").read_text(encoding="utf-8")
    assert [what for what in commands(PAGE) if f'"{what}"' not in text] == []


def test_the_targets_of_make_that_the_page_names_exist() -> None:
    page, makefile = (
        (ROOT / PAGE).read_text(encoding="utf-8"),
        (ROOT / "Makefile").read_text(encoding="utf-8"),
    )
    named = set(re.findall(r"make ([a-z]+)\b(?= ARGS|`|\n)", page))
    assert {"run", "test", "check"} <= named
    assert [target for target in named if not re.search(rf"(?m)^{target}:", makefile)] == []


@pytest.mark.parametrize("tool", ["curl", "openssl", "od"])
def test_the_shell_that_signs_needs_known_tools(tool: str) -> None:
    assert tool in commands("docs/http.md")["sign"]


def test_a_delivery_signed_in_a_shell_is_accepted(newcomer: Newcomer) -> None:
    missing = [tool for tool in ("curl", "openssl", "od") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed on this machine")
    added = subprocess.run(
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            "synchub account add standard --merchant acme --name shell --json",
        ],
        check=True,
        capture_output=True,
        **newcomer._place(),
    )
    account = json.loads(added.stdout)
    given = f"URL={account['url']}\nSECRET={account['secret']}\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", given + commands("docs/http.md")["sign"]],
        check=True,
        capture_output=True,
        **newcomer._place(),
    )
    assert done.stdout == b"202\n"


@contextlib.contextmanager
def _shop(hook_url: str) -> Iterator[int]:
    """The double of a shop, with the secrets that the newcomer has saved; yields its port."""
    arguments = ["--port", "0", "--hook-url", hook_url, "--paused", "--skus", "3", "--locations", "STORE"]
    secrets = ["--credential", "client_secret=hush", "--credential", "access_token=shpat"]
    process = subprocess.Popen(
        [sys.executable, "-m", "connectors.shopify.emulator", *arguments, *secrets],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.terminate()
        process.communicate(timeout=_COMMAND_S)


def _asked(newcomer: Newcomer, sku: str = "TEE-RED-M") -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(newcomer.types("ask", instead=("TEE-RED-M", sku)))
    return answer


def _key_of(text: str) -> str:
    found = re.search(r"sak_[\w-]+", text)
    assert found is not None, text
    return found[0]


def _emulator(port: int, what: str, *, post: bytes | None = None) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_emulator/{what}", data=post) as answer:
        told: bytes = answer.read()
    return told


def _write_tool(path: Path, line: str) -> None:
    path.write_text(textwrap.dedent(f"#!/bin/sh\n{line}\n"), encoding="utf-8")
    path.chmod(0o755)
