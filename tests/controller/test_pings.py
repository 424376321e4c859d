"""Pings over real sockets: whose turn it is gets one, and a replica that fails stops nobody and is told of once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.controller.test_process import operator
from tests.loopback import served
from tests.reconcile.helpers import NOW, endpoint, pod_object, raw
from zerotide.api.demand import Demand, Snapshot
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND
from zerotide.controller.activators import Activator
from zerotide.controller.failures import PingFailed
from zerotide.controller.pings import Pings, Replica, _send
from zerotide.kube import Change
from zerotide.reconcile.engines.ping import ping
from zerotide.scaling.demand import View


class Server:
    """What was asked, by path; some paths answer with an error, or never."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.base = ""

    async def take(self, request: web.Request) -> web.Response:
        """Note a request, and answer."""
        self.asked.append((request.method, request.path, await request.text()))
        if request.path == "/never":
            await asyncio.sleep(60)
        return web.Response(status=500 if request.path == "/broken" else 200, text="no room")

    def replica(self, path: str, body: str = "", quiet_us: int | None = 0) -> Replica:
        """Return one that may be pinged each ten seconds."""
        return Replica(path, f"{self.base}{path}", body, 10 * SECOND, quiet_us)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Serve."""
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", made.take)
    async with served(app) as made.base:
        yield made


async def test_those_whose_turn_it_is(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Not before an interval, not while something is asked; who fails is pinged again, and told of once."""
    now, ends = [0], list[bool]()
    serving = [server.replica("/a", '{"x": 1}'), server.replica("/busy", quiet_us=None), server.replica("/broken")]
    serving += [server.replica("/b"), Replica("dead", "http://127.0.0.1:1/", "", 10 * SECOND, 0)]
    pings = Pings(lambda: serving, ends.append, lambda: now[0] * SECOND)
    async with aiohttp.ClientSession() as session:
        for seconds in (0, 9):
            now[0] = seconds
            await pings.round(session)
        assert server.asked == [] and ends == []
        with caplog.at_level(logging.WARNING):
            for seconds in (10, 15, 20):
                now[0] = seconds
                await pings.round(session)
        once = [("GET", "/b", ""), ("GET", "/broken", ""), ("POST", "/a", '{"x": 1}')]
        assert sorted(server.asked[:3]) == sorted(server.asked[3:]) == once
        assert sorted(ends) == [False] * 4 + [True] * 4
        assert [record.message for record in caplog.records] == ["ping failed"] * 2
        serving[:] = [server.replica("/b", quiet_us=15 * SECOND)]
        now[0] = 24
        await pings.round(session)
        assert len(server.asked) == 6
        now[0] = 30
        await pings.round(session)
        assert len(server.asked) == 7, "ten seconds after the last ping, longer after the last request"


async def test_why_a_ping_failed(server: Server) -> None:
    """Said with the URL, and with what the replica said."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as session:
        with pytest.raises(PingFailed, match="/broken: 500: no room"):
            await _send(session, server.replica("/broken"))
        with pytest.raises(PingFailed, match="/never: TimeoutError"):
            await _send(session, server.replica("/never"))
        with pytest.raises(PingFailed, match=r"127.0.0.1:1/: ClientConnectorError"):
            await _send(session, Replica("dead", "http://127.0.0.1:1/", "", SECOND, 0))


async def test_replicas_that_serve_are_pinged_where_the_spec_says_so() -> None:
    """With what is known of their demand: while something is in flight, or nobody knows, they are let alone."""
    made = operator()
    pinged = {"scaling": {"ping": {"interval": "1m"}}}
    for name, spec in (("a", pinged), ("b", {}), ("busy", pinged)):
        made.on_event("ADDED", raw(spec, name=name, uid=name, status={"desiredReplicas": 1}))
        for number, serves in enumerate((True, False)):
            pod = pod_object(f"{name}-{number}", ready=serves, labels={"zerotide.dev/endpoint": name})
            pod["status"]["podIP"] = "10.0.0.7"
            made.watches.pods.take(Change("set", pod), NOW)
    assert [replica.quiet_us for replica in made._pinged()] == [None, None], "no activator has told anything"
    now_us = made._clock.now_us()
    demands = tuple(
        Demand(endpoint=f"demo/{name}", uid=name, held=0, in_flight=busy, arrivals=1, last_activity_us=now_us)
        for name, busy in (("a", 0), ("busy", 1))
    )
    view = View()
    view.apply(Snapshot(activator="act", started_at_us=now_us, at_us=now_us, demands=demands), now_us)
    made.streams.views["act"] = view
    made.streams.expected = (Activator("act", "u-act", "10.0.0.9", serves=True),)
    quiet, busy = made._pinged()
    assert (quiet.url, quiet.interval_us, quiet.quiet_us) == (
        "http://10.0.0.7:8000/v1/completions",
        60 * SECOND,
        now_us,
    )
    assert busy.quiet_us is None


def made_for(**runtime: str) -> InferenceEndpoint:
    """Return an endpoint that is pinged."""
    return endpoint({"runtime": runtime, "scaling": {"ping": {"interval": "1m"}}})


def test_what_is_asked() -> None:
    """One token, as the engine wants it; what the spec says is sent as it is."""
    path, body = ping(made_for(engine="vllm"))
    assert (path, json.loads(body)) == ("/v1/completions", {"model": "a", "prompt": "a", "max_tokens": 1})
    path, body = ping(made_for(engine="tgi"))
    assert (path, json.loads(body)["parameters"]) == ("/generate", {"max_new_tokens": 1})
    own = {"interval": "1m", "path": "/v1/embeddings", "body": "{}"}
    assert ping(endpoint({"scaling": {"ping": own}})) == ("/v1/embeddings", "{}")
    assert ping(endpoint({"scaling": {"ping": {"interval": "1m", "path": "/warm"}}})) == ("/warm", "")
