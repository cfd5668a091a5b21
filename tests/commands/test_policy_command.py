"""``synchub policy``, and keys of every kind, as a person or a script calls them."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from synchub.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Call = tuple[int, str, str]
RULES = [{"scope": {"skus": ["TEE-*"]}, "set": {"buffer_percent": 12.5}}]


@pytest.fixture(autouse=True)
def _logs_are_left_as_they_were() -> Iterator[None]:
    """A command sends the log to its own standard error, which ends with the test."""
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def synchub(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Call]:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Call:
        capsys.readouterr()
        code = main([*words[:2], "--redis", redis_url, *words[2:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert call("account", "add", "standard", "--merchant", "acme")[0] == 0
    return call


def told(answer: Call) -> Any:
    """The JSON on standard output, where nothing else may be."""
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


def test_policies_are_shown_edited_in_a_file_and_set_again(
    synchub: Callable[..., Call], tmp_path: Path
) -> None:
    document = told(synchub("policy", "show", "--merchant", "acme"))
    assert (document["version"], document["rules"]) == (0, [])
    (tmp_path / "acme.json").write_text(json.dumps(document | {"rules": RULES}))
    written = told(synchub("policy", "set", "acme.json", "--merchant", "acme", "--json"))
    assert written == {"merchant": "acme", "version": 1}
    after = told(synchub("policy", "show", "--merchant", "acme", "--json"))
    assert (after["version"], after["rules"], after["changed_by"]) == (1, RULES, "command")


def test_a_file_made_from_an_older_version_is_refused(
    synchub: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_again() -> Call:
        document = io.BytesIO(json.dumps({"version": 0, "rules": RULES}).encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(document))
        return synchub("policy", "set", "-", "--merchant", "acme")

    assert set_again()[0] == 0
    code, _, err = set_again()
    assert code == 1
    assert "at version 1 by now" in err


def test_a_file_without_a_version_replaces_what_is_there(
    synchub: Callable[..., Call], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / "p.json").write_text(json.dumps({"rules": RULES[:number]}))
        code, out, _ = synchub("policy", "set", "p.json", "--merchant", "acme")
        assert (code, out) == (0, f"The policies of acme are at version {number}; they count from now on.\n")


def test_the_history_is_told_newest_first(synchub: Callable[..., Call], tmp_path: Path) -> None:
    assert synchub("policy", "history", "--merchant", "acme")[1] == "Nothing has been decided yet.\n"
    (tmp_path / "p.json").write_text('{"rules": []}')
    for _ in range(2):
        synchub("policy", "set", "p.json", "--merchant", "acme")
    history = told(synchub("policy", "history", "--merchant", "acme", "--json"))
    assert [(one["version"], one["changed_by"]) for one in history] == [(2, "command"), (1, "command")]
    assert told(synchub("policy", "show", "--merchant", "acme", "--version", "1"))["version"] == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "--merchant", "acmee"), "There is no merchant acmee"),
        (("history", "--merchant", "acmee"), "There is no merchant acmee"),
        (("show", "--merchant", "acme", "--version", "7"), "There is no version 7"),
        (("set", "missing.json", "--merchant", "acme"), "missing.json cannot be read"),
        (("set", "bad.json", "--merchant", "acme"), "rules[0].set.split: write true or false"),
        (("set", "good.json", "--merchant", "acmee"), "There is no merchant acmee"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_1(
    synchub: Callable[..., Call], tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "bad.json").write_text('{"rules": [{"set": {"split": 1}}]}')
    (tmp_path / "good.json").write_text('{"rules": []}')
    code, out, err = synchub("policy", *words)
    assert (code, out) == (1, "")
    assert err.startswith("synchub: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize(
    ("kind", "words", "prefix"),
    [
        ("agent", ["--merchant", "acme"], "sak_"),
        ("merchant", ["--merchant", "acme"], "smk_"),
        ("operator", [], "sok_"),
    ],
)
def test_everybody_gets_a_key_of_their_kind(
    synchub: Callable[..., Call], kind: str, words: list[str], prefix: str
) -> None:
    added = told(synchub("agent", "add", "--kind", kind, *words, "--json"))
    assert added["key"].startswith(prefix)
    assert told(synchub("agent", "list", "--json"))[0]["kind"] == kind
    spoken = synchub("agent", "add", "--kind", kind, *words)[1]
    assert f"shown only now: {prefix}" in spoken


def test_a_key_may_be_given_limits(synchub: Callable[..., Call]) -> None:
    told(synchub("agent", "add", "--merchant", "acme", "--rate", "5", "--burst", "9", "--json"))
    [listed] = told(synchub("agent", "list", "--json"))
    assert (listed["rate_per_s"], listed["burst"]) == (5, 9)
    code, _, err = synchub("agent", "add", "--merchant", "acme", "--rate", "0")
    assert (code, err) == (1, "synchub: rate_per_s is 1 to 10000.\n")
