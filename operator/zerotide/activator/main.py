"""Start an activator, run it until it is told to stop, and let its requests end."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import uvloop

from zerotide.activator.failures import CertificateUnusable, SettingsError
from zerotide.activator.processes.member import Member
from zerotide.activator.processes.supervisor import Supervisor
from zerotide.activator.service import Service
from zerotide.activator.settings import Settings, parse
from zerotide.kube import Client, Clock, CredentialsError, load_credentials, process

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the activator. Exit 0 after SIGTERM or SIGINT, 1 when it cannot go on, 2 when told nonsense."""
    loop, told = uvloop.new_event_loop, partial(parse, arguments)
    given = sys.argv[1:] if arguments is None else arguments
    failures = (CredentialsError, OSError, CertificateUnusable)
    sys.exit(
        process.run(
            "zerotide.activator",
            told,
            partial(serve, arguments=given),
            refused=SettingsError,
            failures=failures,
            loop_factory=loop,
        )
    )


class Running(Protocol):
    """What serves requests: a process, or the parent of several."""

    async def start(self) -> None:
        """Begin to serve."""

    async def ended(self) -> None:
        """Return, or raise, when it cannot go on."""

    async def drain(self) -> None:
        """Let requests end."""

    async def stop(self) -> None:
        """End everything."""


async def serve(settings: Settings, arguments: Sequence[str]) -> None:
    """Serve until a signal asks to stop, then drain. Raises CredentialsError, OSError, CertificateUnusable."""
    stopping = asyncio.Event()
    process.set_on_signals(stopping)
    _raise_file_limit()
    member = Member.of_environment(os.environ)
    async with Client(await load_credentials()) as client:
        if member is not None:
            asyncio.get_running_loop().add_reader(member.lifeline, stopping.set)
            clock = Clock(member.clock_offset_us)
            await _run(Service(member.settings(settings), client, clock, member=member), stopping)
            asyncio.get_running_loop().remove_reader(member.lifeline)
        elif settings.processes > 1:
            await _run(Supervisor(settings, client, Clock(), arguments), stopping)
        else:
            await _run(Service(settings, client, Clock()), stopping)
    log.info("stopped")


async def _run(service: Running, stopping: asyncio.Event) -> None:
    starting = asyncio.create_task(service.start())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            process.settle_memory()
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


def _raise_file_limit() -> None:
    """Allow as many descriptors as the machine allows: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
