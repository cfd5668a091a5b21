"""The processes of a deployment, as the compose file starts them.

``tests/packaging/test_compose.py`` keeps this equal to ``docker-compose.yml``; the
process tests start the same commands with the same environment on one machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HUB_ENVIRONMENT: Final = ("SYNCHUB_REDIS__URL", "SYNCHUB_SECRETS__KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: what runs, what it is told, and where it listens."""

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    """Names only; the values are the deployment's."""
    port: int | None = None
    """The port inside the container."""
    after: tuple[str, ...] = ()
    """Services that must be healthy before it starts."""
    stop_s: int
    """How long it may take to end in good order."""


TOPOLOGY: Final[dict[str, Service]] = {
    "valkey": Service(
        argv=("valkey-server", "/etc/valkey/redis.conf", "--protected-mode", "no"),
        port=6379,
        stop_s=60,
    ),
    "api": Service(
        argv=("synchub", "serve", "--host", "0.0.0.0", "--port", "8080"),  # noqa: S104 - inside its container
        environment=_HUB_ENVIRONMENT,
        port=8080,
        after=("valkey",),
        stop_s=30,
    ),
    "worker": Service(
        argv=("synchub", "work"),
        environment=(*_HUB_ENVIRONMENT, "SYNCHUB_WORKER__PORT"),
        after=("valkey",),
        stop_s=45,
    ),
}
