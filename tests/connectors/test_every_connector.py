"""Runs over every folder that discovery finds: a new connector is tested without a line here."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synchub.connector_kit.discovery import connector_folders, discover
from synchub.connector_kit.manifest import load_manifest
from synchub.connector_kit.testing import CHECKS, CLIENT_CHECKS, PAGE_CHECKS, Subject, load_subject
from synchub.connector_kit.testing.delivery_checks import damage
from synchub.errors import PayloadRefused

if TYPE_CHECKING:
    from synchub.connector_kit.testing import Check

FOLDERS = connector_folders()
MANIFESTS = {name: load_manifest(path / "manifest.toml") for name, path in FOLDERS.items()}
RECEIVING = [name for name, one in MANIFESTS.items() if one.topics]
CALLING = [name for name, one in MANIFESTS.items() if one.limits]
POLLED = [name for name, one in MANIFESTS.items() if one.polling]


@cache
def subject_of(name: str) -> Subject:
    return load_subject(FOLDERS[name])


def name_of(check: object) -> str:
    return getattr(check, "__name__", str(check))


def test_connectors_are_found() -> None:
    assert set(discover()) == set(FOLDERS) >= {"http_json", "shiphero", "shopify", "standard"}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_connector_keeps_the_contract(name: str, check: Check) -> None:
    check(subject_of(name))


@pytest.mark.parametrize("name", CALLING)
@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=name_of)
def test_a_client_fails_as_the_contract_says(name: str, check: Check) -> None:
    check(subject_of(name))


@pytest.mark.parametrize("name", POLLED)
@pytest.mark.parametrize("check", PAGE_CHECKS, ids=name_of)
def test_a_client_reads_pages_as_the_contract_says(name: str, check: Check) -> None:
    check(subject_of(name))


@pytest.mark.parametrize("name", RECEIVING)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_recording_is_read_or_refused(name: str, data: st.DataObject) -> None:
    subject = subject_of(name)
    recording = data.draw(st.sampled_from(subject.recordings))
    chance = random.Random(data.draw(st.integers()))
    body = recording.body
    for _ in range(data.draw(st.integers(1, 4))):
        body = damage(body, chance)
    try:
        events = subject.connector.normalize(recording.topic, recording.with_body(body))
    except PayloadRefused:
        return
    assert isinstance(events, tuple)


@pytest.mark.parametrize("path", FOLDERS.values(), ids=FOLDERS)
def test_no_emulator_is_imported_with_its_connector(path: Path) -> None:
    assert "emulator" not in (path / "__init__.py").read_text(encoding="utf-8")
