"""Run the operator until SIGTERM, SIGINT or a failure that a fresh process mends better.

kopf runs in this event loop. When it ends, it gives tasks that began after it 5 s and then cancels them, so the end
is ours: on a signal the operator stops first, then kopf. Every lasting task is made before kopf starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import kopf
import uvloop

from zerotide.api.names import API_VERSION
from zerotide.controller import options
from zerotide.controller.failures import SettingsError
from zerotide.controller.handlers import registry
from zerotide.controller.process import Operator
from zerotide.controller.settings import settings
from zerotide.kube import Client, Credentials, load_credentials, process

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return the exit status: 0 after a signal, 1 after a failure, 2 for settings that cannot be used."""
    loop, parse = uvloop.new_event_loop, partial(options.parse, arguments)
    return process.run("zerotide.controller", parse, run, refused=SettingsError, loop_factory=loop)


async def run(chosen: options.Options) -> int:
    """Run until told to stop; return the exit status."""
    credentials = await load_credentials()
    async with Client(credentials) as client:
        operator = Operator(client, chosen)
        # To look through all that kopf and others made when they were imported takes longer than a decision may.
        process.settle_memory(young=100_000)
        port = await operator.admin.start()
        log.info("started", extra={"port": port, "identity": chosen.identity, "api": API_VERSION})
        stop, ready = asyncio.Event(), asyncio.Event()
        tasks = operator.start()
        ending = asyncio.create_task(_end(stop, operator), name="end")
        signals = asyncio.create_task(_signals(stop, ready), name="signals")
        watching = asyncio.create_task(_watch(operator, credentials, ready, ending), name="kopf")
        ended, _ = await asyncio.wait([*tasks, ending, watching], return_when=asyncio.FIRST_COMPLETED)
        failures = [task for task in ended if task is not ending]
        for task in failures:
            log.error("task ended", extra={"task": task.get_name(), "error": repr(task.exception())})
        stop.set()
        await ending
        for task in (*tasks, signals, watching):
            task.cancel()
        await asyncio.gather(*tasks, signals, watching, return_exceptions=True)
    log.info("stopped")
    return 1 if failures else 0


async def _watch(
    operator: Operator, credentials: Credentials, ready: asyncio.Event, ending: asyncio.Task[None]
) -> None:
    # kopf looks for the kind once, when it starts: a CRD that is installed later would never be watched. A standby
    # needs no news of endpoints: it lists them when it comes to lead.
    await operator.led.wait()
    await kopf.operator(
        registry=registry(operator.on_event, credentials, operator.endpoints.is_echo),
        settings=settings(),
        clusterwide=True,
        standalone=True,
        ready_flag=ready,
        stop_flag=ending,
    )


async def _end(stop: asyncio.Event, operator: Operator) -> None:
    await stop.wait()
    await operator.stop()


async def _signals(stop: asyncio.Event, ready: asyncio.Event) -> None:
    # kopf installs handlers of its own when it starts; ours follow once it has.
    for _ in range(2):
        process.set_on_signals(stop)
        await ready.wait()
