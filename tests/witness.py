"""``make witness``: the hub beside programs of other people, which are installed through Debian and npm.

The stock, worker and fault tests run on the oldest server the hub supports, Redis 7.0, which
Debian 12 carries, instead of the embedded Valkey. Then a browser and npm's clients read the feed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Final

from tests.support.tools import PACKAGES_VARIABLE
from tests.support.valkey import SERVER_VARIABLE

TESTS: Final = ("tests/stores", "tests/workers", "tests/faults/test_kills.py", "tests/web/test_feed.py")
FOREIGN_TESTS: Final = ("tests/witnesses", "tests/faults/test_alerts.py")
PROGRAMS: Final = {"node": "nodejs", "npm": "npm", "chromium": "chromium", "faketime": "faketime"}
"""What the foreign readers and the false clocks need, and the package of Debian that has it."""
UNPACKED: Final = {"promtool": "prometheus"}
"""Programs that are taken out of their package: installed, it would start a server."""
NPM_PACKAGES: Final = ("eventsource@3", "standardwebhooks@1.1.1")
"""The first with its parser, a package of its own; the newest of each that Debian's Node runs."""


def main() -> int:
    """Install what is missing, say what is witnessed, run; the worse exit code of the two runs."""
    return max(_on_oldest_server(), _with_foreign_readers())


def _on_oldest_server() -> int:
    server = shutil.which("redis-server") or _install("redis-server")
    if server is None:
        sys.stderr.write("redis-server is not installed here and cannot be: nothing was witnessed.\n")
        return 1
    version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    sys.stdout.write(f"witness: {version}")
    return _pytest(TESTS, {SERVER_VARIABLE: server})


def _with_foreign_readers() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{os.environ['PATH']}:{folder}/usr/bin"
        missing = [name for name, package in PROGRAMS.items() if not _found(name, package)]
        missing += [name for name, package in UNPACKED.items() if not _unpacked(name, package, folder)]
        if missing:
            sys.stderr.write(f"{', '.join(missing)} cannot be installed here: no foreign reader was heard.\n")
            return 1
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *NPM_PACKAGES]
        if subprocess.run(command, check=False).returncode:
            sys.stderr.write("npm could not install its clients: no foreign reader was heard.\n")
            return 1
        sys.stdout.write(f"witness: {', '.join([*PROGRAMS, *UNPACKED, *NPM_PACKAGES])}\n")
        return _pytest(FOREIGN_TESTS, {PACKAGES_VARIABLE: folder, "PATH": path})


def _found(program: str, package: str) -> str | None:
    return shutil.which(program) or _install(package, program)


def _unpacked(program: str, package: str, folder: str) -> str | None:
    found = shutil.which(program)
    if found or not (shutil.which("apt-get") and shutil.which("dpkg")):
        return found
    script = f"(apt-get download -qq {package} || (apt-get update -qq && apt-get download -qq {package}))"
    command = ["sh", "-c", f"{script} && dpkg -x {package}_*.deb ."]
    subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr)
    return shutil.which(program, path=f"{folder}/usr/bin")


def _pytest(tests: tuple[str, ...], variables: dict[str, str]) -> int:
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


def _install(package: str, program: str = "") -> str | None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return None
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        subprocess.run([apt, *command], check=False, stdout=sys.stderr)
    return shutil.which(program or package)


if __name__ == "__main__":
    sys.exit(main())
