"""The fake engine speaks what clients of a real one rely on."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.images.archive import HERE, compile_static


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled engine."""
    target = tmp_path_factory.mktemp("trivial") / "trivial"
    compile_static(HERE / "trivial" / "trivial.c", target)
    return target


@contextlib.contextmanager
def serving(program: Path, **settings: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the engine on a free port until it accepts connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PORT": str(port), **{name: str(value) for name, value in settings.items()}}
    process = subprocess.Popen([str(program)], env=environment)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None
        yield port, process
    finally:
        process.kill()
        process.wait()


def post(connection: http.client.HTTPConnection, path: str, body: Any, **headers: str) -> tuple[int, str, bytes]:
    """Send a request on an open connection and return status, content type and body."""
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Type"], answer.read()


def test_openai_clients_understand_it(program: Path) -> None:
    """Streamed and not, with usage in the last chunk."""
    with serving(program) as (port, _):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client:
            said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
            assert said.choices[0].message.content == "ok"
            stream = client.chat.completions.create(model="m", messages=[], stream=True)
            chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "ok" and chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 3


def test_it_tells_its_queue_where_it_has_one(program: Path) -> None:
    """As Text Generation Inference does; else the path is like any other."""
    tokens = "tgi_batch_current_max_tokens 90"
    for settings, page in (({"QUEUE": 7}, "tgi_queue_size 7"), ({"QUEUE": 7, "TOKENS": 90}, tokens), ({}, "ok")):
        with (
            serving(program, **settings) as (port, _),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as it,
        ):
            assert it.read().decode().strip().endswith(page)


def test_one_connection_serves_many_requests_of_every_framing(program: Path) -> None:
    """Keep-alive holds over chunked bodies, large bodies, and any spacing of "stream": true."""
    with serving(program) as (port, _), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        assert post(connection, "/anything", b"x" * 200_000) == (200, "text/plain", b"ok")
        own = connection.sock
        spaced = iter([b'{"stream" ', b": \n true}"])
        status, kind, events = post(connection, "/v1/chat/completions", spaced)
        assert (status, kind) == (200, "text/event-stream") and events.endswith(b"data: [DONE]\n\n")
        plain = post(connection, "/v1/chat/completions", b'{"stream": false}')
        assert plain[1] == "application/json" and json.loads(plain[2])["object"] == "chat.completion"
        assert json.loads(post(connection, "/generate", b"{}")[2]) == {"generated_text": "ok"}
        last = post(connection, "/generate_stream", b"{}")[2].strip().split(b"\n\n")[-1]
        assert json.loads(last.removeprefix(b"data: "))["generated_text"] == "ok"
        assert connection.sock is own


def test_a_slow_answer_and_a_slow_end(program: Path) -> None:
    """RESPONSE_MS delays answers; after SIGTERM an open request is served until SHUTDOWN_MS is over."""
    with (
        serving(program, RESPONSE_MS=150, SHUTDOWN_MS=600) as (port, process),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection,
    ):
        connection.connect()
        started = time.monotonic()
        assert post(connection, "/", b"")[0] == 200
        assert time.monotonic() - started >= 0.15
        process.send_signal(signal.SIGTERM)
        assert post(connection, "/", b"")[0] == 200
        assert process.wait(5) == 0
        assert time.monotonic() - started >= 0.6


def test_a_crash_is_asked_for(program: Path) -> None:
    """EXIT_CODE ends it at once."""
    assert subprocess.run([str(program)], env={**os.environ, "EXIT_CODE": "3"}).returncode == 3
