"""``synchub connector`` as a person calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from synchub.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_list_says_what_posts_and_what_is_polled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connector", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["http_json"].endswith("(custom, silver): polled")
    assert "(custom, bronze): stock.changed" in lines["standard"]


def test_a_new_folder_is_for_one_or_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connector", "new", "acme", "--into", str(tmp_path)]) == 0
    assert "Record deliveries into fixtures/" in capsys.readouterr().out
    assert (tmp_path / "acme" / "signature.py").is_file()
    assert main(["connector", "new", "acme_asked", "--polled", "--into", str(tmp_path)]) == 0
    assert "Record answers into fixtures/" in capsys.readouterr().out
    assert (tmp_path / "acme_asked" / "client.py").is_file()
    assert not (tmp_path / "acme_asked" / "signature.py").exists()


def test_what_was_written_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connector", "new", "acme", "--polled", "--json", "--into", str(tmp_path)]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert str(tmp_path / "acme" / "fixtures" / "page__last.expected.json") in files
