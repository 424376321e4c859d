"""Start an activator, run it until it is told to stop, and let its requests end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from functools import partial

import uvloop

from zerotide.activator.failures import CertificateUnusable, SettingsError
from zerotide.activator.service import Service
from zerotide.activator.settings import Settings, parse
from zerotide.kube import Client, Clock, CredentialsError, load_credentials, process

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the activator. Exit 0 after SIGTERM or SIGINT, 1 when it cannot go on, 2 when told nonsense."""
    loop, told = uvloop.new_event_loop, partial(parse, arguments)
    failures = (CredentialsError, OSError, CertificateUnusable)
    sys.exit(
        process.run("zerotide.activator", told, serve, refused=SettingsError, failures=failures, loop_factory=loop)
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal asks to stop, then drain. Raises CredentialsError, OSError, CertificateUnusable."""
    stopping = asyncio.Event()
    process.set_on_signals(stopping)
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
