"""Start the exporter, run it until it is told to stop, and leave nothing unrecorded."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from functools import partial

from zerotide.exporter.errors import ExporterError, SettingsError
from zerotide.exporter.service import Service
from zerotide.exporter.settings import Settings, parse
from zerotide.kube import Client, CredentialsError, load_credentials, process
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the exporter. Exit 0 after SIGTERM or SIGINT, 1 when it cannot go on, 2 when told nonsense."""
    told, failures = partial(parse, arguments), (ExporterError, CredentialsError, OSError)
    sys.exit(process.run("zerotide.exporter", told, serve, refused=SettingsError, failures=failures))


async def serve(settings: Settings) -> None:
    """Serve until a signal asks to stop. Raises ExporterError, CredentialsError, OSError."""
    stopping = asyncio.Event()
    process.set_on_signals(stopping)
    async with Client(await load_credentials()) as client:
        service = Service(settings, client, Clock())
        await service.start()
        process.settle_memory()
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
