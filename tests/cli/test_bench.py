"""`zerotide bench` against a real HTTP server: what is sent, what is counted, what it says. No cluster."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from tests.cli.gateway import Respond, answering, serve, streaming
from tests.cli.test_call import ANSWER, COLD, openai, piece
from zerotide.cli.main import main


async def run(monkeypatch: pytest.MonkeyPatch, respond: Respond, *args: str) -> tuple[int, list[Any]]:
    """Run the command against a gateway, and return its exit code and what the gateway was asked."""
    async with serve(respond) as gateway:
        monkeypatch.setenv("ZEROTIDE_GATEWAY", gateway.url)
        monkeypatch.setenv("ZEROTIDE_API_KEY", "zt_me_secret")
        monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
        code = await asyncio.to_thread(main, ["bench", "smollm2", "-n", "demo", *args])
        return code, gateway.asked


async def test_requests_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One comes first and is not; each asks something else, streamed, with its usage; the table has each time."""
    code, asked = await run(monkeypatch, streaming(*ANSWER, headers=COLD), "--at-once", "2", "--requests", "6")
    out, err = capsys.readouterr()
    assert code == 0 and len(asked) == 7
    path, headers, body = asked[1]
    assert path == "/endpoints/demo/smollm2/v1/chat/completions" and headers["Authorization"] == "Bearer zt_me_secret"
    assert (body["model"], body["max_tokens"], body["stream"]) == ("smollm2", 64, True)
    assert body["stream_options"] == {"include_usage": True}
    assert len({str(each["messages"]) for _, _, each in asked}) == 7
    lines = out.splitlines()
    assert lines[0].split() == ["TIME", "MEAN", "P50", "P90", "P99", "MAX"]
    names = [line.split("  ")[0] for line in lines[1:]]
    assert names == ["to the first token", "between pieces", "for each further token", "to the end"]
    assert err.startswith("One request came first and woke it: first token after ")
    assert "6 requests in " in err and ", 2 at once: 6 answered." in err
    assert "186 tokens in, 48 out: " in err and "6 of them came before a replica served" in err
    assert "What it cost is not known: " in err and "/nonexistent/kubeconfig" in err


async def test_json_with_errors_by_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Refusals, streams that break off, and answers, each counted once; exit 0 as something was answered."""
    turn = iter(range(100))

    async def respond(request: web.Request) -> web.StreamResponse:
        number = next(turn) % 3
        if number == 0:
            return await streaming(*ANSWER)(request)
        if number == 1:
            return await answering(429, openai("queue_full"))(request)
        return await streaming(piece("Par"))(request)

    code, _ = await run(monkeypatch, respond, "--no-warm-up", "--at-once", "3", "--requests", "9", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (code, told["sent"], told["answered"]) == (0, 9, 3)
    assert told["errors"] == {"broken": 3, "queue_full": 3}
    assert (told["inputTokens"], told["outputTokens"], told["cost"]) == (93, 24, None)
    assert told["firstToken"]["count"] == 3 and told["betweenPieces"]["count"] == 3
    assert told["firstToken"]["p50"] <= told["latency"]["p50"]


async def test_nothing_is_answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, the codes, and no table; a failure of the first request ends it with that failure's own exit code."""
    refuse = answering(503, openai("hold_timeout"))
    code, asked = await run(monkeypatch, refuse, "--no-warm-up", "--requests", "2", "--at-once", "1")
    out, err = capsys.readouterr()
    assert (code, out, len(asked)) == (1, "", 2) and ": 0 answered, and 2 hold_timeout." in err
    code, asked = await run(monkeypatch, answering(401, openai("invalid_api_key")), "--requests", "2")
    assert (code, len(asked)) == (4, 1)


async def test_so_many_a_second_with_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The rate is said; a made-up message has as many words, a given one is the same each time."""
    options = ["--rate", "200", "--requests", "5", "--no-warm-up"]
    code, asked = await run(monkeypatch, streaming(*ANSWER), *options, "--words", "40", "--max-tokens", "5")
    messages = [body["messages"][0]["content"] for _, _, body in asked]
    assert code == 0 and {len(message.split()) for message in messages} == {41} and len(set(messages)) == 5
    assert ", 200 a second asked for: 5 answered." in capsys.readouterr().err
    _, asked = await run(monkeypatch, streaming(*ANSWER), *options, "--prompt", "Hello", "--model", "m:adapter")
    assert {(body["model"], body["messages"][0]["content"]) for _, _, body in asked} == {("m:adapter", "Hello")}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--duration", "0s"], "--duration must be longer than 0s"),
        (["--prompt", "a", "--words", "3"], "--prompt and --words exclude each other"),
    ],
)
def test_what_cannot_be_sent(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, before anything is asked."""
    assert main(["bench", "m", *line]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--rate", "0"), ("--at-once", "0"), ("--duration", "soon")])
def test_options_that_cannot_be(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error of the parser."""
    with pytest.raises(SystemExit) as usage:
        main(["bench", "m", *option])
    assert usage.value.code == 2 and option[0] in capsys.readouterr().err
