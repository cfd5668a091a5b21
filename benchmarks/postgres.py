"""The peer of a hold: PostgreSQL, one hot row, one hold inserted per reservation, by pgbench.

Everything is chosen in the peer's favour: pgbench is a client in C on a unix socket with prepared
statements, no HTTP, key, idempotency or feed is in it, and nothing is pinned to a core. Commits are synced to
the same disk as the hub's (``synchronous_commit=on``, ``fsync=on``).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.children import ChildFailedError
from benchmarks.figures import Latency, latency_of

PACKAGE: Final = "postgresql-15"
PROGRAMS: Final = Path("/usr/lib/postgresql")
USER: Final = "postgres"
START_S: Final = 60
SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "1GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    # No checkpoint inside a run of some seconds.
    "checkpoint_timeout": "30min",
    "max_wal_size": "8GB",
    "jit": "off",
}

SCHEMA: Final = """
CREATE TABLE stock (sku integer PRIMARY KEY, onhand bigint NOT NULL, reserved bigint NOT NULL)
  WITH (fillfactor = 50);
CREATE TABLE hold (id bigserial PRIMARY KEY, sku integer NOT NULL, units integer NOT NULL,
  granted_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL);
INSERT INTO stock VALUES (1, 1000000000, 0);
"""

ROW_LOCK: Final = """
BEGIN;
SELECT onhand - reserved FROM stock WHERE sku = 1 FOR UPDATE;
UPDATE stock SET reserved = reserved + 1 WHERE sku = 1;
INSERT INTO hold (sku, units, expires_at) VALUES (1, 1, now() + interval '60 seconds');
COMMIT;
"""

CONDITIONAL: Final = """
WITH taken AS (
  UPDATE stock SET reserved = reserved + 1 WHERE sku = 1 AND onhand - reserved >= 1 RETURNING sku)
INSERT INTO hold (sku, units, expires_at) SELECT sku, 1, now() + interval '60 seconds' FROM taken;
"""

PATTERNS: Final = {"SELECT … FOR UPDATE": ROW_LOCK, "conditional UPDATE": CONDITIONAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What one pattern did."""

    per_second: float
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running PostgreSQL of the benchmark's own."""

    folder: Path
    programs: Path

    @property
    def version(self) -> str:
        """What the server says of itself."""
        return _run([self.programs / "postgres", "--version"], self.folder).strip()

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        each = [word for sql in statements for word in ("-c", sql)]
        _run([self.programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, *each], self.folder)


def measure_peers(*, clients: int, seconds: float, runs: int) -> dict[str, list[Peer]]:
    """Measure each pattern ``runs`` times, in turn, on one new cluster; installs PostgreSQL when missing.

    Raises:
        ChildFailedError: PostgreSQL is neither here nor can be installed, or one of its programs failed.
    """
    with cluster() as server:
        server.execute(SCHEMA)
        peers: dict[str, list[Peer]] = {name: [] for name in PATTERNS}
        for _ in range(runs):
            for name, script in PATTERNS.items():
                server.execute("TRUNCATE hold", "UPDATE stock SET reserved = 0", "VACUUM stock")
                peers[name].append(bench(server, script, clients=clients, seconds=seconds))
        return peers


def bench(server: Cluster, script: str, *, clients: int, seconds: float) -> Peer:
    """Run one script with pgbench and read each transaction's time from its log."""
    with tempfile.TemporaryDirectory(dir=server.folder) as name:
        folder = Path(name)
        _give_away(folder)
        (folder / "script.sql").write_text(script, encoding="utf-8")
        command: list[str | Path] = [
            *(server.programs / "pgbench", "-n", "-M", "prepared", "-h", server.folder),
            *("-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds)))),
            *("-f", folder / "script.sql", "--log", f"--log-prefix={folder}/log", "postgres"),
        ]
        said = _run(command, folder, within_s=seconds + START_S)
        lines = [line for log in folder.glob("log*") for line in log.read_text(encoding="ascii").splitlines()]
    return Peer(per_second=transactions_per_second(said), latency=latency_of(latencies_ns(lines)))


def transactions_per_second(said: str) -> float:
    """Read pgbench's own figure, without the time in which its clients connected.

    Raises:
        ChildFailedError: there is none.
    """
    found = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    if found is None:
        msg = f"pgbench did not say how many transactions it made: {said[-500:]}"
        raise ChildFailedError(msg)
    return float(found[1])


def latencies_ns(lines: Sequence[str]) -> list[int]:
    """Read the time of each transaction: the third column of pgbench's log, in microseconds."""
    return [int(line.split(" ", 3)[2]) * 1000 for line in lines]


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a PostgreSQL in a temporary folder while the block lasts.

    Raises:
        ChildFailedError: it cannot be had.
    """
    programs = _programs() or _install()
    with tempfile.TemporaryDirectory(prefix="synchub-bench-pg-") as name:
        folder = Path(name)
        _give_away(folder)
        server = Cluster(folder=folder, programs=programs)
        data = folder / "data"
        _run([programs / "initdb", "-A", "trust", "-U", USER, "-D", data, "--no-sync"], folder)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.writelines(f"{key} = '{value}'\n" for key, value in _settings(folder).items())
        control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w", "-t", str(START_S)]
        _run([*control, "-l", folder / "log", "start"], folder)
        try:
            yield server
        finally:
            _run([*control, "-m", "fast", "stop"], folder)


def _settings(folder: Path) -> Mapping[str, str]:
    return {**SETTINGS, "unix_socket_directories": str(folder)}


def _programs() -> Path | None:
    """The newest version that has both server and pgbench."""
    found = [path.parent for path in PROGRAMS.glob("*/bin/pgbench") if (path.parent / "initdb").exists()]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _install() -> Path:
    apt = shutil.which("apt-get")
    if apt is not None and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", PACKAGE]):
            subprocess.run([apt, *command], check=False, stdout=sys.stderr, env=environment)
    found = _programs()
    if found is None:
        msg = f"PostgreSQL is not installed here and cannot be ({PACKAGE}, as root)"
        raise ChildFailedError(msg)
    return found


def _give_away(folder: Path) -> None:
    """PostgreSQL refuses to run as root; its own user must be able to write there."""
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)


def _run(command: Sequence[str | Path], folder: Path, *, within_s: float = START_S) -> str:
    environment = {**os.environ, "PGUSER": USER, "PGDATABASE": "postgres"}
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            user=USER if os.geteuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"{Path(command[0]).name} did not end within {within_s:g} s"
        raise ChildFailedError(msg) from None
    if done.returncode != 0:
        msg = f"{Path(command[0]).name} failed: {done.stdout[-1000:]}"
        raise ChildFailedError(msg)
    return done.stdout
