"""The frame of every process: settings, log lines, the event loop, signals, and what its end tells the kubelet."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from zerotide.kube import logs
from zerotide.kube.errors import CredentialsError

log = logging.getLogger(__name__)


class Logged(Protocol):
    """Settings that say how to log."""

    @property
    def log_format(self) -> str:
        """Return `json` or `text`."""

    @property
    def log_level(self) -> str:
        """Return the name of a level."""


Settings = TypeVar("Settings", bound=Logged)


def run(
    module: str,
    parse: Callable[[], Settings],
    serve: Callable[[Settings], Coroutine[Any, Any, int | None]],
    *,
    refused: type[Exception],
    failures: tuple[type[Exception], ...] = (CredentialsError, OSError),
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a process to its end; return what `serve` did (0), 1 after one of `failures`, 2 for refused settings."""
    try:
        settings = parse()
    except refused as problem:
        print(f"{module}: {problem}", file=sys.stderr)
        return 2
    logs.set_up(settings.log_format, settings.log_level)
    status, failed = 0, tuple[BaseException, ...]()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            status = runner.run(serve(settings)) or 0
    except* failures as group:
        failed = group.exceptions
    for error in failed:
        log.error("the process cannot go on", extra={"error": str(error)})
    return 1 if failed else status


def settle_memory(young: int = 20_000) -> None:
    """Leave what start-up made to itself, and look for circles seldom: what is done all day leaves none behind.

    `young` is by how many objects those that live must have grown: more than are alive for a moment.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 20)


def set_on_signals(stopping: asyncio.Event) -> None:
    """Set an event when the process is asked to stop: at SIGTERM, and at SIGINT from a keyboard."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)


async def first_end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Return, or raise its failure, as soon as any of these tasks ends."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
