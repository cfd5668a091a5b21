"""``make witness``: the suite's stock, worker and fault tests on a server that is not ours to choose.

The oldest server the hub supports is Redis 7.0, which Debian 12 carries. It is
installed through Debian when it is missing and this is allowed; the tests then run
on it instead of the embedded Valkey.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final

from tests.support.valkey import SERVER_VARIABLE

TESTS: Final = ("tests/stores", "tests/workers", "tests/faults/test_kills.py", "tests/web/test_feed.py")


def main() -> int:
    """Install what is missing, say what is witnessed, run; pytest's exit code."""
    server = shutil.which("redis-server") or _install("redis-server")
    if server is None:
        sys.stderr.write("redis-server is not installed here and cannot be: nothing was witnessed.\n")
        return 1
    version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    sys.stdout.write(f"witness: {version}")
    sys.stdout.flush()
    environment = {**os.environ, SERVER_VARIABLE: server}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *TESTS], env=environment, check=False
    ).returncode


def _install(package: str) -> str | None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return None
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        subprocess.run([apt, *command], check=False, stdout=sys.stderr)
    return shutil.which(package)


if __name__ == "__main__":
    sys.exit(main())
