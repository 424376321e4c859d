"""The frame of a process: its log, its end, and how it is asked to end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from zerotide.kube import process


class Refused(Exception):
    """Settings that make no sense."""


class Broken(Exception):
    """What this process may end with."""


@dataclass(frozen=True)
class Settings:
    """The least that a process is told."""

    log_format: str = "json"
    log_level: str = "info"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Put pytest's logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run(serve: Callable[[Settings], Coroutine[Any, Any, int | None]], **settings: str) -> int:
    """Run a process in this one."""
    failures = (Broken, OSError)
    return process.run("zerotide.example", lambda: Settings(**settings), serve, refused=Refused, failures=failures)


def test_refused_settings_end_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def parse() -> Settings:
        raise Refused("--port 'x': give a number")

    async def serve(settings: Settings) -> None:
        raise AssertionError("never served")

    assert process.run("zerotide.example", parse, serve, refused=Refused) == 2
    assert capsys.readouterr().err == "zerotide.example: --port 'x': give a number\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_is_what_serving_returned(returned: int | None, status: int) -> None:
    async def serve(settings: Settings) -> int | None:
        return returned

    assert run(serve) == status


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Broken("one"), ["one"]),
        (FileNotFoundError("two"), ["two"]),
        (ExceptionGroup("several", [Broken("three"), OSError("four")]), ["three", "four"]),
    ],
)
def test_a_failure_ends_with_1_and_is_logged(
    error: Exception, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(settings: Settings) -> None:
        raise error

    assert run(serve) == 1
    assert [json.loads(line)["error"] for line in capsys.readouterr().err.splitlines()] == told


def test_what_is_no_failure_of_the_process_is_raised() -> None:
    async def serve(settings: Settings) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(serve)


def test_records_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(settings: Settings) -> None:
        logging.getLogger("zerotide.example").info("quiet")
        logging.getLogger("zerotide.example").warning("loud", extra={"key": "value"})

    assert run(serve, log_level="warning", log_format="text") == 0
    told = capsys.readouterr().err
    assert told.endswith("warning loud key=value\n") and "quiet" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_on_the_loop_that_was_chosen(number: signal.Signals) -> None:
    async def serve(settings: Settings) -> int:
        stopping = asyncio.Event()
        process.set_on_signals(stopping)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopping.wait(), 5)
        return 7 if isinstance(asyncio.get_running_loop(), uvloop.Loop) else 8

    factory = uvloop.new_event_loop
    assert process.run("zerotide.example", Settings, serve, refused=Refused, loop_factory=factory) == 7
    assert process.run("zerotide.example", Settings, serve, refused=Refused) == 8


def test_what_start_up_made_is_left_to_itself() -> None:
    before = gc.get_threshold()
    try:
        process.settle_memory(young=50_000)
        assert gc.get_threshold()[0] == 50_000 and gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
