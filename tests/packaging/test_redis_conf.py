"""The shipped store configuration is accepted as it is written, and each line says why."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import pytest
from redis.exceptions import OutOfMemoryError

from tests.support.valkey import SHIPPED_CONFIG

if TYPE_CHECKING:
    from redis import Redis

    from tests.conftest import StartValkey
    from tests.support.valkey import Valkey

_SIZES: Final = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}


def directives() -> list[tuple[str, str]]:
    lines = SHIPPED_CONFIG.read_text(encoding="utf-8").splitlines()
    split = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    return [(words[0], " ".join(words[1:])) for words in split]


@pytest.mark.parametrize(("option", "value"), directives())
def test_server_runs_with_the_shipped_value(valkey: Valkey, option: str, value: str) -> None:
    with valkey.client() as client:
        answer = client.config_get(option)[option]
    assert _plain(value) in answer


def test_every_directive_stands_below_its_reason() -> None:
    lines = SHIPPED_CONFIG.read_text(encoding="utf-8").splitlines()
    above = ""
    for line in lines:
        if line and not line.startswith("#"):
            family = line.split("-")[0].split()[0]
            assert above.startswith(("#", family)), line
        above = line


def test_acknowledged_writes_survive_a_crash(own_valkey: StartValkey) -> None:
    server = own_valkey()
    with server.client() as client:
        client.set("kept", "yes")
    server.restart()
    with server.client() as client:
        assert client.get("kept") == "yes"


def test_full_memory_refuses_writes_instead_of_dropping_keys(own_valkey: StartValkey) -> None:
    server = own_valkey(maxmemory="3mb")
    with server.client() as client:
        client.set("held", "1")
        with pytest.raises(OutOfMemoryError):
            _fill(client)
        assert client.get("held") == "1"


def _fill(client: Redis) -> None:
    for number in range(10_000):
        client.set(f"filler:{number}", "x" * 1000)


def _plain(value: str) -> str:
    return " ".join(_bytes(word) for word in value.split())


def _bytes(word: str) -> str:
    unit = word[-2:]
    return str(int(word[:-2]) * _SIZES[unit]) if unit in _SIZES else word
