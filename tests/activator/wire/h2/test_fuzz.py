"""Frames in any order, with any content: a client gets an answer or an end, and never an exception of ours."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.activator.wire.h2.client import Client, connected
from tests.activator.wire.h2.test_limits import PATIENT
from tests.activator.wire.test_server import echo, serving
from zerotide.activator.wire import Exchange

HEAD = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "x")]


def anything(client: Client, rng: random.Random) -> None:
    """Send one frame that may or may not make sense."""
    stream = rng.choice((0, 1, 1, 3, 3, 5, 7, 2, 9))
    match rng.randrange(9):
        case 0 | 1:
            block = client.engine.encoder.encode(HEAD + [("content-length", "3")] * rng.randrange(2))
            client.raw(1, rng.choice((4, 5, 0)), stream, block)
        case 2 | 3:
            client.raw(0, rng.randrange(2), stream, rng.randbytes(rng.choice((0, 3, 900))))
        case 4:
            client.raw(3, 0, stream, (8).to_bytes(4, "big"))
        case 5:
            client.raw(8, 0, stream, rng.choice((0, 1, 2**31 - 1)).to_bytes(4, "big"))
        case 6:
            client.raw(
                4, 0, 0, rng.choice((b"", b"\0\4\0\0\0\0", b"\0\4\x7f\xff\xff\xff", b"\0\1\xff\xff\xff\xff", b"x"))
            )
        case 7:
            client.raw(7, 0, 0, bytes(8))
        case _:
            client.raw(rng.randrange(12), rng.randrange(256), stream, rng.randbytes(rng.randrange(12)))


@pytest.mark.parametrize("seed", range(60))
async def test_any_frames(seed: int) -> None:
    """Handlers that answer at once, late, in pieces, or not at all."""
    rng = random.Random(seed)
    unexpected: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))

    async def handler(exchange: Exchange) -> None:
        match rng.randrange(4):
            case 0:
                await echo(exchange)
            case 1:
                exchange.start(200, [])
                exchange.write(bytes(100_000))
                await asyncio.sleep(0)
                exchange.end([(b"x-sum", b"1")])
            case 2:
                exchange.start(200, [])
                exchange.write(b"half")
                exchange.cut()
            case _:
                await exchange.read_body(10)

    async with serving(handler, PATIENT) as (server, port):
        async with connected(port) as client:
            for _ in range(rng.randrange(1, 40)):
                anything(client, rng)
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            while server.connections:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        assert not unexpected
        assert server.buffered == server.door.open == 0
