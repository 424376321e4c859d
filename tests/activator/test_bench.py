"""`zerotide bench` against a real activator: what it holds, what it refuses, and what it tells is what is counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.activator.replica import WORDS, Replica
from tests.activator.stack import Stack, until
from zerotide.cli.main import main


class Bench:
    """The command in a thread, against one activator."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("ZEROTIDE_GATEWAY", stack.url)
        monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
        self._stack, self._capsys = stack, capsys

    async def __call__(self, *args: str) -> tuple[int, Any]:
        """Return the exit code and the document."""
        line = ["bench", "m", "-n", "demo", "--key", self._stack.keys["k"], "--json", *args]
        code = await asyncio.get_running_loop().run_in_executor(None, main, line)
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def bench(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Return the command."""
    return Bench(stack, monkeypatch, capsys)


async def test_a_cold_start_is_counted_where_it_is_asked_for(stack: Stack, replica: Replica, bench: Bench) -> None:
    """Three are held until a replica is there, and told apart; those after them find it awake."""
    endpoint = stack.endpoint()
    stack.key()
    task = asyncio.create_task(bench("--no-warm-up", "--at-once", "3", "--requests", "9"))
    await until(lambda: endpoint.gate.held == 3)
    stack.pod(replica.port)
    code, told = await task
    assert (code, told["sent"], told["answered"], told["errors"], told["cold"]) == (0, 9, 9, {}, 3)
    assert told["coldFirstToken"]["count"] == 3
    assert told["coldFirstToken"]["max"] <= told["firstToken"]["max"] <= told["latency"]["max"]
    assert told["betweenPieces"]["count"] == 9 * (len(WORDS) - 1)
    assert len(replica.posts) == 9 and replica.most_in_flight <= 3


async def test_refusals_are_counted_by_their_code(stack: Stack, replica: Replica, bench: Bench) -> None:
    """Two are held, a third is one too many, and is not sent again."""
    endpoint = stack.endpoint(hold={"maxRequests": 2})
    stack.key()
    task = asyncio.create_task(bench("--no-warm-up", "--at-once", "3", "--requests", "3"))
    refused = stack.service.metrics.of("demo", "m").rejected
    await until(lambda: endpoint.gate.held == 2 and refused["queue_full"] == 1)
    stack.pod(replica.port)
    code, told = await task
    assert (code, told["answered"], told["errors"], told["cold"]) == (0, 2, {"queue_full": 1}, 2)


async def test_who_is_awake_meets_no_start(stack: Stack, replica: Replica, bench: Bench) -> None:
    """One request comes first and is not counted; so many a second are sent when they are due."""
    await stack.awake(replica)
    code, told = await bench("--rate", "500", "--requests", "20")
    assert (code, told["sent"], told["answered"], told["cold"]) == (0, 20, 20, 0)
    assert len(replica.posts) == 21 and told["coldFirstToken"] is None
