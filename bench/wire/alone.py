"""An activator in a process of its own without a cluster: objects put in by hand, keys checked, usage written.

    python -m bench.wire.alone USAGE_DIR BACKEND_PORT

It prints one JSON line, {"port", "key"}, and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from tests.activator.stack import Stack, until


async def main(usage: Path, backend: int) -> None:
    """Serve an endpoint with one replica."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with Stack(usage) as stack:
        status = {"desiredReplicas": 1, "state": "Awake"}
        access = {"maxInFlightPerConsumer": 10_000}
        endpoint = stack.endpoint(status=status, access=access, scaling={"concurrency": {"limit": 0}})
        key = stack.key()
        stack.pod(backend)
        await until(lambda: not endpoint.gate.cold)
        print(json.dumps({"port": stack.service.port, "key": key}), flush=True)
        await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
