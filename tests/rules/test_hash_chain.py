"""The chain of hashes: the published example, and that nothing can be changed unseen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synchub.kit.hash_chain import GENESIS, ChainBroken, canonical, follow, seal, unseal
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = (ROOT / "docs/archive.md").read_text(encoding="utf-8")
DOCUMENTS: Final[list[dict[str, str | int]]] = [
    {"seq": 1, "sku": "TEE", "to": "K12"},
    {"seq": 2, "sku": "Größe M", "to": 'K11 "quoted"'},
    {"seq": 3, "sku": "TEE", "to": "a\x1fb\n"},
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = texts | st.integers(0, 2**53)
documents = st.lists(st.dictionaries(texts, values, min_size=1), min_size=1, max_size=6)


def chain_of(found: list[dict[str, str | int]]) -> list[bytes]:
    lines, previous = [], GENESIS
    for document in found:
        line, previous = seal(previous, canonical(document))
        lines.append(line)
    return lines


def test_the_published_example_has_the_published_hashes() -> None:
    example = re.search(r"```jsonl\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    told = example[1].encode().splitlines()
    assert chain_of(DOCUMENTS) == told
    assert [content for content, _ in follow(GENESIS, told)] == [canonical(one) for one in DOCUMENTS]


def test_the_checker_of_the_page_accepts_a_chain_and_names_the_line_that_was_changed(tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert script is not None
    assert len(script[1].splitlines()) <= 10
    lines = chain_of(DOCUMENTS)
    (tmp_path / "000000000001.jsonl").write_bytes(lines[0] + b"\n")
    (tmp_path / "000000000002.jsonl").write_bytes(lines[1] + b"\n" + lines[2] + b"\n")
    checked = check(script[1], tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert unseal(lines[2])[1] in checked.stdout
    (tmp_path / "000000000002.jsonl").write_bytes(lines[1] + b"\n" + lines[2].replace(b"TEE", b"TEA") + b"\n")
    checked = check(script[1], tmp_path)
    assert checked.returncode == 1
    assert "000000000002.jsonl, line 2" in checked.stderr


@given(documents)
def test_a_document_has_the_text_that_other_languages_write(found: list[dict[str, str | int]]) -> None:
    for document in found:
        other = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert canonical(document) == other


@given(documents, st.data())
def test_no_byte_can_be_changed_unseen(found: list[dict[str, str | int]], data: st.DataObject) -> None:
    whole = b"\n".join(chain_of(found))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ChainBroken):
        list(follow(GENESIS, bytes(changed).split(b"\n")))


@given(documents.filter(lambda found: len(found) > 1), st.data())
def test_no_line_can_be_left_out_before_the_last_or_moved(
    found: list[dict[str, str | int]], data: st.DataObject
) -> None:
    lines = chain_of(found)
    place = data.draw(st.integers(0, len(lines) - 2))
    without = lines[:place] + lines[place + 1 :]
    with pytest.raises(ChainBroken):
        list(follow(GENESIS, without))
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    with pytest.raises(ChainBroken):
        list(follow(GENESIS, lines))


@given(documents)
def test_what_was_sealed_is_unsealed_as_it_was(found: list[dict[str, str | int]]) -> None:
    contents = [content for content, _ in follow(GENESIS, chain_of(found))]
    assert [json.loads(content) for content in contents] == found


def check(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False, timeout=30
    )
