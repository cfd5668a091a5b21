"""``synchub replay`` and ``synchub verify-delivery`` as an operator calls them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from synchub import keyspace
from synchub.__main__ import main
from synchub.connector_kit.signatures import sign_standard_webhooks
from synchub.kit.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.valkey import Valkey

BODY = json.dumps(
    {
        "type": "stock.changed",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {
            "sequence": 7,
            "changes": [
                {
                    "sku": "TEE",
                    "location_id": "WH1",
                    "mode": "absolute",
                    "quantity": "12",
                    "state": "sellable",
                }
            ],
        },
    }
).encode()


@pytest.fixture(autouse=True)
def _logs_are_left_as_they_were() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


class Desk:
    """An operator with an account and a recording of one delivery to it."""

    def __init__(self, url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.capsys = capsys
        self.secret = self.said("account", "add", "standard", "--merchant", "acme")["secret"]
        self.file = folder / "delivery.json"
        self.record(BODY, self.secret)

    def record(self, body: bytes, secret: str, *, age_s: int = 0) -> None:
        headers = sign_standard_webhooks(
            body, secret, message_id="msg_1", timestamp_s=now_ms() // 1000 - age_s
        )
        self.file.write_bytes(body)
        self.file.with_name("delivery.headers.json").write_text(json.dumps(headers))

    def call(self, *words: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main([*words, "--redis", self.url, "--json"])
        out, err = self.capsys.readouterr()
        return code, out, err

    def said(self, *words: str) -> dict[str, str]:
        code, out, err = self.call(*words)
        assert (code, err) == (0, "")
        found: dict[str, str] = json.loads(out)
        return found


@pytest.fixture
def desk(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(redis_url, tmp_path, capsys)


def test_a_recording_is_told_with_its_signature_and_meaning(desk: Desk) -> None:
    said = desk.said("verify-delivery", "acme-standard", str(desk.file))
    assert (said["signed"], said["topic"]) == ("accepted", "stock.changed")
    assert "quantity=12" in said["events"][0]


def test_a_recording_of_somebody_else_is_refused(desk: Desk) -> None:
    desk.record(BODY, "whsec_" + "A" * 44)
    code, out, _ = desk.call("verify-delivery", "acme-standard", str(desk.file))
    assert code == 1
    assert json.loads(out)["signed"].startswith("signature_refused")


def test_an_old_recording_is_judged_as_of_the_time_asked_for(desk: Desk) -> None:
    desk.record(BODY, desk.secret, age_s=86_400)
    code, out, _ = desk.call("verify-delivery", "acme-standard", str(desk.file))
    assert (code, json.loads(out)["signed"][:14]) == (1, "delivery_stale")
    then = str(now_ms() - 86_400_000)
    assert desk.said("verify-delivery", "acme-standard", str(desk.file), "--at", then)["signed"] == "accepted"


def test_a_replayed_recording_waits_for_the_workers(desk: Desk, valkey: Valkey) -> None:
    said: dict[str, object] = {**desk.said("replay", "--account", "acme-standard", str(desk.file))}
    assert said == {"replayed": 1}
    with valkey.client() as client:
        [(_, fields)] = client.xrange(keyspace.ingest_stream())
    assert fields["b"] == BODY.decode()


def test_a_recording_without_its_headers_is_named(desk: Desk) -> None:
    desk.file.with_name("delivery.headers.json").unlink()
    code, out, err = desk.call("replay", "--account", "acme-standard", str(desk.file))
    assert (code, out) == (1, "")
    assert "delivery.headers.json" in err


def test_an_account_that_is_not_there_is_named(desk: Desk) -> None:
    for words in (
        ("replay", "--account", "nobody", str(desk.file)),
        ("verify-delivery", "nobody", str(desk.file)),
    ):
        code, _, err = desk.call(*words)
        assert (code, "nobody" in err) == (1, True)
