"""`zerotide call` against a real HTTP server: streams, failures before and within them, exit codes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.cli.gateway import Respond, answering, serve, streaming
from zerotide.cli import chat
from zerotide.cli.call import summary
from zerotide.cli.chat import Answer
from zerotide.cli.errors import CliError, Denied, GatewayError, Missing, StartFailed, TimedOut
from zerotide.cli.main import main

COLD = {"X-Zerotide-Cold-Start": "true"}
KEY = "zt_me_secret"


def piece(text: str, **more: Any) -> bytes:
    """Return one event of a completion."""
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 8}}\n\n'
DONE = b"data: [DONE]\n\n"
ANSWER = (
    b': zerotide.phase {"state":"Waking","held":true,"elapsedMs":2}\n\n',
    b": zerotide state=Loading elapsed=5s ready-in=2s\n\n",
    b': zerotide.phase {"state":"Awake","held":false,"elapsedMs":5740}\n\n',
    piece("Par"),
    piece("is."),
    USAGE,
    DONE,
)


async def run(monkeypatch: pytest.MonkeyPatch, respond: Respond, *args: str) -> tuple[int, list[Any]]:
    """Run the command against a gateway, and return its exit code and what the gateway was asked."""
    async with serve(respond) as gateway:
        monkeypatch.setenv("ZEROTIDE_GATEWAY", gateway.url)
        monkeypatch.setenv("ZEROTIDE_API_KEY", KEY)
        monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
        code = await asyncio.to_thread(main, ["call", "smollm2", "-n", "demo", *args])
        return code, gateway.asked


async def test_a_streamed_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The text goes to stdout, the wake and what it took to stderr; no cluster is asked."""
    code, asked = await run(monkeypatch, streaming(*ANSWER, headers=COLD), "What is the capital of France?")
    out, err = capsys.readouterr()
    assert (code, out) == (0, "Paris.\n")
    assert "smollm2 wakes: Waking for 2 ms\n" in err
    assert "smollm2 wakes: Loading for 5s, ready in about 2s" in err
    assert "cold start, held for 5740 ms" in err and "31 + 8 tokens" in err
    path, headers, body = asked[0]
    assert path == "/endpoints/demo/smollm2/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Zerotide-Events"] == "phases"
    assert body == {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each reaches the request in the protocol's words."""
    options = ["--system", "Be brief", "--max-tokens", "5", "--temperature", "0.5", "--wait", "0", "--key", "zt_other"]
    whole = {"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 1}}
    code, asked = await run(
        monkeypatch, answering(200, whole), "Hello", "--no-stream", "--model", "m:adapter", *options
    )
    assert (code, capsys.readouterr().out) == (0, "Hi\n")
    _, headers, body = asked[0]
    assert (headers["Authorization"], headers["Prefer"]) == ("Bearer zt_other", "wait=0")
    assert "X-Zerotide-Events" not in headers
    assert body == {
        "model": "m:adapter",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "max_tokens": 5,
        "stream": False,
    }


async def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One document with the text, the times and the usage."""
    code, _ = await run(monkeypatch, streaming(*ANSWER, headers=COLD), "Hello", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert (code, answer["text"], answer["usage"]["completion_tokens"], answer["cold"]) == (0, "Paris.", 8, "true")


def openai(code: str, message: str = "no") -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": message, "type": "t", "param": None, "code": code}}


FAILURES: list[tuple[int, str, type[CliError], str]] = [
    (401, "invalid_api_key", Denied, "zerotide key create"),
    (403, "forbidden", Denied, "zerotide key list"),
    (402, "budget_exhausted", Denied, "budget_exhausted"),
    (404, "endpoint_not_found", Missing, "endpoint_not_found"),
    (429, "queue_full", GatewayError, "hold.maxRequests"),
    (503, "hold_timeout", TimedOut, "coldTimeout"),
    (503, "unschedulable", TimedOut, "zerotide get"),
    (504, "upstream_timeout", TimedOut, "upstream_timeout"),
    (500, "image_pull_failed", StartFailed, "zerotide logs"),
    (500, "suspended", StartFailed, "zerotide resume"),
    (503, "start_backoff", StartFailed, "zerotide get"),
    (502, "upstream_lost", GatewayError, "upstream_lost"),
]


@pytest.mark.parametrize(("status", "code", "kind", "advice"), FAILURES)
def test_each_failure_has_its_exit_code_and_advice(status: int, code: str, kind: type[CliError], advice: str) -> None:
    """By the code, in either protocol's shape."""
    error = chat.failure(status, openai(code))
    assert type(error) is kind and advice in str(error) and str(error).startswith("no (")
    assert type(chat.failure(status, {"error": "no", "error_type": code}, code)) is kind


def test_an_error_that_is_none_of_ours() -> None:
    """A proxy's page is quoted, not swallowed."""
    assert "<html>Bad Gateway" in str(chat.failure(502, "<html>Bad Gateway</html>"))
    assert str(chat.failure(500, "")) == "HTTP 500 (500)"


async def test_an_error_before_the_stream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stdout, the reason on stderr, the exit code of a failed start."""
    refuse = answering(500, openai("out_of_memory", "the runtime needs more memory."), X_Zerotide_Error="out_of_memory")
    code, _ = await run(monkeypatch, refuse, "Hello")
    out, err = capsys.readouterr()
    assert (code, out) == (6, "")
    assert err.startswith("zerotide: the runtime needs more memory (out_of_memory)")


async def test_an_error_within_the_stream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After a heartbeat committed status 200, the error comes in-band with its own status."""
    body = openai("hold_timeout", "no replica was ready")
    body["error"]["status"] = 503
    respond = streaming(ANSWER[0], b"data: " + json.dumps(body).encode() + b"\n\n", abort=True)
    code, _ = await run(monkeypatch, respond, "Hello")
    assert code == 5
    assert "no replica was ready (hold_timeout)" in capsys.readouterr().err


@pytest.mark.parametrize("abort", [False, True])
async def test_a_stream_that_breaks_off(
    abort: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clean end without [DONE] is no complete answer either; what came is not lost."""
    code, _ = await run(monkeypatch, streaming(piece("Par"), abort=abort), "Hello")
    out, err = capsys.readouterr()
    assert (code, out) == (1, "Par")
    assert "broke off" in err or "broken" in err


@pytest.mark.parametrize("rubbish", [b"data: {\n\n", b"data: [1]\n\n"])
async def test_a_stream_of_something_else(
    rubbish: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is quoted."""
    code, _ = await run(monkeypatch, streaming(rubbish), "Hello")
    assert code == 1
    assert "the stream holds something that is no" in capsys.readouterr().err


async def test_no_gateway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none is a usage error, one that does not answer an error."""
    monkeypatch.setenv("ZEROTIDE_GATEWAY", "127.0.0.1:80")
    assert await asyncio.to_thread(main, ["call", "m", "hi", "-n", "x"]) == 2
    assert "write one such as http://127.0.0.1:31080" in capsys.readouterr().err
    async with serve(answering(200, {})) as gateway:
        closed = gateway.url
    monkeypatch.setenv("ZEROTIDE_GATEWAY", closed)
    assert await asyncio.to_thread(main, ["call", "m", "hi", "-n", "x"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


async def test_an_empty_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is sent."""
    code, asked = await run(monkeypatch, answering(200, {}), " ")
    assert (code, asked) == (2, [])


def test_summary() -> None:
    """Warm or cold, with or without what only some answers tell."""
    warm = Answer(cold="false", queue_ms="0", first_token=0.08, total=0.5, usage={"completion_tokens": 9}, chunks=8)
    assert summary(warm) == "[warm · first token after 80 ms · done after 500 ms · 0 + 9 tokens, 19.0/s]"
    held = Answer(cold="true", first_token=21.5, total=25.3)
    assert summary(held) == "[cold start · first token after 21.5 s · done after 25.3 s]"
