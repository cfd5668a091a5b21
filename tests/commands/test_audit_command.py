"""``synchub audit`` as an operator calls it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from synchub.__main__ import main
from synchub.archive.model import Log
from synchub.decisions.operations import DecisionLog
from synchub.redis import CoalescingRedis
from synchub.settings import DecisionSettings, RedisSettings, Settings
from tests.support.archive import Ledger
from tests.support.decisions import a_decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _logs_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A logger keeps the output that it was first used with, and each test has its own.
    monkeypatch.setattr("synchub.history.operations._log", structlog.get_logger())
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


class Desk:
    """An operator before an archive."""

    def __init__(self, url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.folder = folder
        self._capsys = capsys

    def audit(self, *words: str, url: str = "") -> tuple[int, str, str]:
        """Call the command; returns how it ended and what it said on both outputs."""
        self._capsys.readouterr()
        code = main(["audit", *words, "--folder", str(self.folder), "--redis", url or self.url])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def told(self, *words: str) -> Any:
        """Call it with ``--json``."""
        code, out, err = self.audit(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    def prepare(self, act: Callable[[Ledger], Awaitable[object]], merchant: str = "acme") -> None:
        """Let something happen to a merchant's ledger."""

        async def do() -> None:
            redis = CoalescingRedis(RedisSettings(url=self.url))
            try:
                await act(Ledger(redis=redis, folder=self.folder, merchant=merchant))
            finally:
                await redis.close()

        asyncio.run(do())


