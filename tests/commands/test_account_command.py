"""``synchub account`` and ``synchub agent`` as a person or a script calls them."""

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

CANARY = "canary-0123456789"
Call = tuple[int, str, str]


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
        try:
            code = main([*words[:2], "--redis", redis_url, *words[2:]])
        except SystemExit as left:
            code = int(str(left.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def told(answer: Call) -> Any:
    """The JSON on standard output, where nothing else may be."""
    code, out, err = answer
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    return json.loads(out)


def test_a_new_account_is_told_with_its_url_and_secret(synchub: Callable[..., Call]) -> None:
    added = told(synchub("account", "add", "standard", "--merchant", "acme", "--json"))
    assert added["account"] == "acme-standard"
    assert added["url"] == "http://127.0.0.1:8080/hooks/acme-standard"
    assert added["secret"].startswith("whsec_")
    assert set(added) == {"account", "url", "secret"}


ENDPOINT = ("url=https://erp.example/stock", "sku_path=sku", "quantity_path=qty", "location=WH1")


def settings_of(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--credential", pair)]


@pytest.mark.parametrize("platform", ["http-json", "http_json"])
def test_an_account_that_is_polled_has_no_url_to_post_to(synchub: Callable[..., Call], platform: str) -> None:
    words = ["--merchant", "acme", "--name", "own", *settings_of(*ENDPOINT)]
    code, out, _ = synchub("account", "add", platform, *words)
    assert (code, "It is polled" in out, "Post deliveries" in out) == (0, True, False)
    code, out, _ = synchub("account", "check", "own")
    assert code == 0, out
    assert "4 credentials open; it is polled only." in out


def test_settings_that_cannot_work_are_refused_in_sentences(synchub: Callable[..., Call]) -> None:
    words = ["--merchant", "acme", *settings_of(*ENDPOINT[:3], "cursor_kind=opaque")]
    code, _, err = synchub("account", "add", "http-json", *words)
    assert code != 0
    assert "Give either location" in err
    assert "cursor_kind opaque needs cursor_param." in err


def test_a_check_tells_of_settings_that_were_changed_for_the_worse(synchub: Callable[..., Call]) -> None:
    words = ["--merchant", "acme", "--name", "own", *settings_of(*ENDPOINT)]
    assert synchub("account", "add", "http-json", *words)[0] == 0
    assert synchub("account", "rotate", "own", *settings_of("sku_path=a..b"))[0] == 0
    code, out, _ = synchub("account", "check", "own")
    assert code == 1
    assert "sku_path is no path" in out


def test_an_account_without_signing_secret_has_none_to_rotate(synchub: Callable[..., Call]) -> None:
    words = ["--merchant", "acme", "--name", "own", *settings_of(*ENDPOINT)]
    assert synchub("account", "add", "http-json", *words)[0] == 0
    code, _, err = synchub("account", "rotate", "own")
    assert code != 0
    assert "has no credential" in err


def test_the_same_is_told_in_sentences(synchub: Callable[..., Call]) -> None:
    code, out, _ = synchub("account", "add", "standard", "--merchant", "acme")
    assert code == 0
    assert "Account acme-standard is authority of acme." in out
    assert "shown only now: whsec_" in out


def test_credentials_come_from_the_line_a_file_or_standard_input(
    synchub: Callable[..., Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CANARY}\n"))
    words = ["--credential", "client_secret=-", "--credential", "access_token=@token"]
    words += ["--credential", "shop_domain=a.myshopify.com", "--merchant", "acme", "--json"]
    added = told(synchub("account", "add", "shopify", *words))
    assert "secret" not in added
    assert any("no authority" in warning for warning in added["warnings"])
    listed = synchub("account", "list", "--json")
    assert told(listed)[0]["credentials"] == ["access_token", "client_secret", "shop_domain"]
    assert CANARY not in listed[1]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "nowhere", "--merchant", "acme"),
        ("add", "shopify", "--merchant", "acme"),
        ("add", "shopify", "--merchant", "acme", "--credential", CANARY),
        ("add", "shopify", "--merchant", "acme", "--credential", f"client_secret=@{CANARY}"),
        ("add", "shopify", "--merchant", "acme", "--credential", f"x={CANARY}"),
        ("add", "standard", "--merchant", "acme", "--credential", f"signing_secret={CANARY}"),
        ("check", "nobody"),
        ("rotate", "nobody"),
        ("remove", "nobody"),
        ("map", "nobody", "--item", "a=b"),
        ("map", "nobody"),
        ("map", "nobody", "--item", "a"),
        ("mappings", "nobody"),
        ("parked", "nobody"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_1(
    synchub: Callable[..., Call], words: tuple[str, ...]
) -> None:
    code, out, err = synchub("account", *words)
    assert (code, out) == (1, "")
    assert err.startswith("synchub: ")
    assert err.count("\n") == 1
    assert CANARY not in err


@pytest.mark.parametrize(
    "words",
    [("add",), ("add", "standard"), ("fly",), ("add", "standard", "--merchant", "a", "--role", "king")],
)
def test_a_wrong_call_is_exit_2(synchub: Callable[..., Call], words: tuple[str, ...]) -> None:
    assert synchub("account", *words)[0] == 2


def test_an_account_is_checked_rotated_mapped_and_removed(synchub: Callable[..., Call]) -> None:
    first = told(synchub("account", "add", "standard", "--merchant", "acme", "--name", "main", "--json"))
    assert told(synchub("account", "check", "main", "--json"))["sound"] is True
    second = told(synchub("account", "rotate", "main", "--overlap-hours", "2", "--json"))
    assert second["secret"] != first["secret"]
    words = ["--item", "box=3=TEE", "--location", "7=WH1", "--location", "8=WH2", "--json"]
    assert told(synchub("account", "map", "main", *words)) == {"account": "main", "items": 1, "locations": 2}
    mapped = told(synchub("account", "mappings", "main", "--json"))
    assert (mapped["items"], mapped["locations"]) == ({"box=3": "TEE"}, {"7": "WH1", "8": "WH2"})
    assert told(synchub("account", "parked", "main", "--json"))["total"] == 0
    assert told(synchub("account", "remove", "main", "--json")) == {"account": "main", "removed": True}
    assert told(synchub("account", "list", "--json")) == []


def test_the_key_file_is_made_on_first_use(synchub: Callable[..., Call], tmp_path: Path) -> None:
    told(synchub("account", "add", "standard", "--merchant", "acme", "--json"))
    assert (tmp_path / ".synchub" / "secret.key").stat().st_mode & 0o777 == 0o600


def test_an_agent_gets_a_key_once(synchub: Callable[..., Call]) -> None:
    words = ["--merchant", "acme", "--channel", "chat", "--scopes", "stock:read,reservations", "--json"]
    added = told(synchub("agent", "add", *words))
    assert set(added) == {"agent", "key"}
    listed = synchub("agent", "list", "--json")
    assert told(listed)[0]["scopes"] == ["reservations", "stock:read"]
    assert told(listed)[0]["channels"] == ["chat"]
    assert added["key"] not in listed[1]
    assert told(synchub("agent", "revoke", added["agent"], "--json"))["revoked"] is True
    assert synchub("agent", "revoke", added["agent"])[0] == 1


def test_a_store_that_is_away_is_one_sentence_and_exit_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["account", "list", "--redis", "redis://127.0.0.1:1/0"]) == 1
    assert capsys.readouterr().err.startswith("synchub: The store")


def test_packs_totals_and_decisions_are_said_by_command(synchub: Callable[..., Call]) -> None:
    synchub("account", "add", "standard", "--merchant", "acme")
    parts = ["--part", "SET=TEE=3", "--part", "SET=MUG=1"]
    total = ["--location", "main=EU", "--covers", "EU=WH1", "--covers", "EU=WH2"]
    mapped = told(synchub("account", "map", "acme-standard", *parts, *total, "--json"))
    assert mapped == {"account": "acme-standard", "items": 1, "locations": 1}
    shown = told(synchub("account", "mappings", "acme-standard", "--json"))
    assert shown["kits"] == {"SET": [{"sku": "TEE", "units": 3}, {"sku": "MUG", "units": 1}]}
    assert "Item SET is 3 of TEE and 1 of MUG." in synchub("account", "mappings", "acme-standard")[1]
    for text in ("SET=TEE", "SET=TEE=x", "=TEE=1"):
        assert synchub("account", "map", "acme-standard", "--part", text)[0] == 1
    decided = told(synchub("account", "decide", "acme-standard", "sum", "--json"))
    assert decided["tried"] == 0
    assert synchub("account", "decide", "acme-standard", "sum", "--sku", "TEE")[0] == 1


def test_a_role_and_evidence_are_said_by_command(synchub: Callable[..., Call]) -> None:
    synchub("account", "add", "standard", "--merchant", "acme")
    ranked = told(synchub("account", "role", "acme-standard", "--rank", "4", "--json"))
    assert ranked == {"account": "acme-standard", "role": "authority", "rank": 4}
    chosen = told(synchub("account", "evidence", "acme-standard", "*", "lag", "90000", "--json"))
    assert (chosen["origin"], chosen["lag_ms"]) == ("*", 90_000)
    (shown,) = told(synchub("account", "evidence", "acme-standard", "--json"))
    assert (shown["origin"], shown["lag_ms"]) == ("acme-standard", 90_000)
    assert "lag 90000 ms" in synchub("account", "evidence", "acme-standard")[1]
    assert synchub("account", "evidence", "acme-standard", "*", "lag")[0] == 1
    assert synchub("account", "role", "acme-standard", "--role", "mirror")[0] == 0
    assert synchub("account", "role", "acme-standard", "--role", "authority")[0] == 1
