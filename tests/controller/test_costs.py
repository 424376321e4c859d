"""What the operator makes of the exporter's answers, and of none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from zerotide.api.cost import Spending, Spendings
from zerotide.controller.costs import Costs

COST = {"currency": "USD", "month": "2026-11", "monthToDate": "1.5", "day": "2026-11-25", "dayToDate": "0.5"}


class Exporter:
    """Answer with what a test has put here, and note the questions."""

    def __init__(self) -> None:
        self.answer: Spendings | bytes | int = Spendings(epoch="e1", version=0)
        self.asked: list[tuple[str, str, str]] = []
        self.heard = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one question."""
        query = request.query
        self.asked.append((query["epoch"], query["after"], request.headers.get("Authorization", "")))
        if len(self.asked) > 1:
            self.heard.set()
        if isinstance(self.answer, int):
            return web.Response(status=self.answer, text="no")
        return web.Response(body=self.answer if isinstance(self.answer, bytes) else self.answer.encode())


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    """Listen on loopback."""
    made, app = Exporter(), web.Application()
    app.router.add_get("/internal/costs", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


def told(version: int, amount: str = "1.5", *, final: bool = False, **more: Any) -> Spendings:
    """Return an answer about one endpoint."""
    one = Spending(endpoint="demo/m", final=final, cost={**COST, "monthToDate": amount, **more})
    return Spendings(epoch="e1", version=version, endpoints=(one,))


async def listen(costs: Costs, exporter: Exporter) -> None:
    """Have two questions asked and answered."""
    exporter.asked.clear()
    exporter.heard.clear()
    task = asyncio.create_task(costs.run())
    await asyncio.wait_for(exporter.heard.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_only_what_changed_is_asked_for_and_passed_on(exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    changed: list[str] = []
    costs = Costs(exporter.url, tmp_path / "token", changed.append, every=0.01)
    exporter.answer = told(7, later="a field of a newer exporter")
    await listen(costs, exporter)
    assert exporter.asked[:2] == [("", "0", "Bearer secret"), ("e1", "7", "Bearer secret")]
    spent = costs.of("demo/m")
    assert spent is not None and (spent.cost.month_to_date, spent.final) == ("1.5", False)
    assert changed == ["demo/m"], "the same answer twice is no news"
    exporter.answer = told(8, final=True)
    await listen(costs, exporter)
    assert changed == ["demo/m"] * 2
    costs.forget("demo/m")
    assert costs.of("demo/m") is None and costs.of("demo/other") is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (503, "answered 503: no"),
        (b"<html>", "not understood"),
        (told(1, "much"), "demo/m: monthToDate"),
    ],
)
async def test_what_is_no_answer_is_said_once_and_asked_for_again(
    exporter: Exporter, answer: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    costs = Costs(exporter.url, None, lambda key: None, every=0.01)
    exporter.answer = answer
    with caplog.at_level(logging.WARNING, "zerotide.controller.costs"):
        await listen(costs, exporter)
    (warning,) = caplog.records
    assert words in vars(warning)["error"]
    assert costs.of("demo/m") is None
    exporter.answer = told(1)
    await listen(costs, exporter)
    assert costs.of("demo/m") is not None, "it goes on once there is one"


async def test_no_token_no_exporter_and_no_address(
    exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.wait_for(Costs("", None, lambda key: None).run(), 5)
    for url, file, words in (
        (exporter.url, tmp_path / "absent", "cannot read the token file"),
        ("http://127.0.0.1:1", None, "cannot be asked"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "zerotide.controller.costs"):
            task = asyncio.create_task(Costs(url, file, lambda key: None, every=60).run())
            async with asyncio.timeout(10):
                while not caplog.records:
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert words in vars(caplog.records[0])["error"]
