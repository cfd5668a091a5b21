"""Refuses every connection of the test process that would leave the machine.

Python itself reports each attempt to its audit hooks, so no library can go round it;
only a loop that talks to the kernel in C (uvloop) does, which is why tests run on
asyncio's own loop.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import Final

_EVENTS: Final = frozenset({"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"})
_RESOLVING: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_NAMES: Final = frozenset({"", "localhost"})


class OffLoopback(AssertionError):
    """A test tried to reach another machine.

    Deliberately no ``OSError``: code under test handles those as a platform that is down.
    """


def guard_loopback() -> None:
    """Install the guard; it stays for the life of the process."""
    sys.addaudithook(_refuse_foreign)


def _refuse_foreign(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    elif event in _RESOLVING:
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if isinstance(host, str) and not _is_loopback(host):
        msg = f"{event} to {host!r}: tests stay on this machine"
        raise OffLoopback(msg)


def _is_loopback(host: str) -> bool:
    if host in _NAMES:
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
