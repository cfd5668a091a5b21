"""The peer of fan-out: Nchan, a module of nginx in C, with one worker and its subscribers as EventSource.

Both come from Debian's packages. Where they are not installed they are unpacked into the run's own folder:
installing nginx would start a web server on port 80 that nobody asked for.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.children import ChildFailedError, running
from benchmarks.hub import START_DEADLINE_S, free_port, until_ready

PACKAGES: Final = ("nginx", "libnginx-mod-nchan")
PROGRAM: Final = "usr/sbin/nginx"
MODULE: Final = "usr/lib/nginx/modules/ngx_nchan_module.so"
STATE: Final = Path("/var/lib/nginx")
"""Compiled into Nchan, which does not start without it and takes no other."""

USER: Final = "nobody"
APT_S: Final = 120

CONFIG: Final = """
load_module {module};
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 256m;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /ready {{ return 200; }}
    location = /tell {{
      nchan_publisher;
      nchan_channel_id bench;
      nchan_message_buffer_length 1000;
      nchan_message_timeout 1m;
    }}
    location = /feed {{
      nchan_subscriber eventsource;
      nchan_channel_id bench;
      nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where nginx and the module are."""

    program: Path
    module: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Nchan:
    """A running nginx; ``pid`` is its only worker's."""

    tell_url: str
    feed_url: str
    pid: int


@contextlib.contextmanager
def programs() -> Iterator[Programs]:
    """Find nginx with Nchan, or unpack it for as long as the block lasts.

    Raises:
        ChildFailedError: it cannot be had.
    """
    installed = _programs_in(Path("/"))
    if installed is not None:
        yield installed
        return
    with tempfile.TemporaryDirectory(prefix="synchub-bench-nginx-") as name, _state():
        yield _unpacked(Path(name))


@contextlib.asynccontextmanager
async def nginx(found: Programs, *, connections: int, core: int | None) -> AsyncIterator[Nchan]:
    """Run nginx on a free port of loopback while the block lasts.

    Raises:
        ChildFailedError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="synchub-bench-nchan-") as name:
        folder, port = Path(name), free_port()
        config, log = folder / "nginx.conf", folder / "nginx.log"
        config.write_text(config_of(found, folder, port=port, connections=connections), encoding="ascii")
        if _is_root():
            # The worker gives its rights up, and needs no more than this folder.
            shutil.chown(folder, USER)
        command = [str(found.program), "-p", name, "-c", str(config), "-e", str(folder / "error.log")]
        async with running("nginx", command, core=core, log=log) as master:
            base = f"http://127.0.0.1:{port}"
            try:
                await until_ready(f"{base}/ready", [master], log, within_s=START_DEADLINE_S)
            except ChildFailedError as failure:
                msg = f"Nchan did not start: {str(failure).partition(':')[2].strip()}"
                raise ChildFailedError(msg) from None
            _, *workers = machine.family(master.pid)
            if len(workers) != 1:
                msg = f"nginx has {len(workers)} workers instead of one"
                raise ChildFailedError(msg)
            yield Nchan(tell_url=f"{base}/tell", feed_url=f"{base}/feed", pid=workers[0])


def config_of(found: Programs, folder: Path, *, port: int, connections: int) -> str:
    """Everything in its own folder, one worker, nothing logged, nothing limited."""
    group = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name
    user = f"user {USER} {group};" if _is_root() else ""
    return CONFIG.format(
        module=found.module, user=user, folder=folder, port=port, connections=connections + 200
    )


def _unpacked(folder: Path) -> Programs:
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is not None and dpkg is not None:
        # The folder is ours alone, also against the user that apt would otherwise download as.
        download = [apt, "-o", "APT::Sandbox::User=root", "-qq", "download", *PACKAGES]
        if not _succeeds(download, folder) and _is_root() and _succeeds([apt, "update", "-qq"], folder):
            _succeeds(download, folder)
        for package in folder.glob("*.deb"):
            _succeeds([dpkg, "-x", str(package), str(folder)], folder)
    found = _programs_in(folder)
    if found is None:
        msg = f"nginx with Nchan is neither installed nor to be had ({', '.join(PACKAGES)})"
        raise ChildFailedError(msg)
    return found


@contextlib.contextmanager
def _state() -> Iterator[None]:
    """Have the folder that an installation would have made; what was not there is gone afterwards."""
    is_new = not STATE.exists()
    STATE.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if is_new:
            shutil.rmtree(STATE, ignore_errors=True)


def _programs_in(root: Path) -> Programs | None:
    found = Programs(program=root / PROGRAM, module=root / MODULE)
    return found if found.program.exists() and found.module.exists() else None


def _succeeds(command: list[str], folder: Path) -> bool:
    try:
        done = subprocess.run(
            command, cwd=folder, check=False, stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=APT_S
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _is_root() -> bool:
    return os.geteuid() == 0