@pytest.fixture
def desk(redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(redis_url, tmp_path / "archive", capsys)


async def _archived(ledger: Ledger) -> None:
    await ledger.write(25)
    await ledger.archive_all()


async def _archived_and_more(ledger: Ledger) -> None:
    await _archived(ledger)
    await ledger.write(5)


async def _decided(ledger: Ledger) -> None:
    settings = Settings.model_construct(decisions=DecisionSettings())
    log = DecisionLog(ledger.redis, settings)
    for number in range(1, 6):
        log.note(ledger.merchant, a_decision(quantity=number))
    await log.flush()
    await ledger.turn(log=Log.DECISIONS)


def test_a_whole_archive_is_well(desk: Desk) -> None:
    desk.prepare(_archived)
    desk.prepare(_archived, "other")
    code, out, _ = desk.audit("verify")
    assert code == 0
    assert "acme, ledger: 25 entries in 3 segments up to 25; last hash" in out
    assert "other, ledger: 25 entries" in out


def test_one_merchant_can_be_checked_alone(desk: Desk) -> None:
    desk.prepare(_archived)
    desk.prepare(_archived, "other")
    document = desk.told("verify", "--merchant", "other")
    assert document["valid"]
    assert [(log["merchant"], log["log"], log["entries"]) for log in document["logs"]] == [
        ("other", "ledger", 25),
        ("other", "decisions", 0),
    ]


def test_the_first_broken_place_is_named_and_ends_with_1(desk: Desk) -> None:
    desk.prepare(_archived)
    file = desk.folder / "acme/ledger/000000000002.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"to":"K13"', b'"to":"K31"'))
    code, out, _ = desk.audit("verify")
    assert code == 1
    assert "broken  acme, ledger: segment 2: line 4, the entry of sequence 13" in out
    code, out, _ = desk.audit("verify", "--json")
    assert code == 1
    assert not json.loads(out)["valid"]


def test_what_was_lost_before_it_was_archived_is_said(desk: Desk) -> None:
    async def lose(ledger: Ledger) -> None:
        await ledger.write(10)
        await ledger.redis.execute("XTRIM", ledger.keys.ledger, "MINID", "4-0")
        await ledger.archive_all()

    desk.prepare(lose)
    code, out, _ = desk.audit("verify")
    assert code == 0
    assert "3 lost before they could be archived" in out


def test_segments_taken_off_the_end_are_missed(desk: Desk) -> None:
    desk.prepare(_archived)
    (desk.folder / "acme/ledger/000000000003.jsonl").unlink()
    code, out, _ = desk.audit("verify")
    assert code == 1
    assert "the store knows of 3" in out


def test_without_a_store_everything_but_the_end_is_checked(desk: Desk) -> None:
    desk.prepare(_archived)
    code, out, err = desk.audit("verify", url="redis://127.0.0.1:1/0")
    assert code == 0
    assert "25 entries" in out
    assert "The end of acme's archive is not checked" in err


def test_an_empty_folder_is_no_archive(desk: Desk) -> None:
    code, _, err = desk.audit("verify")
    assert code == 1
    assert "There is no archive" in err


def test_entries_are_shown_from_the_archive_and_then_from_the_store(desk: Desk) -> None:
    desk.prepare(_archived_and_more)
    shown = desk.told("show", "--merchant", "acme")
    assert [entry["seq"] for entry in shown] == list(range(1, 31))
    assert [entry["archived"] for entry in shown] == [True] * 25 + [False] * 5
    assert (shown[3]["sku"], shown[3]["to"], shown[3]["epoch"]) == ("TEE-1", "K4", "first")


def test_a_part_of_the_entries_can_be_asked_for(desk: Desk) -> None:
    desk.prepare(_archived_and_more)
    words = ("show", "--merchant", "acme", "--sku", "TEE-1", "--from-seq", "20", "--to-seq", "29")
    assert [entry["seq"] for entry in desk.told(*words)] == [22, 25, 28]
    code, out, _ = desk.audit(*words)
    assert code == 0
    assert out.splitlines()[0] == "22  TEE-1 at WH1  level K21 > K22 by wms  ats 22  delivery:22"


def test_without_a_store_what_is_archived_is_shown(desk: Desk) -> None:
    desk.prepare(_archived_and_more)
    code, out, err = desk.audit("show", "--merchant", "acme", "--json", url="redis://127.0.0.1:1/0")
    assert code == 0
    assert [entry["seq"] for entry in json.loads(out)] == list(range(1, 26))
    assert "is not shown" in err


def test_decisions_are_shown_too(desk: Desk) -> None:
    desk.prepare(_decided)
    shown = desk.told("show", "--merchant", "acme", "--log", "decisions")
    assert [entry["quantity"] for entry in shown] == ["1", "2", "3", "4", "5"]
    code, out, _ = desk.audit("show", "--merchant", "acme", "--log", "decisions", "--to-seq", "1")
    assert code == 0
    assert "acme-agent hold TEE  1 wanted  saw LOW_STOCK 3 at 17  refused insufficient" in out


def test_a_damaged_archive_is_not_shown_as_if_it_were_none(desk: Desk) -> None:
    desk.prepare(_archived)
    file = desk.folder / "acme/ledger/000000000002.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    code, _, err = desk.audit("show", "--merchant", "acme")
    assert code == 1
    assert "audit verify" in err


def test_a_lost_folder_can_begin_anew_and_a_present_one_cannot(desk: Desk) -> None:
    desk.prepare(_archived)
    code, _, err = desk.audit("begin", "--merchant", "acme")
    assert code == 1
    assert "already holds" in err
    (desk.folder / "acme").rename(desk.folder / "elsewhere")
    code, out, _ = desk.audit("begin", "--merchant", "acme")
    assert code == 0
    assert "begins anew" in out


@pytest.mark.parametrize("name", ["../acme", "A"])
def test_a_merchant_is_named_as_merchants_are(desk: Desk, name: str) -> None:
    code, _, err = desk.audit("verify", "--merchant", name)
    assert code == 1
    assert "merchant's name" in err


async def _wiped(ledger: Ledger) -> None:
    await ledger.redis.execute("FLUSHALL")


async def _connected_again(ledger: Ledger) -> None:
    await ledger.redis.execute("HSET", ledger.keys.roles, "wms", "A|1|900000|s|m|1|0|1|0")


def test_what_would_be_restored_is_said_and_nothing_is_done(desk: Desk) -> None:
    desk.prepare(_archived)
    desk.prepare(_wiped)
    code, out, err = desk.audit("restore", "--merchant", "acme")
    assert (code, err) == (0, "")
    assert "The store does not know of 25 of them: 0 sales of 0 units, and the last word of 3 sources" in out
    assert "Left out: the numbers of wms." in out
    assert out.endswith("Nothing was changed; --apply does it.\n")
    assert not desk.told("restore", "--merchant", "acme")["applied"]
    desk.prepare(_is_empty)


async def _is_empty(ledger: Ledger) -> None:
    assert await ledger.redis.execute("DBSIZE") == 0


def test_what_is_archived_is_restored_once(desk: Desk) -> None:
    desk.prepare(_archived)
    desk.prepare(_wiped)
    desk.prepare(_connected_again)
    code, out, err = desk.audit("restore", "--merchant", "acme", "--apply", "--json")
    assert (code, "history_lost" in err) == (0, True)
    first = json.loads(out)
    assert (first["applied"], first["lost"], first["restored"]["sources"]) == (True, 25, 3)
    assert first["restored"]["differing"] == []
    code, out, err = desk.audit("restore", "--merchant", "acme", "--apply")
    assert (code, err) == (0, "")
    assert "Restored: 0 sales (0 were known), 0 sources (3 were known or left out)." in out


def test_nothing_is_restored_from_a_broken_archive(desk: Desk) -> None:
    desk.prepare(_archived)
    file = desk.folder / "acme/ledger/000000000002.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"to":"K13"', b'"to":"K31"'))
    desk.prepare(_wiped)
    code, out, err = desk.audit("restore", "--merchant", "acme", "--apply")
    assert (code, out) == (1, "")
    assert "segment 2: line 4, the entry of sequence 13" in err


def test_without_an_archive_nothing_can_be_restored(desk: Desk) -> None:
    code, _, err = desk.audit("restore", "--merchant", "acme")
    assert code == 1
    assert "Nothing is archived of acme" in err
