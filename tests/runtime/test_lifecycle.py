"""A server from its first millisecond to its last: early requests, health, overload, clients that leave, the end."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.runtime.process import RuntimeProcess, folder_uri
from zerotide_runtime.errors import StartError
from zerotide_runtime.identity import identity
from zerotide_runtime.serve import Process
from zerotide_runtime.settings import read_settings
from zerotide_runtime.startup import Startup

LONG = {"inputs": "a", "parameters": {"max_new_tokens": 4000}}
WAIT = 180.0


def until(server: RuntimeProcess, series: str, value: float) -> None:
    """Wait for a metric to take a value."""
    deadline = time.monotonic() + WAIT
    while (last := server.metric(series)) != value:
        assert time.monotonic() < deadline, f"{series} stays {last}, not {value}"
        time.sleep(0.01)


def open_stream(server: RuntimeProcess) -> http.client.HTTPConnection:
    """Start a long streamed generation; return its connection after the first bytes of the answer came."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    connection.request("POST", "/generate_stream", json.dumps(LONG))
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data:")
    # Kept, because the connection object itself lets go of it.
    connection.answer = response  # type: ignore[attr-defined]
    return connection


def test_early_requests_wait_and_the_stages_are_told(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), name="tiny", env={"TRACE_IMPORTS": "1"}) as server:
        server.listening()
        early: list[Any] = []
        asked = {"inputs": "a", "parameters": {"max_new_tokens": 3}}
        client = threading.Thread(target=lambda: early.append(server.call("POST", "/generate", asked)))
        client.start()
        assert server.call("GET", "/health") == (503, {"error": "unhealthy", "error_type": "healthcheck"})
        server.ready()  # reads the trace of imports, which would fill the pipe
        until_ready = server.log[: server.log.index("ready after")]  # a second later torch may come in
        client.join(WAIT)
        ((status, body),) = early
        assert (status, len(body["generated_text"]) > 0) == (200, True)
        assert server.call("GET", "/health")[0] == 200
        _, startup = server.call("GET", "/startup")
        server.terminate()
        assert server.finish() == 0
    assert startup["model"] == identity(tiny)
    milliseconds = {stage["name"]: stage["ms"] for stage in startup["stages"]}
    assert milliseconds.keys() - {"torch"} == {"listen", "import", "read", "device", "ready", "first_token"}
    assert milliseconds["listen"] < min(milliseconds["read"], milliseconds["import"])
    assert milliseconds["import"] <= milliseconds["device"]
    assert max(milliseconds["read"], milliseconds["device"]) <= milliseconds["ready"] <= milliseconds["first_token"]
    assert milliseconds["first_token"] <= milliseconds.get("torch", float("inf"))
    assert abs(time.time() * 1000 - startup["process_start_unix_ms"]) < 300_000
    imported = set(re.findall(r"\| +([\w.]+)$", until_ready, re.MULTILINE))
    assert {"numpy", "tokenizers"} <= imported
    assert not imported & {"torch", "transformers", "huggingface_hub", "fastapi", "pydantic", "aiohttp", "requests"}


def test_torch_takes_over_and_the_answers_stay(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), name="tiny") as server:
        server.ready()
        asked = {"inputs": "abc", "parameters": {"max_new_tokens": 30, "decoder_input_details": False}}
        first = server.call("POST", "/generate", asked)
        deadline = time.monotonic() + WAIT
        while "torch" not in [stage["name"] for stage in server.call("GET", "/startup")[1]["stages"]]:
            assert time.monotonic() < deadline, "torch does not take over"
            time.sleep(1.5)  # longer than the calm in which it is imported
            assert server.call("POST", "/generate", asked) == first
        assert server.metric('zerotide_runtime_start_seconds{stage="torch"}') > 0
        assert first[0] == 200


def test_a_client_that_leaves_frees_its_place(tiny_server: RuntimeProcess) -> None:
    before = tiny_server.metric("zerotide_runtime_requests_cancelled")
    connections = [open_stream(tiny_server), open_stream(tiny_server)]
    until(tiny_server, "tgi_batch_current_size", 2)
    for connection in connections:
        connection.answer.close()  # type: ignore[attr-defined]
        connection.close()
    until(tiny_server, "tgi_batch_current_size", 0)
    until(tiny_server, "zerotide_runtime_requests_cancelled", before + 2)
    assert tiny_server.metric("tgi_batch_current_size") == 0


def test_a_client_that_leaves_while_it_waits_for_the_whole_answer(tiny_server: RuntimeProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tiny_server.port, timeout=WAIT)
    connection.request("POST", "/generate", json.dumps(LONG))
    until(tiny_server, "tgi_batch_current_size", 1)
    connection.close()
    until(tiny_server, "tgi_batch_current_size", 0)
    assert tiny_server.call("POST", "/generate", {**LONG, "parameters": {"max_new_tokens": 1}})[0] == 200


