"""Requests to strangers' addresses end where the socket would be made, however the address is written."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from synchub.kit.outbound import AddressRefused, guarded_session, may_reach, networks_of
from tests.support.endpoints import LOOPBACK, Endpoint, open_town
from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.abc import ResolveResult

PUBLIC: Final = ("93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:830::200e")
FORBIDDEN: Final = (
    "0.0.0.0",  # noqa: S104 - an address that must be refused
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "not an address",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert may_reach(address)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_all_others_may_not(address: str) -> None:
    assert not may_reach(address)


def test_a_network_that_is_named_may_be_reached_and_no_other() -> None:
    allowed = networks_of("10.1.0.0/16, fd00::/8")
    assert may_reach("10.1.2.3", allowed)
    assert may_reach("::ffff:10.1.2.3", allowed)
    assert may_reach("fd12::1", allowed)
    assert not may_reach("10.2.0.1", allowed)
    assert not may_reach("169.254.169.254", allowed)


class Answering(AbstractResolver):
    """Tells one address after the other, whatever is asked."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Answer with the next address."""
        address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [{"hostname": host, "host": address, "port": port, "family": kind, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("address", sorted(set(FORBIDDEN) - {"fe80::1%lo", "not an address"}))
async def test_a_name_for_a_forbidden_address_is_refused_at_the_socket(address: str) -> None:
    async with guarded_session(allowed=(), connections_max=1, resolver=Answering(address)) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post("http://innocent.example/")
    assert isinstance(caught.value.os_error, AddressRefused)


async def test_an_address_that_is_written_out_is_refused_as_well() -> None:
    async with Endpoint().serving() as endpoint, guarded_session(allowed=(), connections_max=1) as session:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"):
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.post(f"http://{host}:{endpoint.port}/")
            assert isinstance(caught.value.os_error, AddressRefused), host
    assert endpoint.taken == []


async def test_a_name_that_changes_its_address_between_two_requests_gains_nothing() -> None:
    async with Endpoint().serving() as endpoint:
        resolver = Answering("127.0.0.1", "127.0.0.2")
        allowed = networks_of("127.0.0.1/32")
        async with guarded_session(allowed=allowed, connections_max=1, resolver=resolver) as session:
            url = f"http://moving.example:{endpoint.port}/"
            async with session.post(url, headers={"Connection": "close"}) as answer:
                assert answer.status == 200
            assert isinstance(session.connector, aiohttp.TCPConnector)
            session.connector.clear_dns_cache()
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.post(url)
    assert isinstance(caught.value.os_error, AddressRefused)
    assert len(endpoint.taken) == 1


async def test_no_proxy_of_the_environment_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Endpoint().serving() as proxy, Endpoint().serving() as endpoint:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        async with (
            guarded_session(allowed=networks_of(LOOPBACK), connections_max=1) as session,
            session.post(endpoint.url) as answer,
        ):
            assert answer.status == 200
    assert (len(proxy.taken), len(endpoint.taken)) == (0, 1)


_ODD: Final = """
import asyncio, json, sys
import aiohttp
from synchub.kit.outbound import AddressRefused, guarded_session

async def main():
    told = {}
    async with guarded_session(allowed=(), connections_max=1) as session:
        for host in json.loads(sys.argv[1]):
            try:
                async with session.post(f"http://{host}/", timeout=aiohttp.ClientTimeout(total=10)) as answer:
                    told[host] = answer.status
            except aiohttp.ClientConnectorError as problem:
                told[host] = type(problem.os_error).__name__
            except Exception as problem:
                told[host] = type(problem).__name__
    print(json.dumps(told))

asyncio.run(main())
"""


async def test_odd_ways_to_write_an_address_lead_nowhere_with_the_systems_own_resolver() -> None:
    async with Endpoint().serving() as endpoint:
        names = ["2130706433", "017700000001", "0x7f000001", "127.1", "0177.0.0.1", "0x7f.1", "localhost"]
        hosts = [f"{name}:{endpoint.port}" for name in names]
        hosts += [f"[0:0:0:0:0:ffff:7f00:1]:{endpoint.port}", "169.254.169.254", "2852039166"]
        done = subprocess.run(  # noqa: ASYNC221 - numbers are resolved without a network
            [sys.executable, "-c", _ODD, json.dumps(hosts)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    # What a system cannot resolve leads nowhere either; nothing may be answered.
    assert {told[host] for host in hosts} <= {"AddressRefused", "InvalidUrlClientError", "gaierror"}, told
    assert sum(outcome == "AddressRefused" for outcome in told.values()) >= 4, told
    assert endpoint.taken == []


async def test_an_endpoint_on_this_machine_is_not_called_unless_its_network_is_allowed(
    redis_url: str,
) -> None:
    async with open_town(redis_url, subscriptions={"private_targets": "10.9.9.9/32"}) as town:
        made = await town.subscribe()
        await town.change(TEE=1)
        await town.has_logged(made["id"], "forbidden")
    assert town.endpoint.taken == []


async def test_a_redirect_to_metadata_is_not_followed(redis_url: str) -> None:
    async with open_town(redis_url) as town:
        made = await town.subscribe()
        town.endpoint.headers = {"Location": "http://169.254.169.254/latest/meta-data/"}
        town.endpoint.answers = [302]
        await town.change(TEE=1)
        await town.has_logged(made["id"], "delivered")
        lines = await town.attempts(made["id"])
    assert [line["outcome"] for line in lines] == ["redirected", "delivered"]


async def test_who_cannot_prove_its_name_is_told_nothing(redis_url: str, tmp_path: Path) -> None:
    context = _self_signed(tmp_path)
    async with open_town(redis_url) as town, Endpoint().serving(context) as impostor:
        for url in (impostor.url.replace("http:", "https:"), town.endpoint.url.replace("http:", "https:")):
            made = await town.subscribe(url=url, **{"from": "everything"})
            await town.change(TEE=1)
            await town.has_logged(made["id"], "unreachable")
    assert (impostor.taken, town.endpoint.taken) == ([], [])


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    path = folder / "impostor.pem"
    path.write_bytes(
        key.private_bytes(pem, form, serialization.NoEncryption()) + certificate.public_bytes(pem)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context
