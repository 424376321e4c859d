"""Start the exporter, run it until it is told to stop, and leave nothing unrecorded."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from zerotide.exporter.errors import ExporterError, SettingsError
from zerotide.exporter.service import Service
from zerotide.exporter.settings import Settings, parse
from zerotide.kube import Client, CredentialsError, load_credentials, logs
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the exporter. Exit 0 after SIGTERM or SIGINT, 1 when it cannot go on, 2 when told nonsense."""
    try:
        settings = parse(arguments)
    except SettingsError as problem:
        sys.stderr.write(f"zerotide.exporter: {problem}\n")
        sys.exit(2)
    logs.set_up(settings.log_format, settings.log_level)
    failures: tuple[BaseException, ...] = ()
    try:
        asyncio.run(serve(settings))
    except* (ExporterError, CredentialsError, OSError) as group:
        failures = group.exceptions
    for error in failures:
        log.error("exporter cannot go on", extra={"error": str(error)})
    if failures:
        sys.exit(1)


async def serve(settings: Settings) -> None:
    """Serve until a signal asks to stop. Raises ExporterError, CredentialsError, OSError."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Client(await load_credentials()) as client:
        service = Service(settings, client, Clock())
        await service.start()
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(service.ended())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waits:
                task.cancel()
            log.info("stopping")
            await service.stop()
    log.info("stopped")
