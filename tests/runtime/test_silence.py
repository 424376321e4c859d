"""Streams in which nothing comes for long: comments keep real clients from giving up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from zerotide_runtime.codec import Codec
from zerotide_runtime.server import openai_answer, sse, tgi_answer
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.message import Request, Response, StreamResponse, json_response
from zerotide_runtime.server.openai_choice import ChatChoice
from zerotide_runtime.server.openai_params import read_chat_options
from zerotide_runtime.server.service import PING_SECONDS, Loaded
from zerotide_runtime.server.telemetry import Telemetry
from zerotide_runtime.server.tgi_params import read_parameters
from zerotide_runtime.startup import Startup

from .test_generation import END, Stand, token
from .test_wire import start, stop

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1.0  # of the clients, in seconds
SILENCE = 2.5
TGI_CLIENT = """
import json, sys
from text_generation import Client
print(json.dumps([r.token.text for r in Client(sys.argv[1], timeout=1).generate_stream("x", max_new_tokens=2)]))
"""


def tgi_stream(stand: Stand, telemetry: Telemetry) -> AsyncIterator[bytes]:
    parameters = read_parameters({"inputs": "x"}, stream=True, full_text=False, random_seed=lambda: 0)
    model = cast(Loaded, type("Model", (), {"assets": type("Assets", (), {"codec": None})}))
    return tgi_answer.Answer(parameters, model, 1, stand.generation(), Account(telemetry)).stream()


def openai_stream(stand: Stand, telemetry: Telemetry) -> AsyncIterator[bytes]:
    options = read_chat_options({"model": "m", "stream": True}, 1, lambda: 0)
    choice = ChatChoice(cast(Codec, None), options, None)
    account = Account(telemetry)
    return openai_answer.Answer(openai_answer.CHAT, options, stand.generation(), account, lambda _: choice).stream()


Make = Callable[[Stand, Telemetry], AsyncIterator[bytes]]


@pytest.fixture(autouse=True)
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PING_SECONDS == 15.0, "as often as TGI"
    for module in (tgi_answer, openai_answer):
        monkeypatch.setattr(module, "PING_SECONDS", PATIENCE / 5)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Startup(), lambda: (0, 0))


@asynccontextmanager
async def serving(make: Make, telemetry: Telemetry) -> AsyncIterator[str]:
    """Serve streams that say one token, nothing for a while, and another token."""

    async def handler(request: Request) -> Response | StreamResponse:
        if request.method == "GET":
            return json_response(200, {})
        stand = Stand()
        stream = make(stand, telemetry)
        stand.sequences[0].sink(token("A"))
        asyncio.get_running_loop().call_later(SILENCE, stand.sequences[0].sink, END)
        return StreamResponse(stream, headers=sse.HEADERS)

    server, port = await start(handler)
    yield f"http://127.0.0.1:{port}"
    await stop(server)


@pytest.mark.parametrize("make", [tgi_stream, openai_stream])
async def test_silence_is_filled_with_comments(make: Make, telemetry: Telemetry) -> None:
    stand = Stand()
    stream = make(stand, telemetry)
    assert [await anext(stream) for _ in range(2)] == [b":\n\n"] * 2
    stand.sequences[0].sink(END)
    pieces = [piece async for piece in stream]
    assert pieces[0].startswith(b"data:")
    assert b":\n\n" not in pieces


async def test_the_text_generation_client_waits(telemetry: Telemetry) -> None:
    async with serving(tgi_stream, telemetry) as url:
        command = [str(ROOT / ".venv-tgi" / "bin" / "python"), "-c", TGI_CLIENT, url]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        assert (process.returncode, json.loads(said)) == (0, ["A", "!"])


async def test_the_openai_client_waits(telemetry: Telemetry) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with serving(openai_stream, telemetry) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
        chunks = [chunk async for chunk in await client.chat.completions.create(**asked)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "A!"
        await client.close()
