"""A real PostgreSQL server for tests: its own data folder, gone when it is left; it can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.setup import debian

PACKAGES = {"postgresql": "/usr/lib/postgresql"}
PATIENCE = 120.0
Wrap = Callable[[list[str]], list[str]]


def programs() -> Path:
    """Return the folder of the newest server's programs, installed where there is none. Raises PackagesMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        debian.ensure(PACKAGES)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent


class Database:
    """Serve from a socket, and at an address where one is given; `wrap` makes the command that serves run elsewhere."""

    def __init__(self, host: str = "", port: int = 5432, wrap: Wrap = list) -> None:
        self._bin, self._wrap = programs(), wrap
        self._folder = Path(tempfile.mkdtemp(prefix="zt-pg-"))
        self._listen = ["-c", f"listen_addresses={host}", "-p", str(port)]
        self._host, self._port = host, port
        self._server: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root; its Debian package brings an account for it.
        self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        if self._user:
            account = pwd.getpwnam("postgres")
            os.chown(self._folder, account.pw_uid, account.pw_gid)

    @property
    def address(self) -> str:
        """Return where psql finds it."""
        if self._host:
            return f"postgresql://zerotide@{self._host}:{self._port}/postgres"
        return f"postgresql://zerotide@/postgres?host={self._folder}&port={self._port}"

    def __enter__(self) -> Self:
        """Make an empty database and serve it."""
        try:
            flags = ["-U", "zerotide", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
            self._run("initdb", "-D", str(self._folder / "data"), *flags)
            if self._host:
                # Who reaches the address is in a network of the test's own.
                with (self._folder / "data" / "pg_hba.conf").open("a") as file:
                    file.write("host all all 10.0.0.0/8 trust\n")
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Serve, and return once it takes connections; what a killed one left is recovered from."""
        deadline = time.monotonic() + PATIENCE
        command = [*self._user, str(self._bin / "postgres"), "-D", str(self._folder / "data"), "-k", str(self._folder)]
        command += [*self._listen, "-c", "shared_buffers=64MB", "-c", "max_connections=40"]
        while True:
            # Processes of a killed server end a moment after it; until then the next one refuses to begin.
            if self._server is None or self._server.poll() is not None:
                with (self._folder / "log").open("ab") as log:
                    self._server = subprocess.Popen(self._wrap(command), cwd=self._folder, stdout=log, stderr=log)
            if self._ready():
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill -9 the server and everything that it started, as a node that loses its power does."""
        server, self._server = self._server, None
        if server is None:
            return
        for pid in [*_children(server.pid), server.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait(30)

    def _ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", str(self._folder), "-p", str(self._port)]
        return subprocess.run(command).returncode == 0

    def _run(self, program: str, *args: str) -> None:
        command = [*self._user, str(self._bin / program), *args]
        subprocess.run(command, cwd=self._folder, check=True, stdout=subprocess.DEVNULL)


def _children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found
