"""A client session for addresses that strangers have given: it connects to nobody it must not reach.

The check is made where a socket is created, with the address that is then connected to. A look at the URL,
or a lookup before the request, would be answered differently a moment later. Every way of writing an
address (``2130706433``, ``0177.1``, a name that resolves to loopback) has become plain by then.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.abc import AbstractResolver

Network = IPv4Network | IPv6Network

_GLOBAL_V6: Final = ip_network("2000::/3")
"""All that is assigned to hosts of the public internet; whatever else there is, is special."""
_NEVER_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        # Shared by a provider's customers, and some clouds' metadata.
        "100.64.0.0/10",
        # Relays, protocol assignments and test nets, of which older Pythons know only a part.
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        # These carry an IPv4 address inside, which a gateway on the way would take out.
        "2002::/16",
        "2001::/32",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        # Documentation, and what has no host behind it.
        "2001:db8::/32",
        "3fff::/20",
        "100::/64",
    )
)


class AddressRefused(OSError):
    """The connection would lead to an address that is not public and not allowed."""


def networks_of(text: str) -> tuple[Network, ...]:
    """Read networks in CIDR form, separated by commas.

    Raises:
        ValueError: one of them is no network.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def may_reach(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Say whether an address in its plain form is public, or lies in one of the networks."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in allowed) or _is_public(found)


def guarded_session(
    *,
    allowed: tuple[Network, ...],
    connections_max: int,
    unpacks: bool = False,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Build a session that follows no proxy of the environment, keeps no cookie and unpacks only if told.

    A request of it is still to be sent with ``allow_redirects=False`` and a time-out. A forbidden address
    shows as ``aiohttp.ClientConnectorError`` whose ``os_error`` is :class:`AddressRefused`.
    """
    connector = aiohttp.TCPConnector(limit=connections_max, socket_factory=_guard(allowed), resolver=resolver)
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        auto_decompress=unpacks,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _guard(allowed: tuple[Network, ...]) -> Callable[[Any], socket.socket]:
    def guarded_socket(address_info: Any) -> socket.socket:
        family, kind, protocol, _, place = address_info
        if not may_reach(str(place[0]), allowed):
            msg = "The address is not public."
            raise AddressRefused(msg)
        return socket.socket(family=family, type=kind, proto=protocol)

    return guarded_socket


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    if any(address in network for network in _NEVER_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
