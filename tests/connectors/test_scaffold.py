from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import connectors
from synchub.connector_kit.scaffold import write_connector
from synchub.connector_kit.testing import Shortcoming, load_subject, shortcomings
from synchub.connector_kit.testing.signing import sign_recordings
from synchub.errors import InvalidRequest

LINK = "https://developer.example/webhooks"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new connector outside the repository, under a name of its own for each test."""
    monkeypatch.setattr(connectors, "__path__", list(connectors.__path__))
    name = "acme_" + re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-30:]
    write_connector(name, tmp_path)
    before = set(sys.modules)
    yield tmp_path / name
    for module in set(sys.modules) - before:
        del sys.modules[module]


@pytest.fixture
def polled(folder: Path, tmp_path: Path) -> Path:
    """The same for a platform that posts nothing."""
    name = folder.name + "_p"
    write_connector(name, tmp_path, is_polled=True)
    return tmp_path / name


def fill_in(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            text = re.sub(r"FILL-IN[^\"\n]*", LINK, path.read_text(encoding="utf-8"))
            path.write_text(text, encoding="utf-8")


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_folder_says_file_and_line_of_what_its_author_has_to_fill_in(folder: Path) -> None:
    to_fill_in, docs = shortcomings(folder)
    assert to_fill_in.startswith("Fill in what is asked for in README.md:3, ")
    for place in ("README.md:23", "__init__.py:1", "manifest.toml:3", "level.headers.json:2"):
        assert place in to_fill_in
    assert docs == "manifest.toml: docs are https links to public documents."


def test_a_new_folder_that_is_filled_in_keeps_the_contract(folder: Path) -> None:
    fill_in(folder)
    assert shortcomings(folder) == []


def test_its_files_are_those_of_the_contract(tmp_path: Path) -> None:
    written = {str(path.relative_to(tmp_path / "acme")) for path in write_connector("acme", tmp_path)}
    needed = {"manifest.toml", "__init__.py", "signature.py", "payloads.py", "mapping.py", "README.md"}
    assert needed < written
    assert "fixtures/stock__updated__level.json" in written


@pytest.mark.parametrize("name", ["", "a", "Acme", "1acme", "acme-wms", "../acme", "class", "x" * 41])
def test_a_name_that_cannot_be_a_folder_and_a_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        write_connector(name, tmp_path)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write_connector("acme", tmp_path)
    with pytest.raises(InvalidRequest, match="there already"):
        write_connector("acme", tmp_path)


def test_the_suite_notices_a_verifier_that_believes_everything(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "signature.py", "    verify_hmac_sha256_base64(", "    print if 1 else (")
    assert any("A forgery of stock__updated__level is accepted" in text for text in shortcomings(folder))


def test_the_suite_notices_an_exception_of_the_wrong_kind(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "mapping.py", "read_json(delivery.body)", "__import__('json').loads(delivery.body)")
    assert any("instead of PayloadRefused" in text for text in shortcomings(folder))


def test_the_suite_notices_null_taken_for_zero(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "mapping.py", "if known else None", "if known else 0")
    assert any("instead of Level(" in text for text in shortcomings(folder))


def test_the_suite_notices_a_topic_without_recording(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "manifest.toml", "# With a client", '[topics."stock/gone"]\nemits = ["level"]\n#')
    assert "The topic stock/gone has no recording in fixtures/." in shortcomings(folder)


def test_the_suite_notices_a_recording_without_topic(folder: Path) -> None:
    fill_in(folder)
    (folder / "fixtures" / "stock__gone__case.json").write_text("{}")
    with pytest.raises(Shortcoming, match="belongs to no topic"):
        load_subject(folder)


def test_the_suite_notices_a_promise_that_no_recording_keeps(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "manifest.toml", 'emits = ["level"]', 'emits = ["level", "delta"]')
    assert any("shows the delta that the manifest promises" in text for text in shortcomings(folder))


def test_the_suite_notices_a_dedupe_rule_that_finds_nothing(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "manifest.toml", "-delivery-id", "-message-id")
    assert any("none of what the manifest's dedupe rules name" in text for text in shortcomings(folder))


def test_the_suite_notices_a_header_that_does_not_reach_the_worker(folder: Path) -> None:
    fill_in(folder)
    replace_in(
        folder / "mapping.py", 'if topic == "stock/updated":', 'if "content-type" in delivery.headers:'
    )
    assert any("keep_headers" in text for text in shortcomings(folder))


def test_the_suite_notices_that_the_name_is_not_the_folders(folder: Path) -> None:
    replace_in(folder / "manifest.toml", f'name = "{folder.name}"', 'name = "other"')
    (finding,) = shortcomings(folder)
    assert "names other, its folder or entry point acme" in finding


def test_the_suite_notices_a_client_that_the_manifest_does_not_announce(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "__init__.py", "__all__ =", "Client = object\n__all__ =")
    (finding,) = shortcomings(folder)
    assert "come together" in finding


def test_the_suite_notices_a_missing_section_of_the_readme(folder: Path) -> None:
    fill_in(folder)
    replace_in(folder / "README.md", "## Removal", "## Farewell")
    assert shortcomings(folder) == ['README.md has no section "Removal".']


def test_signing_changes_only_what_a_changed_body_needs(folder: Path) -> None:
    assert sign_recordings(folder) == 0
    replace_in(folder / "fixtures" / "stock__updated__level.json", '"available":7', '"available":8')
    assert sign_recordings(folder) == 1


def test_a_new_polled_folder_that_is_filled_in_keeps_the_contract(polled: Path) -> None:
    to_fill_in, _ = shortcomings(polled)
    assert to_fill_in.startswith("Fill in what is asked for in README.md:3, ")
    assert "page__last.headers.json:2" in to_fill_in
    fill_in(polled)
    assert shortcomings(polled) == []


def test_the_suite_notices_a_cursor_that_goes_back(polled: Path) -> None:
    fill_in(polled)
    replace_in(polled / "client.py", "if reached <= (since_us, after_id):", "if reached is None:")
    assert any("come again, leads back" in text for text in shortcomings(polled))


def test_the_suite_notices_a_page_that_reads_bad_rows_as_nothing(polled: Path) -> None:
    fill_in(polled)
    replace_in(polled / "mapping.py", "if known else None", "if known else 0")
    assert any("instead of Level(" in text for text in shortcomings(polled))


def test_the_suite_notices_a_failure_that_is_taken_for_an_empty_page(polled: Path) -> None:
    fill_in(polled)
    replace_in(
        polled / "client.py",
        "            raise UpstreamFailed(msg) from problem",
        "            del msg, problem\n            return Answer(levels=(), has_more=False), ()",
    )
    findings = shortcomings(polled)
    assert any("instead of failing" in text for text in findings)
    assert any("is read as if it were whole" in text for text in findings)


def test_the_suite_notices_a_foreign_cursor_that_is_believed(polled: Path) -> None:
    fill_in(polled)
    replace_in(
        polled / "client.py", "        since_us, after_id = -1, -1", "        since_us, after_id = 0, 0"
    )
    assert any("instead of CursorRefused" in text for text in shortcomings(polled))


def test_the_suite_notices_a_quota_that_breaks_on_odd_headers(polled: Path) -> None:
    fill_in(polled)
    replace_in(polled / "quota.py", "[0-9]{1,9}", ".*")
    assert any("read_quota raises ValueError" in text for text in shortcomings(polled))


def test_the_suite_notices_polling_without_recorded_pages(polled: Path) -> None:
    fill_in(polled)
    for path in (polled / "fixtures").glob("page__*"):
        path.unlink()
    assert any("needs recorded pages" in text for text in shortcomings(polled))


def test_the_suite_notices_an_answer_that_follows_none(polled: Path) -> None:
    fill_in(polled)
    (polled / "fixtures" / "page__last.3.json").write_text("{}")
    assert "page__last.3.json follows no recorded answer." in shortcomings(polled)


def test_the_suite_notices_a_quality_that_is_not_earned(folder: Path, polled: Path) -> None:
    fill_in(folder)
    fill_in(polled)
    replace_in(folder / "manifest.toml", 'quality = "bronze"', 'quality = "silver"')
    replace_in(polled / "manifest.toml", 'quality = "silver"', 'quality = "gold"')
    assert any("quality silver needs [polling]" in text for text in shortcomings(folder))
    assert any("gold needs write-back" in text for text in shortcomings(polled))
