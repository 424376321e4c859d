"""Connections between members: one WebSocket for each two, opened by the one whose name comes first, kept open.

Who calls shows a token of the activators' own ServiceAccount for the activators' audience; nobody else is let in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import aiohttp
from aiohttp import web

from zerotide.activator.admin.bearer import Review, refuse
from zerotide.activator.council.council import Council
from zerotide.activator.council.membership import Member
from zerotide.activator.council.messages import Message, decode, encode
from zerotide.activator.failures import MalformedTalk, MemberRedirects
from zerotide.api.urls import host_of
from zerotide.kube import CredentialsError

log = logging.getLogger(__name__)

PATH = "/internal/council"
MEMBER = "X-Zerotide-Member"
TICK = 0.05
BEAT = 2.0
"""Seconds between pings; a connection without an answer for half of that is given up."""
CONNECT_TIME = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
LARGEST = 64 * 1024 * 1024
_NAME = 253 + 8

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class _Link:
    """One connection."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.lines: list[bytes] = []
        self.stir = asyncio.Event()

    async def write(self) -> None:
        """Send what is said, as much at once as there is."""
        while True:
            await self.stir.wait()
            self.stir.clear()
            lines, self.lines = self.lines, []
            await self.socket.send_bytes(b"".join(lines))


class Links:
    """Talk to the other members of a council."""

    def __init__(
        self,
        council: Council,
        token: Callable[[], str],
        review: Review,
        user: str,
    ) -> None:
        self._council, self._token, self._review, self._user = council, token, review, user
        self._links: dict[str, _Link] = {}
        self._dialling: dict[Member, asyncio.Task[None]] = {}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        council.send = self.send

    async def listen(self, host: str, port: int) -> int:
        """Serve the other members and return the port."""
        app = web.Application()
        app.router.add_get(PATH, self._accept)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def run(self) -> None:
        """Keep connections to all members, and the council's time."""
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[_no_redirects()]
        )
        try:
            while True:
                self._dial()
                self._council.tick()
                await asyncio.sleep(TICK)
        finally:
            for task in self._dialling.values():
                task.cancel()
            await asyncio.gather(*self._dialling.values(), return_exceptions=True)
            await self._session.close()

    async def close(self) -> None:
        """End all connections."""
        for link in list(self._links.values()):
            with suppress(ConnectionError, asyncio.CancelledError):
                await link.socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def send(self, name: str, message: Message) -> None:
        """Say something to a member; lost with its connection."""
        link = self._links.get(name)
        if link is not None:
            link.lines.append(encode(message))
            link.stir.set()

    def _dial(self) -> None:
        wanted = {
            member for member in self._council.members.values() if member.address and member.name > self._council.me
        }
        wanted = {member._replace(leads=True, counts=True) for member in wanted}
        for member in [member for member in self._dialling if member not in wanted]:
            self._dialling.pop(member).cancel()
        for member in wanted - self._dialling.keys():
            self._dialling[member] = asyncio.get_running_loop().create_task(self._follow(member))

    async def _follow(self, member: Member) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began = loop.time()
            try:
                await self._talk_to(member)
            except (aiohttp.ClientError, TimeoutError, OSError, CredentialsError, MemberRedirects) as error:
                log.info("another activator cannot be reached", extra={"member": member.name, "error": str(error)})
            pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _talk_to(self, member: Member) -> None:
        assert self._session is not None, "members are dialled while the links run"
        headers = {"Authorization": f"Bearer {self._token()}", MEMBER: self._council.me}
        async with asyncio.timeout(CONNECT_TIME):
            socket = await self._session.ws_connect(
                f"http://{host_of(member.address)}:{member.port}{PATH}",
                headers=headers,
                heartbeat=BEAT,
                max_msg_size=LARGEST,
            )
        try:
            await self._talk(member.name, socket)
        finally:
            await socket.close()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        refusal = await refuse(request, self._review, self._user, "is no activator")
        if refusal is not None:
            return refusal
        name = request.headers.get(MEMBER, "")
        if not name or len(name) > _NAME or name == self._council.me:
            return web.Response(status=400, text=f"say who calls in {MEMBER}\n")
        socket = web.WebSocketResponse(heartbeat=BEAT, max_msg_size=LARGEST)
        await socket.prepare(request)
        await self._talk(name, socket)
        return socket

    async def _talk(self, name: str, socket: Socket) -> None:
        """Say and hear until the connection ends; a newer one takes the place of an older one."""
        old = self._links.get(name)
        link = self._links[name] = _Link(socket)
        if old is not None:
            self._council.detach(name)
        writing = asyncio.get_running_loop().create_task(link.write())
        self._council.attach(name)
        try:
            if old is not None:
                await old.socket.close()
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.BINARY or self._links.get(name) is not link:
                    break
                for line in frame.data.splitlines():
                    self._council.receive(name, decode(line))
        except MalformedTalk as error:
            log.error("another activator talks nonsense", extra={"member": name, "error": str(error)})
        finally:
            writing.cancel()
            if self._links.get(name) is link:
                del self._links[name]
                self._council.detach(name)
            await asyncio.gather(writing, return_exceptions=True)


def _no_redirects() -> aiohttp.TraceConfig:
    """Return what ends a call that is to be led elsewhere: of a WebSocket's, nothing else can be asked."""

    async def refuse_redirect(_: object, __: object, params: aiohttp.TraceRequestRedirectParams) -> None:
        raise MemberRedirects(f"{params.url} answered {params.response.status}, and no redirect is followed")

    config: aiohttp.TraceConfig = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse_redirect)
    return config
