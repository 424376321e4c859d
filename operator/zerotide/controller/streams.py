"""Follow the activators' demand streams: one task per activator, one view each; what breaks is opened again.

While a stream is down, its activator counts as missing, and no endpoint falls asleep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from zerotide.api.demand import Delta, Message, Snapshot, Wake, decode
from zerotide.api.failures import InvalidMessage
from zerotide.api.urls import host_of
from zerotide.controller.activators import Activator
from zerotide.controller.failures import StreamBroken
from zerotide.kube import Clock
from zerotide.scaling.demand import View

log = logging.getLogger(__name__)

STALL = 3.0
"""Seconds without a line, after which a stream is given up; reports come twice a second."""
_LINE = 1 << 22


class Streams:
    """The demand of all activators, as far as they are connected."""

    def __init__(
        self,
        token: Callable[[], str],
        port: int,
        clock: Clock,
        *,
        on_demand: Callable[[str], None],
        on_wake: Callable[[View, Wake], None],
        on_membership: Callable[[], None],
    ) -> None:
        """`on_membership` is called when who must report, or who does, has changed."""
        self.views: dict[str, View] = {}
        self.expected: tuple[Activator, ...] = ()
        self._token, self._port, self._clock = token, port, clock
        self._on_demand, self._on_wake, self._on_membership = on_demand, on_wake, on_membership
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        """By uid and address: a pod whose node starts again has another address and is the same."""
        self._session: aiohttp.ClientSession | None = None
        self._following = False
        self.heard_us = 0
        """When the line came that is being told, 0 while none is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the activators that must report."""
        return tuple(activator.name for activator in self.expected)

    def start(self) -> None:
        """Begin to follow; before that, activators are only known."""
        self._following = True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        self._adjust()

    async def close(self) -> None:
        """Follow no longer."""
        self._following = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def expect(self, activators: tuple[Activator, ...]) -> None:
        """Take in which activators there are."""
        self.expected = activators
        if self._following:
            self._adjust()
            self._on_membership()

    def anew(self) -> None:
        """Open every stream anew, because the clock was set: what was measured and told is by the one before."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for name in list(self.views):
            self._lost(name)
        if self._following:
            self._adjust()

    def _adjust(self) -> None:
        wanted = {(activator.uid, activator.address): activator for activator in self.expected}
        for place in [place for place in self._tasks if place not in wanted]:
            self._tasks.pop(place).cancel()
        for place, activator in wanted.items():
            if place not in self._tasks:
                self._tasks[place] = asyncio.create_task(self._follow(activator), name=f"demand of {activator.name}")

    async def _follow(self, activator: Activator) -> None:
        pause = 0.1
        while True:
            began = self._clock.monotonic()
            try:
                await self._stream(activator)
            except StreamBroken as error:
                log.warning("demand stream down", extra={"activator": activator.name, "error": str(error)})
            finally:
                self._lost(activator.name)
            pause = 0.1 if self._clock.monotonic() - began > 5 else min(2.0, pause * 2)
            await asyncio.sleep(pause)

    def _lost(self, name: str) -> None:
        view = self.views.pop(name, None)
        for endpoint in view.endpoints() if view is not None else ():
            self._heard(endpoint)

    def _heard(self, endpoint: str) -> None:
        try:
            self._on_demand(endpoint)
        except Exception:
            # A bug with one endpoint must not stop the others, nor keep all of them awake for want of a stream.
            log.exception("demand not taken in", extra={"key": endpoint})

    async def _stream(self, activator: Activator) -> None:
        assert self._session is not None
        url = f"http://{host_of(activator.address)}:{self._port}/internal/demand"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=STALL)
        headers = {"Authorization": f"Bearer {token}"} if (token := self._token()) else {}
        try:
            async with self._session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise StreamBroken(f"answered {response.status}: {(await response.text())[:200]}")
                await self._read(activator, response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise StreamBroken(f"{type(error).__name__}: {error}") from error

    async def _read(self, activator: Activator, response: aiohttp.ClientResponse) -> None:
        view, rest = View(), b""
        while chunk := await response.content.readany():
            arrived_us = self._clock.now_us()
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE:
                raise StreamBroken("a line is too long")
            for line in filter(None, lines):
                self._take(activator, view, line, arrived_us)
                # Of a burst, the first one's wake is written before the last one is heard.
                await asyncio.sleep(0)
        raise StreamBroken("ended")

    def _take(self, activator: Activator, view: View, line: bytes, arrived_us: int) -> None:
        try:
            message: Message | None = decode(line)
        except InvalidMessage as error:
            raise StreamBroken(str(error)) from error
        if message is None:
            return
        view.apply(message, arrived_us)
        self.heard_us = arrived_us
        try:
            self._tell(activator, view, message)
        finally:
            self.heard_us = 0

    def _tell(self, activator: Activator, view: View, message: Message) -> None:
        match message:
            case Snapshot():
                log.info("demand stream up", extra={"activator": activator.name})
                self.views[activator.name] = view
                for demand in message.demands:
                    self._heard(demand.endpoint)
                self._on_membership()
            case Delta():
                self._heard(message.demand.endpoint)
            case Wake():
                self._woke(view, message)

    def _woke(self, view: View, wake: Wake) -> None:
        try:
            self._on_wake(view, wake)
        except Exception:
            log.exception("wake not taken in", extra={"key": wake.endpoint})
