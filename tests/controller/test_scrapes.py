"""Engines that are asked for their load, over real sockets: who answers counts, and who does not stops nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.controller.test_process import operator
from tests.loopback import served
from tests.reconcile.helpers import NOW, pod_object, raw
from zerotide.controller.failures import EngineSilent
from zerotide.controller.rounds import AT_ONCE, OPEN, SOON, in_turn, rounds
from zerotide.controller.scrapes import MOST, STALE, Engine, Scrapes, _read
from zerotide.kube import Change

VLLM = '# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name="m"} 3.0\n'


TGI = b"tgi_queue_size 4\ntgi_batch_current_max_tokens 30\n"


class Engines:
    """Pages by path, on a port of their own; one that never answers, and one that answers somewhere else."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.base = ""

    async def page(self, request: web.Request) -> web.Response:
        """Answer with a page, 404 without one."""
        self.asked.append(request.path)
        if request.path.startswith("/never"):
            await asyncio.sleep(60)
        if request.path == "/elsewhere":
            raise web.HTTPFound("/a")
        found = self.pages.get(request.path)
        return web.Response(body=found, status=200 if found is not None else 404)

    def engine(self, path: str, key: str = "demo/a") -> Engine:
        """Return one that is to be asked."""
        return Engine(key, path, f"{self.base}{path}")


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    """Serve pages."""
    made = Engines()
    app = web.Application()
    app.router.add_get("/{any:.*}", made.page)
    async with served(app) as made.base:
        yield made


async def test_what_engines_say_is_summed_and_the_silent_are_left_out(engines: Engines) -> None:
    """One that is gone, one that hangs, one without such a metric, one that leads elsewhere: none stops the others."""
    engines.pages = {
        "/a": VLLM.encode(),
        "/b": TGI,
        "/none": b"up 1\n",
        "/big": b"x" * (MOST + 1),
    }
    asked = [engines.engine(f"/{name}") for name in ("a", "b", "none", "big", "gone", "never", "elsewhere")]
    asked.append(Engine("demo/a", "dead", "http://127.0.0.1:1/metrics"))
    asked.append(engines.engine("/b", "demo/b"))
    changed: list[str] = []
    scrapes = Scrapes(lambda: asked, changed.append)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=4)) as session:
        await scrapes.round(session)
        assert [scrapes.said(f"demo/{name}").waiting for name in "abc"] == [7, 4, 0]
        assert [scrapes.said(f"demo/{name}").tokens for name in "abc"] == [30, 30, 0]
        assert sorted(changed) == ["demo/a", "demo/b"]
        del asked[5]
        await scrapes.round(session)
        assert len(changed) == 2, "nothing new"
        with pytest.raises(EngineSilent, match="no metric"):
            await _read(session, f"{engines.base}/none", asyncio.Semaphore())
        with pytest.raises(EngineSilent, match="no metric"):
            await _read(session, f"{engines.base}/elsewhere", asyncio.Semaphore())
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
        with pytest.raises(EngineSilent, match="Timeout"):
            await _read(session, f"{engines.base}/never", asyncio.Semaphore())


async def test_many_that_hang_keep_nobody_from_being_asked(engines: Engines) -> None:
    """Patience with one begins with its turn, and whoever was silent is asked last."""
    engines.pages["/a"] = VLLM.encode()
    asked = [engines.engine(f"/never{number}", "demo/b") for number in range(2 * AT_ONCE)]
    asked.append(engines.engine("/a"))
    told = asyncio.Event()
    scrapes = Scrapes(lambda: asked, lambda key: told.set())
    task = asyncio.create_task(rounds(scrapes.round, every=0.01, patience=0.2))
    async with asyncio.timeout(20):
        await told.wait()
        assert scrapes.said("demo/a").waiting == 3
        engines.pages["/a"] = TGI
        told.clear()
        await told.wait()
        assert scrapes.said("demo/a").waiting == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    patient = aiohttp.ClientTimeout(total=0.2)
    async with aiohttp.ClientSession(timeout=patient, connector=aiohttp.TCPConnector(limit=0)) as session:
        engines.asked.clear()
        await scrapes.round(session)
    assert "/a" in engines.asked[:AT_ONCE]


