"""`zerotide bench` against a real HTTP server: what is sent, what is counted, what it says. No cluster."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.cli.gateway import Respond, answering, serve, streaming
from tests.cli.test_call import ANSWER, COLD, openai, piece
from tests.loopback import served
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


class Api:
    """An API server on loopback that has one endpoint, awake until it is asked to sleep, and an exporter behind it."""

    def __init__(self, answers: int) -> None:
        self.answers, self.asked, self.slept = answers, 0, False

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application()
        where = "/apis/zerotide.dev/v1alpha1/namespaces/demo/inferenceendpoints/smollm2"
        app.router.add_get(where, self.get)
        app.router.add_patch(where, self.sleep)
        proxied = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1/cost"
        app.router.add_get(proxied, self.cost)
        return app

    def endpoint(self, version: str) -> dict[str, Any]:
        """Return the endpoint as it is now."""
        status = {"state": "Asleep" if self.slept else "Awake", "replicas": 0 if self.slept else 1}
        metadata = {"name": "smollm2", "namespace": "demo", "uid": "u", "generation": 1, "resourceVersion": version}
        return {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "InferenceEndpoint",
            "metadata": metadata,
            "spec": {"model": {"uri": "image:///m"}},
            "status": {**status, "observedGeneration": 1},
        }

    async def get(self, request: web.Request) -> web.Response:
        """Answer a read."""
        return web.json_response(self.endpoint("3" if self.slept else "1"))

    async def sleep(self, request: web.Request) -> web.Response:
        """Take the wish; it is fulfilled at the next read."""
        wishes = (await request.json())["metadata"]["annotations"]
        answer = web.json_response(self.endpoint("2"))
        self.slept = list(wishes) == ["zerotide.dev/sleep-requested-at"]
        return answer

    async def cost(self, request: web.Request) -> web.Response:
        """Answer with a bill that has heard of all answers from its second time on."""
        assert request.headers["X-Zerotide-Token"] == "me" and request.query["endpoint"] == "smollm2"
        self.asked += 1
        tokens = {"input": 1, "cachedInput": 0, "output": 1, "amount": "0", "requests": self.answers * (self.asked > 1)}
        one = {"namespace": "demo", "endpoint": "smollm2", "accelerator": "", "units": 0, "replicas": 1, "phases": []}
        one |= {"tokens": tokens, "consumers": [], "wakes": [], "total": "0.25", "alwaysOn": "1"}
        one["perMillionTokens"] = "1.5"
        sums = {"total": "0.25", "alwaysOn": "1", "currency": "USD", "fromUs": 0, "toUs": 1, "asOfUs": 1}
        return web.json_response({**sums, "endpoints": [one]})


async def test_a_cold_start_and_the_bill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is put to sleep, no request comes before, and the bill is waited for until it knows of each answer."""
    api = Api(answers=2)
    async with served(api.app()) as server, serve(streaming(*ANSWER, headers=COLD)) as gateway:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "me"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "demo"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setenv("ZEROTIDE_GATEWAY", gateway.url)
        line = ["bench", "smollm2", "--cold", "--at-once", "1", "--requests", "2"]
        assert await asyncio.to_thread(main, line) == 0
        out, err = capsys.readouterr()
        assert api.slept and len(gateway.asked) == 2 and out.startswith("TIME")
        assert err.startswith("smollm2 is put to sleep …\n2 requests in ")
        assert "The endpoint cost 0.250000 USD in that time, 1.50 for a million tokens, whatever" in err
        assert api.asked == 3, "once too early, once for all answers, and once more for what came meanwhile"
        assert await asyncio.to_thread(main, [*line, "--json"]) == 0
        out, err = capsys.readouterr()
        assert "put to sleep" not in err, "it sleeps already"
        assert json.loads(out)["cost"] == {"currency": "USD", "total": "0.25", "perMillionTokens": "1.5"}


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
