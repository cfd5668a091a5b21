"""``synchub sale`` as a merchant's person calls it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from synchub.__main__ import main
from synchub.keyspace import MerchantKeys
from synchub.redis import CoalescingRedis
from synchub.stock import operations as stock
from tests.support.registry import settings_for
from tests.support.rows import order, push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
        code = main([*words[:2], "--redis", redis_url, *words[2:], "--merchant", "acme"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert call("account", "add", "standard")[0] == 0
    asyncio.run(_sell(redis_url))
    return call


async def _sell(redis_url: str) -> None:
    """Two of ten are sold, and the level does not contain them."""
    settings = settings_for(redis_url)
    redis = CoalescingRedis(settings.redis)
    rows = [
        push(10, at=1, version=1, account="acme-standard", item="TEE"),
        order(2, at=2, version=2, account="acme-standard", item="TEE", name="1001"),
    ]
    await stock.apply(redis, MerchantKeys("acme"), rows, settings=settings)
    await redis.close()


def told(answer: Call) -> Any:
    """The JSON on standard output, where nothing else may be."""
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


def test_open_sales_are_listed_and_one_is_settled_by_its_name(synchub: Callable[..., Call]) -> None:
    code, out, _ = synchub("sale", "list")
    assert (code, out.splitlines()) == (
        0,
        ["TEE  2 sold 0 min ago, 2 not in acme-standard (WH1)", "    order:acme-standard:1001:1:TEE"],
    )
    [sale] = told(synchub("sale", "list", "--json"))
    code, out, _ = synchub("sale", "settle", sale["name"], "--reason", "sent by hand")
    assert (code, out.startswith("Settled with entry")) == (0, True)
    assert synchub("sale", "list")[1] == "Every sale is in the levels.\n"


def test_settling_again_says_that_nothing_changed(synchub: Callable[..., Call]) -> None:
    words = ("sale", "settle", "--order", "1001", "--line", "1", "--sku", "TEE", "--reason", "x")
    assert told(synchub(*words, "--json"))["was_open"]
    assert synchub(*words)[:2] == (0, "It was settled before; nothing changed.\n")


def test_younger_sales_are_left_out_when_older_ones_are_asked_for(synchub: Callable[..., Call]) -> None:
    assert told(synchub("sale", "list", "--older-than", "24h", "--json")) == []


def test_a_limit_is_kept_and_says_that_there_is_more(synchub: Callable[..., Call], redis_url: str) -> None:
    async def sell_more() -> None:
        settings = settings_for(redis_url)
        redis = CoalescingRedis(settings.redis)
        rows = [order(1, at=3, version=3, account="acme-standard", item="MUG", name="1002")]
        await stock.apply(redis, MerchantKeys("acme"), rows, settings=settings)
        await redis.close()

    asyncio.run(sell_more())
    code, out, _ = synchub("sale", "list", "--limit", "1")
    assert code == 0
    assert out.startswith("MUG  1 sold")
    assert out.endswith("There are more; ask with a greater --limit.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("settle", "order:a:1:1:TEE", "--reason", "x"), "No such sale is known"),
        (("settle", "--reason", "x"), "Say which sale"),
        (("settle", "TEE", "--reason", "x"), "A sale's name begins with"),
        (("list", "--older-than", "soon"), "such as 90m, 24h or 7d"),
        (("list", "--limit", "0"), "from 1 to 1000"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    synchub: Callable[..., Call], words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = synchub("sale", *words)
    assert (code, out) == (1, "")
    assert sentence in err


def test_a_merchant_that_does_not_exist_has_no_sales(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sale", "list", "--redis", redis_url, "--merchant", "acne"]) == 1
    assert "There is no merchant acne" in capsys.readouterr().err
