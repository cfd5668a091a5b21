"""A checksum proves what was shown, and can be computed by somebody else."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from synchub.accounts.vault import Vault
from synchub.availability.checksums import check, checksum, shown_form
from synchub.availability.rules import view
from synchub.policies.model import Disclosure, Terms
from tests.support.answers import AS_OF_MS, an_answer, answers, some_terms, terms
from tests.support.source import ROOT

if TYPE_CHECKING:
    from synchub.stock.model import Answer

KEY = bytes(range(32))
EPOCH = "B2Hn34Pw9dqFmQNy"


def sign(answer: Answer, about: Terms, *, key: bytes = KEY, epoch: str = EPOCH) -> str:
    return checksum(key, answer, view(answer, about, now_ms=AS_OF_MS), terms=about, epoch=epoch)


def is_current(presented: str, answer: Answer, about: Terms, *, key: bytes = KEY, epoch: str = EPOCH) -> bool:
    return check(presented, sign(answer, about, key=key, epoch=epoch))


def test_the_published_example_can_be_computed_without_the_hub() -> None:
    """What a merchant who holds the key would write."""
    example = published()
    body, key = example["answer"], bytes.fromhex(example["key"])
    told = "-" if body["available"] is None else body["available"]
    revision = f"{body['ver']}.{body['policy']['version']}"
    lines = ["synchub stock 1", body["sku"], body["state"], told, body["epoch"], revision]
    form = "".join(f"{line}\n" for line in lines).encode()
    assert "hmac-sha256:" + hmac.new(key, form, hashlib.sha256).hexdigest() == body["checksum"]


def test_the_key_of_the_published_example_can_be_derived_without_the_hub() -> None:
    example = published()
    secret = hmac.new(bytes(32), bytes.fromhex(example["hub_key"]), hashlib.sha256).digest()
    info = b"synchub checksum 1\n" + example["merchant"].encode()
    assert hmac.new(secret, info + b"\x01", hashlib.sha256).hexdigest() == example["key"]


def test_the_hub_computes_the_published_example() -> None:
    example = published()
    key = Vault(bytes.fromhex(example["hub_key"])).merchant_key(example["merchant"])
    body = example["answer"]
    answer = an_answer(body["sku"], ver=body["ver"], ats=body["available"])
    about = some_terms(version=body["policy"]["version"])
    assert sign(answer, about, key=key, epoch=body["epoch"]) == body["checksum"]


@given(answers(), terms())
def test_a_checksum_is_current_as_long_as_the_same_is_shown(answer: Answer, about: Terms) -> None:
    assert is_current(sign(answer, about), answer, about)


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"sku": "TEE-2"}, {}),
        ({"ats": 9}, {}),
        ({"ats": 9, "held": 1}, {}),
        ({"discontinued": True}, {}),
        ({"ver": 4}, {}),
        ({}, {"version": 1}),
        ({}, {"buffer_units": 1}),
        ({}, {"disclosure": Disclosure.NONE}),
    ],
)
def test_anything_shown_otherwise_makes_it_stale(changes: dict[str, Any], about: dict[str, Any]) -> None:
    before = sign(an_answer(), some_terms())
    assert not is_current(before, an_answer(**changes), some_terms(**about))


def test_another_merchant_or_history_makes_it_stale() -> None:
    before = sign(an_answer(), some_terms())
    assert not is_current(before, an_answer(), some_terms(), key=Vault(KEY).merchant_key("other"))
    assert not is_current(before, an_answer(), some_terms(), epoch="another")


def test_it_says_nothing_about_a_number_that_is_not_told() -> None:
    hidden = some_terms(disclosure=Disclosure.NONE)
    assert sign(an_answer(ats=8), hidden) == sign(an_answer(ats=9), hidden)


@pytest.mark.parametrize("presented", ["", "hmac-sha256:", "x" * 100, "hmac-sha256:ä", "sha256:00"])
def test_what_is_no_checksum_is_not_current(presented: str) -> None:
    assert not is_current(presented, an_answer(), some_terms())


def test_each_part_has_a_line_of_its_own() -> None:
    answer = replace(an_answer("A B"), ver=7)
    form = shown_form(
        answer, view(answer, some_terms(), now_ms=AS_OF_MS), terms=some_terms(version=2), epoch="e"
    )
    assert form == b"synchub stock 1\nA B\nIN_STOCK\n10\ne\n7.2\n"


def test_every_merchant_has_a_key_of_its_own() -> None:
    vault = Vault(KEY)
    keys = {
        vault.merchant_key("acme"),
        vault.merchant_key("other"),
        Vault(KEY[::-1]).merchant_key("acme"),
        KEY,
    }
    assert len(keys) == 4
    assert vault.merchant_key("acme", "token") not in keys
    assert vault.merchant_key("acme") == Vault(KEY).merchant_key("acme")


def published() -> dict[str, Any]:
    """The example of ``docs/http.md``."""
    text = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: checksum -->\n```json\n(?P<json>.*?)```", text, re.DOTALL)
    assert found, "the page has lost its example"
    example: dict[str, Any] = json.loads(found["json"])
    return example
