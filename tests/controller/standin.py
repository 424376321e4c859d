"""A stand-in for an activator's demand stream, told what to say by lines of JSON on its standard input.

    {"endpoint": "ns/name", "uid": "…", "held": 1, "inFlight": 0, "touch": true}   its demand; an arrival or end now
    {"wake": {…}}      a finished wake, as on the wire; the newest of an endpoint is told to later streams, too
    {"mute": true}     send no reports from now on
    {"drop": true}     close every stream once

It serves `GET /internal/demand` as the seams say, so what holds for it must hold for the real one: see the contract.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from zerotide.api.demand import Delta, Demand, Report, Snapshot, Wake
from zerotide.kube import Clock

REPORT = 0.5


class StandIn:
    """One activator, as far as its demand goes."""

    def __init__(self, name: str, token: str = "") -> None:
        self.name, self.token, self.clock = name, token, Clock()
        self.started_us = self.clock.now_us()
        self.demands: dict[str, Demand] = {}
        self.wakes: dict[str, bytes] = {}
        self.muted = False
        self._streams: set[asyncio.Queue[bytes | None]] = set()

    def tell(self, command: dict[str, Any]) -> None:
        """Do what one line says."""
        if "wake" in command:
            wake = Wake.model_validate({"atUs": self.clock.now_us(), **command["wake"]})
            self.wakes[wake.endpoint] = wake.encode()
            self._send(self.wakes[wake.endpoint])
        elif "mute" in command:
            self.muted = bool(command["mute"])
        elif "drop" in command:
            for stream in self._streams:
                stream.put_nowait(None)
        else:
            self._demand(command)

    def _demand(self, command: dict[str, Any]) -> None:
        endpoint, now = command["endpoint"], self.clock.now_us()
        before = self.demands.get(endpoint)
        touched = bool(command.get("touch", True))
        demand = Demand(
            endpoint=endpoint,
            uid=command["uid"],
            held=command.get("held", 0),
            in_flight=command.get("inFlight", 0),
            arrivals=(before.arrivals if before else 0) + touched,
            last_activity_us=now if touched else (before.last_activity_us if before else 0),
        )
        self.demands[endpoint] = demand
        self._send(Delta(at_us=now, demand=demand).encode())

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Serve one stream."""
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise web.HTTPUnauthorized
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(lines)
        snapshot = Snapshot(
            activator=self.name,
            started_at_us=self.started_us,
            at_us=self.clock.now_us(),
            demands=tuple(self.demands.values()),
        )
        try:
            await response.write(b"".join((snapshot.encode(), *self.wakes.values())))
            await self._say(response, lines)
        finally:
            self._streams.discard(lines)
        return response

    async def _say(self, response: web.StreamResponse, lines: asyncio.Queue[bytes | None]) -> None:
        loop = asyncio.get_running_loop()
        report_at = loop.time() + REPORT
        while True:
            try:
                async with asyncio.timeout_at(report_at):
                    line = await lines.get()
            except TimeoutError:
                report_at = loop.time() + REPORT
                line = b"" if self.muted else Report(at_us=self.clock.now_us()).encode()
            if line is None:
                return
            await response.write(line)

    def _send(self, line: bytes) -> None:
        for stream in self._streams:
            stream.put_nowait(line)

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application()
        app.router.add_get("/internal/demand", self.stream)
        return app


async def serve(address: str, port: int, name: str, started_ago: float) -> None:
    """Serve until standard input ends."""
    stand_in = StandIn(name)
    stand_in.started_us -= int(started_ago * 1e6)
    runner = web.AppRunner(stand_in.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        stand_in.tell(json.loads(line))
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--started-ago", type=float, default=3600.0)
    given = parser.parse_args()
    asyncio.run(serve(given.address, given.port, given.name, given.started_ago))