def test_more_than_the_bound_is_overloaded(tiny_server: RuntimeProcess) -> None:
    connections = [open_stream(tiny_server), open_stream(tiny_server)]
    try:
        with tiny_server.send("POST", "/generate", LONG) as response:
            assert (response.status, response.headers["retry-after"]) == (429, "1")
            assert json.loads(response.read()) == {"error": "Model is overloaded", "error_type": "overloaded"}
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        status, body = tiny_server.call("POST", "/v1/chat/completions", chat)
        assert (status, body["error"]["type"], body["error"]["code"]) == (429, "rate_limit_error", "overloaded")
        assert tiny_server.metric('tgi_request_failure{err="overloaded"}') == 2
    finally:
        for connection in connections:
            connection.answer.close()  # type: ignore[attr-defined]
            connection.close()
    until(tiny_server, "tgi_batch_current_size", 0)
    assert tiny_server.call("POST", "/generate", {"inputs": "a", "parameters": {"max_new_tokens": 1}})[0] == 200


def test_the_openai_client_comes_again_when_there_is_room(tiny_server: RuntimeProcess) -> None:
    def refused() -> float:
        return tiny_server.metrics("tgi_request_failure").get('tgi_request_failure{err="overloaded"}', 0.0)

    before, deadline = refused(), time.monotonic() + WAIT
    connections = [open_stream(tiny_server), open_stream(tiny_server)]
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="none", max_retries=2) as client:
        answers: list[str] = []

        def ask() -> None:
            answers.append(client.completions.create(model="tiny", prompt="a", max_tokens=3).choices[0].finish_reason)

        asking = threading.Thread(target=ask)
        asking.start()
        while refused() == before:
            assert time.monotonic() < deadline, "nobody is refused"
            time.sleep(0.01)
        for connection in connections:
            connection.answer.close()  # type: ignore[attr-defined]
            connection.close()
        asking.join(WAIT)
    assert answers == ["length"], "after the second that Retry-After tells"


def test_sigterm_finishes_what_runs_and_takes_nothing_new(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), name="tiny") as server:
        server.ready()
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        idle.request("GET", "/ping")
        idle.getresponse().read()
        running = open_stream(server)
        server.terminate()
        assert idle.sock.recv(1) == b"", "an idle connection is closed"
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        rest = running.answer.read()  # type: ignore[attr-defined]
        last = json.loads(rest.decode().strip().rsplit("\n\n", 1)[-1].removeprefix("data:"))
        assert (last["index"], last["generated_text"] is not None) == (4000, True)
        running.close()
        assert server.finish() == 0


def test_the_grace_ends(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), "--grace", "0", name="tiny") as server:
        server.ready()
        running = open_stream(server)
        server.terminate()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            running.answer.read()  # type: ignore[attr-defined]
        running.close()
        assert server.finish() == 0


def test_sigterm_while_loading_ends_at_once(published: Path) -> None:
    with RuntimeProcess(folder_uri(published)) as server:
        server.listening()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        connection.request("POST", "/generate", json.dumps(LONG))
        # Answered only once the signal handlers are in place.
        assert server.call("GET", "/health")[0] == 503
        server.terminate()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            connection.getresponse()
        connection.close()
        assert server.finish() == 0


def test_requests_on_one_connection_are_answered_in_order(tiny_server: RuntimeProcess) -> None:
    body = json.dumps({"inputs": "a", "parameters": {"max_new_tokens": 2}}).encode()
    post = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", tiny_server.port), timeout=WAIT) as connection:
        connection.sendall(post + b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"generated_text") < answer.index(b'"ok"')


def test_bytes_that_are_no_request_are_refused(tiny_server: RuntimeProcess) -> None:
    with socket.create_connection(("127.0.0.1", tiny_server.port), timeout=WAIT) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error_type"] == "validation"


def test_the_go_ahead_is_given(tiny_server: RuntimeProcess) -> None:
    with socket.create_connection(("127.0.0.1", tiny_server.port), timeout=WAIT) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 422")


def test_an_engine_that_fails_after_the_end_is_silent(tiny: Path) -> None:
    with socket.socket() as listening:

        async def make() -> Process:
            return Process(read_settings(["--model-uri", folder_uri(tiny)], {}), Startup(), listening)

        process = asyncio.run(make())
    failing = threading.Thread(target=process.failed, args=[StartError("told by the one that ended the loop")])
    failing.start()
    failing.join(WAIT)  # what a thread raises is an error of this test
    assert process.asleep == 0