async def test_many_that_begin_to_hang_delay_nobody(engines: Engines) -> None:
    """Nobody knows yet that they are silent, and they were asked longest ago: the others' turn comes all the same."""
    engines.pages["/a"] = VLLM.encode()
    asked = [engines.engine(f"/never{number}", f"demo/{number}") for number in range(6 * AT_ONCE)]
    asked.append(engines.engine("/a"))
    scrapes = Scrapes(lambda: asked, lambda key: None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        task = asyncio.create_task(scrapes.round(session))
        while "/a" not in engines.asked and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "/a" in engines.asked, "in the same round"


async def test_no_more_are_waited_for_than_that() -> None:
    """However many hang, and for however long."""
    present = most = 0

    async def ask(number: int) -> int:
        nonlocal present, most
        present += 1
        most = max(most, present)
        await asyncio.sleep(60)
        return number

    task = asyncio.create_task(in_turn(range(3 * OPEN), ask))
    while most < OPEN:
        await asyncio.sleep(0.01)
    await asyncio.sleep(3 * SOON)
    assert most == OPEN
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_round_ends_although_many_hang() -> None:
    """Whose turn does not come by then is left out."""
    order: list[int] = []

    async def ask(number: int) -> int:
        order.append(number)
        await asyncio.sleep(60 if number % 2 else 0)
        return number

    assert await in_turn([0, 2, 4], ask) == [(0, 0), (2, 2), (4, 4)]
    assert await in_turn([0, 1, 2], ask, within=0.05) == [(0, 0), (2, 2)]
    assert await in_turn([], ask, within=0.05) == []
    order.clear()
    assert await in_turn(range(1, 99, 2), ask, within=0.05) == []
    assert len(order) == AT_ONCE


async def test_an_answer_counts_for_a_while_and_no_longer(engines: Engines) -> None:
    """Who is too busy to answer has a queue still; one that sleeps is not asked, and has none."""
    now = [0.0]
    engines.pages["/a"] = VLLM.encode()
    asked = [engines.engine("/a")]
    changed: list[str] = []
    scrapes = Scrapes(lambda: asked, changed.append, clock=lambda: now[0])
    async with aiohttp.ClientSession() as session:
        await scrapes.round(session)
        del engines.pages["/a"]
        now[0] = STALE
        await scrapes.round(session)
        assert scrapes.said("demo/a").waiting == 3 and changed == ["demo/a"]
        now[0] = STALE + 1
        assert scrapes.said("demo/a").waiting == 0
        await scrapes.round(session)
        assert changed == ["demo/a", "demo/a"]
        engines.pages["/a"] = VLLM.encode()
        await scrapes.round(session)
        assert scrapes.said("demo/a").waiting == 3
        asked.clear()
        await scrapes.round(session)
        assert scrapes.said("demo/a").waiting == 0 and changed == ["demo/a"] * 4
        scrapes.forget("demo/a")


async def test_only_replicas_that_serve_are_asked_where_the_spec_says_so() -> None:
    """At the port of the endpoint; a sleeping one has nobody to ask."""
    made = operator()
    queue = {"scaling": {"maxReplicas": 3, "engineQueue": {"target": 2}}, "runtime": {"port": 9000}}
    awake = {"desiredReplicas": 1}
    tokens = {"scaling": {"maxReplicas": 3, "tokensInFlight": {"target": 2000}}}
    for name, spec, status in (("a", queue, awake), ("b", queue, None), ("c", {}, awake), ("d", tokens, awake)):
        made.on_event("ADDED", raw(spec, name=name, uid=name, status=status))
        for number, serves in enumerate((True, False)):
            pod = pod_object(f"{name}-{number}", ready=serves, labels={"zerotide.dev/endpoint": name})
            pod["status"]["podIP"] = "10.0.0.7"
            made.watches.pods.take(Change("set", pod), NOW)
    assert [(engine.key, engine.url) for engine in made._engines()] == [
        ("demo/a", "http://10.0.0.7:9000/metrics"),
        ("demo/d", "http://10.0.0.7:8000/metrics"),
    ]
