"""Reach the gateway from outside the cluster: by the address in the environment, else by a port forward."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zerotide.api.names import SERVICE_GATEWAY
from zerotide.cli.errors import GatewayError, UsageError
from zerotide.cli.session import Session

VARIABLE = "ZEROTIDE_GATEWAY"
_FORWARDING = re.compile(rb"Forwarding from (127\.0\.0\.1:[0-9]+)")


def from_environment() -> str:
    """Return the gateway's address that the environment names, without a slash at its end; empty without one.

    Raises UsageError when it is no URL.
    """
    value = os.environ.get(VARIABLE, "").rstrip("/")
    if value and not re.match(r"^https?://[^/\s]+", value):
        raise UsageError(f"{VARIABLE} is {value!r}, which is no address: write one such as http://127.0.0.1:31080")
    return value


def endpoint_url(gateway: str, namespace: str, name: str) -> str:
    """Return the address of an endpoint behind a gateway."""
    return f"{gateway}/endpoints/{namespace}/{name}"


@asynccontextmanager
async def reach(session: Session) -> AsyncIterator[str]:
    """Yield an address of the gateway that works while the context is open."""
    address = from_environment()
    if address:
        yield address
        return
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise GatewayError(
            f"no way to the gateway: set {VARIABLE} to its address, or install kubectl for a port forward"
        )
    context = ["--context", session.context] if session.context else []
    process = await asyncio.create_subprocess_exec(
        kubectl,
        *context,
        "port-forward",
        "-n",
        session.system_namespace,
        f"service/{SERVICE_GATEWAY}",
        ":80",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield await _forwarded(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _forwarded(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while line := await process.stdout.readline():
                if match := _FORWARDING.search(line):
                    return f"http://{match[1].decode()}"
            why = (await process.stderr.read()).decode("utf-8", "replace").strip()
    except TimeoutError:
        why = "no answer within 20 s"
    raise GatewayError(
        f"kubectl port-forward to {SERVICE_GATEWAY} failed: {why}. Set {VARIABLE} to its address instead"
    )
