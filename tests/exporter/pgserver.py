"""A real PostgreSQL server for tests: its own data folder, a socket and no port, gone when it is left."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.setup import debian

PACKAGES = {"postgresql": "/usr/lib/postgresql"}


def programs() -> Path:
    """Return the folder of the newest server's programs, installed where there is none. Raises PackagesMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        debian.ensure(PACKAGES)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent


@contextmanager
def serving() -> Iterator[str]:
    """Serve until left; yield the address of an empty server."""
    folder = Path(tempfile.mkdtemp(prefix="zt-pg-"))
    bin_, data = programs(), folder / "data"
    # PostgreSQL refuses to run as root; its Debian package brings an account for it.
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    log = folder / "log"
    options = f"-k {folder} -c listen_addresses='' -c shared_buffers=64MB -c max_connections=40"

    def run(*command: str | Path) -> None:
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    try:
        run(bin_ / "initdb", "-D", data, "-U", "zerotide", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        run(bin_ / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "-t", "120", "start")
        try:
            yield f"postgresql://zerotide@/postgres?host={folder}"
        finally:
            run(bin_ / "pg_ctl", "-D", data, "-m", "immediate", "-w", "-t", "120", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def database(server: str, name: str) -> str:
    """Return the address of another database of a server."""
    return re.sub(r"/[a-z0-9_]+\?", f"/{name}?", server)
