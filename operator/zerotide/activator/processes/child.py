"""One child: started, restarted after a pause that grows, watched, and told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from zerotide.activator.failures import ChildSilent
from zerotide.activator.processes.member import VARIABLE, Member

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
STEADY = 30.0
"""Seconds after which a child that dies is taken for one that had started well."""
WATCH = 5.0
PAUSE = 0.2
"""Seconds between two looks at a child that is well, and at one that does not answer."""
STARTING, PATIENCE = 60.0, 15.0
"""Seconds that a child may be silent before it is killed: at its start, and later."""
RETURN = 3.0
"""Seconds for which connections wait for a child that was started again."""
ASKING = aiohttp.ClientTimeout(total=WATCH)
STREAMING = aiohttp.ClientTimeout(total=None, sock_read=3.0)


class Child:
    """The process with one number; `open_listeners` gives the sockets that it accepts on."""

    def __init__(
        self,
        number: int,
        of: int,
        folder: Path,
        arguments: Sequence[str],
        clock_offset_us: int,
        open_listeners: Callable[[], list[socket.socket]],
        now: Callable[[], float],
    ) -> None:
        self.number, self._of = number, of
        self._admin, self._arguments, self._offset = str(folder / f"{number}.sock"), list(arguments), clock_offset_us
        self._open_listeners, self._now = open_listeners, now
        self._listeners: list[socket.socket] = []
        self._process: asyncio.subprocess.Process | None = None
        self._ending = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self.restarts = 0
        self.was_ready = False
        self.healthy_at = now()
        """When it answered last that all is well, or was to be started first."""
        self.ended = asyncio.Event()
        """Set once it ended for good."""
        self.died: Callable[[], None] = lambda: None
        """Called at each death."""

    async def run(self) -> None:
        """Keep the process running until it is told to end."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._admin, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        failures = 0
        try:
            while not self._ending.is_set():
                began = self._now()
                status = await self._live()
                if self._ending.is_set():
                    break
                self.died()
                self.restarts += 1
                failures = 0 if self._now() - began > STEADY else failures + 1
                pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE) if failures > 1 else 0.0
                log.error("a process died", extra={"member": self.number, "status": status, "restarts_in": pause})
                if pause:
                    # It keeps dying: connections go to the others instead of waiting for it.
                    self.close_listeners()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._ending.wait(), pause)
        finally:
            self.close_listeners()
            await self._session.close()
            self.ended.set()

    async def get(self, path: str, *, stream: bool = False) -> aiohttp.ClientResponse:
        """Ask the child for a page, or a stream without end. Raises ChildSilent."""
        if self._session is None or self._process is None:
            raise ChildSilent(f"process {self.number} is not running")
        try:
            timeout = STREAMING if stream else ASKING
            return await self._session.get(f"http://child{path}", timeout=timeout, allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ChildSilent(f"process {self.number} does not answer: {error}") from error

    async def ask(self, path: str) -> tuple[int, bytes]:
        """Return a child's whole answer, status and body. Raises ChildSilent."""
        try:
            async with await self.get(path) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ChildSilent(f"process {self.number} stopped answering: {error}") from error

    def end(self) -> None:
        """Tell the process to drain and end, and start it no more."""
        self._ending.set()
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal to the process, where there is one."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def close_listeners(self) -> None:
        """Close the parent's hold on the sockets; the child's own stay open."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    async def _live(self) -> int:
        """Start the process and return its exit status."""
        self._listeners = self._listeners or self._open_listeners()
        theirs, ours = os.pipe()
        descriptors = [listener.fileno() for listener in self._listeners]
        http, https = descriptors[0], descriptors[1] if len(descriptors) > 1 else None
        member = Member(self.number, self._of, self._admin, theirs, http, https, self._offset)
        Path(self._admin).unlink(missing_ok=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "zerotide.activator",
                *self._arguments,
                env=_environment(member),
                pass_fds=(theirs, *descriptors),
                stdin=asyncio.subprocess.DEVNULL,
            )
            if self._ending.is_set():
                self.signal(signal.SIGTERM)
            watching = asyncio.create_task(self._watch())
            try:
                return await self._process.wait()
            finally:
                watching.cancel()
                process, self._process = self._process, None
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        finally:
            os.close(theirs)
            os.close(ours)

    async def _watch(self) -> None:
        """Ask the process how it is, and kill one that answers no more; one that starts has longer."""
        began, seen, patience = self._now(), self._now(), STARTING
        unready = self.restarts > 0
        while True:
            healthy = await self._says_yes("/healthz")
            if unready and await self._says_yes("/readyz"):
                unready = False
            elif unready and self._now() - began > RETURN:
                unready = False
                self._turn_away()
            if healthy:
                self.healthy_at = seen = self._now()
                patience = PATIENCE
            elif self._now() - seen > patience:
                log.error("a process is stuck: it is killed", extra={"member": self.number})
                self.signal(signal.SIGKILL)
                return
            await asyncio.sleep(WATCH if healthy and not unready else PAUSE)

    async def _says_yes(self, path: str) -> bool:
        try:
            return (await self.ask(path))[0] == 200
        except ChildSilent:
            return False

    def _turn_away(self) -> None:
        """Leave new connections to the other children: this one cannot serve for now, the API server may be away.

        A listening socket that is shut listens again as soon as the child is ready to accept.
        """
        log.warning("a process is not ready again: others get its connections", extra={"member": self.number})
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RD)


def _environment(member: Member) -> Mapping[str, str]:
    return {**os.environ, VARIABLE: member.encode()}
