"""What kopf need not hear: echoes of statuses whose answers were taken in. Everything else, it hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import aiohttp
import kopf
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.rig import Rig, trivial
from tests.reconcile.helpers import NOW, raw
from zerotide.api.names import API_VERSION, GROUP, KIND_ENDPOINT, PLURAL_ENDPOINTS, VERSION
from zerotide.controller.cache import ECHOES, Endpoints
from zerotide.controller.echoes import News, session
from zerotide.controller.handlers import registry
from zerotide.controller.settings import settings
from zerotide.kube import Credentials, load_credentials
from zerotide.kube.resources import INFERENCE_ENDPOINTS

LIST = f"/apis/{GROUP}/{VERSION}/{PLURAL_ENDPOINTS}"


def line(type_: str, version: str, note: str = "") -> bytes:
    """Return an event as the API server writes it."""
    obj = raw(resourceVersion=version, annotations={"note": note})
    return json.dumps({"type": type_, "object": obj}, separators=(",", ":")).encode() + b"\n"


class Chunks:
    """A body that comes in such pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield them."""
        for piece in self._pieces:
            yield piece


async def heard(pieces: list[bytes], known: Callable[[int], bool]) -> bytes:
    """Return what is left of a watch."""
    news = News(cast(aiohttp.StreamReader, Chunks(pieces)), known)
    return b"".join([chunk async for chunk in news.iter_chunked(1 << 20)])


EVENTS = st.lists(
    st.tuples(st.sampled_from(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")), st.integers(1, 9), st.text()),
    max_size=8,
)


@given(EVENTS, st.sets(st.integers(1, 9)), st.lists(st.integers(0, 4_000), max_size=12), st.booleans())
async def test_only_changes_of_known_versions_are_left_out(
    events: list[tuple[str, int, str]], known: set[int], cuts: list[int], torn: bool
) -> None:
    """However the stream is cut, and whether or not it ends within a line, all else arrives as it was sent."""
    lines = [line(type_, str(version), note) for type_, version, note in events]
    kept = [text for text, event in zip(lines, events, strict=True) if event[0] != "MODIFIED" or event[1] not in known]
    rest = line("ADDED", "5")[:40] if torn else b""
    body, places = b"".join(lines) + rest, sorted(cuts)
    pieces = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    assert await heard(pieces, known.__contains__) == b"".join(kept) + rest


@given(st.text())
async def test_what_people_write_is_no_version(note: str) -> None:
    """A value that looks like a version is within a string, whose quotes are escaped."""
    told = line("MODIFIED", "7", f'"resourceVersion":"3"{note}')
    assert await heard([told], lambda version: version == 3) == told


def test_an_answer_is_known_for_as_long_as_its_echo_may_take() -> None:
    """Of thousands of them the oldest go; what came by a watch is none."""
    cache = Endpoints()
    assert cache.put(raw(resourceVersion="1"), NOW) and not cache.is_echo(1)
    assert cache.answered(raw(resourceVersion="2"), NOW) and cache.is_echo(2)
    assert not cache.answered(raw(resourceVersion="1"), NOW)
    for number in range(3, ECHOES + 3):
        cache.answered(raw(resourceVersion=str(number)), NOW)
    assert not cache.is_echo(2) and cache.is_echo(3)


class Api:
    """As much of an API server as kopf asks for: it lists one endpoint, and a watch sends what it is told to."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(application)

    def send(self, *lines: bytes) -> None:
        """Let the watch tell."""
        for each in lines:
            self._lines.put_nowait(each)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization"))
        if request.path == LIST and request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(await self._lines.get())
        return web.json_response(self._of(request.path))

    def _of(self, path: str) -> dict[str, Any]:
        if path == LIST:
            return {"metadata": {"resourceVersion": "10"}, "items": [raw(resourceVersion="10")]}
        if path == f"/apis/{GROUP}/{VERSION}":
            names = {"name": PLURAL_ENDPOINTS, "singularName": "inferenceendpoint", "kind": KIND_ENDPOINT}
            return {"resources": [{**names, "namespaced": True, "verbs": ["list", "watch", "get", "patch"]}]}
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/api/v1":
            names = {"name": "namespaces", "singularName": "namespace", "kind": "Namespace"}
            return {"resources": [{**names, "namespaced": False, "verbs": []}]}
        if path == "/apis":
            version = {"groupVersion": API_VERSION, "version": VERSION}
            return {"groups": [{"name": GROUP, "versions": [version], "preferredVersion": version}]}
        raise web.HTTPNotFound


async def test_kopf_hears_of_all_but_echoes() -> None:
    """kopf itself, over its own watch, with the session that is made for it."""
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    api = Api()
    await api.server.start_server()
    credentials = Credentials(str(api.server.make_url("")).rstrip("/"), None, lambda: "secret")
    handlers = registry(
        lambda type_, obj: told.put_nowait((type_, obj["metadata"]["resourceVersion"])),
        credentials,
        lambda version: version in (11, 13),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(
        kopf.operator(registry=handlers, settings=settings(), clusterwide=True, standalone=True, stop_flag=stop)
    )
    try:
        async with asyncio.timeout(30):
            assert await told.get() == ("", "10")
            api.send(line("MODIFIED", "11"), line("MODIFIED", "12"), line("MODIFIED", "13") + line("DELETED", "13"))
            assert [await told.get() for _ in range(2)] == [("MODIFIED", "12"), ("DELETED", "13")]
    finally:
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await api.server.close()
    assert set(api.tokens) == {"Bearer secret"}


async def test_a_refusal_is_read_as_it_is() -> None:
    """A watch that is refused has a body like any other answer."""

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": 410}, status=410)

    application = web.Application()
    application.router.add_get("/", refuse)
    server = TestServer(application)
    await server.start_server()
    try:
        made = session(Credentials("", None), lambda version: True)
        async with made, made.get(server.make_url("/?watch=true")) as response:
            assert response.status == 410 and (await response.json())["code"] == 410
    finally:
        await server.close()


async def test_the_api_server_writes_events_as_they_are_read_here(rig: Rig) -> None:
    """Contract: of a real watch all changes are found by their versions, and nothing else is asked about."""
    namespace, asked = await rig.namespace(), set[int]()
    left: list[str] = []

    def known(version: int) -> bool:
        asked.add(version)
        return True

    credentials = await load_credentials()
    url = credentials.server + INFERENCE_ENDPOINTS.path(namespace)
    since = (await rig.client.list(INFERENCE_ENDPOINTS, namespace)).resource_version

    async def read(made: aiohttp.ClientSession) -> None:
        # The server ends the watches of a kind that was defined a moment ago.
        while True:
            async with made.get(url, params={"watch": "true", "resourceVersion": since}) as response:
                async for chunk in response.content.iter_chunked(1 << 20):
                    left.extend(json.loads(each)["type"] for each in chunk.splitlines())

    async with session(credentials, known) as made:
        reading = asyncio.create_task(read(made))
        await rig.apply(namespace, "a", trivial())
        await rig.state(namespace, "a", "Asleep", timeout=60)
        obj = await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace)
        async with asyncio.timeout(30):
            while int(obj["metadata"]["resourceVersion"]) not in asked:
                await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert set(left) == {"ADDED"}
