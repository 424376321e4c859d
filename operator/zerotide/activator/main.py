"""Start an activator, run it until it is told to stop, and let its requests end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

import uvloop

from zerotide.activator.failures import SettingsError
from zerotide.activator.service import Service
from zerotide.activator.settings import Settings, parse
from zerotide.kube import Client, Clock, CredentialsError, load_credentials, logs

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the activator. Exit 0 after SIGTERM or SIGINT, 1 when it cannot go on, 2 when told nonsense."""
    try:
        settings = parse(arguments)
    except SettingsError as problem:
        sys.stderr.write(f"zerotide.activator: {problem}\n")
        sys.exit(2)
    logs.set_up(settings.log_format, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (CredentialsError, OSError) as error:
        log.error("the activator cannot go on", extra={"error": str(error)})
        sys.exit(1)


async def serve(settings: Settings) -> None:
    """Serve until a signal asks to stop, then drain. Raises CredentialsError, OSError."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Client(await load_credentials()) as client:
        service = Service(settings, client, Clock())
        starting = asyncio.create_task(service.start())
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                ended = asyncio.create_task(service.ended())
                await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    ended.result()
                ended.cancel()
                await service.drain()
        finally:
            starting.cancel()
            stopped.cancel()
            await service.stop()
    log.info("stopped")
