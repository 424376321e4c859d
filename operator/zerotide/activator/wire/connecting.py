"""Connect to a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from zerotide.activator.failures import ConnectFailed

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def connect(make: Callable[[], P], host: str, port: int, timeout: float) -> P:
    """Return a protocol on a new connection, made within `timeout` seconds.

    Raises ConnectFailed.
    """
    try:
        async with asyncio.timeout(timeout):
            _, protocol = await asyncio.get_running_loop().create_connection(make, host, port)
    except TimeoutError as error:
        raise ConnectFailed(f"no connection to {host}:{port} within {timeout:g} s") from error
    except OSError as error:
        raise ConnectFailed(f"no connection to {host}:{port}: {error}") from error
    return protocol
