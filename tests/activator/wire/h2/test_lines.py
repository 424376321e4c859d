"""Connections of HTTP/2 to a replica whose every frame the test decides: how many are made, and who uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.settings import SettingCodes

from zerotide.activator.endpoints.dialler import Answer
from zerotide.activator.endpoints.grpc_dialler import Whole
from zerotide.activator.failures import ConnectFailed, ResponseLost
from zerotide.activator.wire import Limits
from zerotide.activator.wire.h2 import lines as module
from zerotide.activator.wire.h2.engine import goaway
from zerotide.activator.wire.h2.lines import Lines

HEADERS = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"x")]


class Replica(asyncio.Protocol):
    """One connection at the replica's side; it says nothing unless it is told to."""

    def __init__(self, made: list[Replica], limit: int) -> None:
        self.engine = H2Connection(H2Configuration(client_side=False))
        self.engine.initiate_connection()
        self.engine.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        self.calls: list[int] = []
        self.lost = asyncio.Event()
        made.append(self)

    def connection_made(self, transport: Any) -> None:
        """Keep the connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Note calls."""
        for event in self.engine.receive_data(data):
            if isinstance(event, RequestReceived):
                self.calls.append(event.stream_id)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self.lost.set()

    def settle(self) -> None:
        """Send its settings."""
        self.transport.write(self.engine.data_to_send())

    def answer(self, id: int) -> None:
        """Answer a call."""
        self.engine.send_headers(id, [(":status", "200")], end_stream=True)
        self.settle()


@asynccontextmanager
async def replica(limit: int = 10, begin: Callable[[Replica], None] = Replica.settle) -> AsyncIterator[Any]:
    """Yield the connections to a replica, and what they are at its side; `begin` is called with each new one."""
    made: list[Replica] = []

    class Beginning(Replica):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            begin(self)

    server = await asyncio.get_running_loop().create_server(lambda: Beginning(made, limit), "127.0.0.1", 0)
    lines = Lines("127.0.0.1", server.sockets[0].getsockname()[1], Limits())
    try:
        async with asyncio.timeout(10):
            yield lines, made
    finally:
        lines.close()
        server.close()
        for each in made:
            each.transport.abort()
            await each.lost.wait()


def silent(_: Replica) -> None:
    """Begin without a word."""


async def reached(look: Callable[[], Any]) -> None:
    """Return once `look` returns something true."""
    while not look():
        await asyncio.sleep(0.001)


def ask(lines: Lines, count: int, answers: list[Answer]) -> list[asyncio.Task[Any]]:
    """Begin calls at once."""
    answers += [Answer() for _ in range(count)]
    return [asyncio.ensure_future(lines.send(HEADERS, Whole(b""), answer)) for answer in answers[-count:]]


async def test_one_call_before_the_settings() -> None:
    """Before the replica has said how many calls it takes it gets one; the others wait, and share connections."""
    async with replica(limit=4, begin=silent) as (lines, made):
        answers: list[Answer] = []
        tasks = ask(lines, 10, answers)
        await reached(lambda: made and made[0].calls)
        await asyncio.sleep(0.05)
        assert [len(each.calls) for each in made] == [1]
        made[0].settle()
        await reached(lambda: len(made) == 2 and made[1].calls)
        assert [len(each.calls) for each in made] == [4, 1]
        made[1].settle()
        await reached(lambda: len(made) == 3)
        made[2].settle()
        await asyncio.gather(*tasks)
        await reached(lambda: [len(each.calls) for each in made] == [4, 4, 2])
        for each in made:
            for id in each.calls:
                each.answer(id)
        await asyncio.gather(*(answer.done for answer in answers))
        assert len(made) == 3


async def test_a_call_that_ends_makes_room() -> None:
    """Where no more connections may be made, calls wait in order until others end."""
    async with replica(limit=1) as (lines, made):
        answers: list[Answer] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "MOST_LINES", 2)
            tasks = ask(lines, 5, answers)
            for number in range(5):
                begun = min(number + 2, 5)
                while sum(len(each.calls) for each in made) < begun:
                    await asyncio.sleep(0.001)
                assert len(made) <= 2
                assert tasks[number].done()
                first = made[number % 2]
                first.answer(first.calls[-1])
                await answers[number].done
        assert [len(each.calls) for each in made] == [3, 2]


async def test_a_replica_that_takes_no_calls() -> None:
    """A limit of none makes calls wait, on one connection, and not one connection after the other."""
    async with replica(limit=0) as (lines, made):
        await lines.warm(5.0)
        await reached(lambda: lines._open[0].settled)
        tasks = ask(lines, 5, [])
        await asyncio.sleep(0.05)
        assert (len(made), [task.done() for task in tasks]) == (1, [False] * 5)
        made[0].engine.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
        made[0].settle()
        await asyncio.gather(*tasks)
        assert len(made) == 1


async def test_a_client_that_does_not_wait() -> None:
    """Who gives up while it waits takes no room from the others, also in the moment in which it gets some."""
    async with replica(limit=2, begin=silent) as (lines, made):
        tasks = ask(lines, 4, [])
        await reached(lambda: made and made[0].calls)
        tasks[1].cancel()
        line = lines._open[0]
        line.settled = True
        lines._go_on()
        assert line.promised == 2
        tasks[2].cancel()
        await tasks[3]
        assert (line.promised, line.calls) == (0, 2)
        assert [task.cancelled() for task in tasks[1:3]] == [True, True]


async def test_a_replica_that_never_says_how_many() -> None:
    """Calls wait for its settings no longer than the time that it has for them; the one that began goes on."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "SETTINGS_TIME", 0.2)
        async with replica(begin=silent) as (lines, made):
            answers: list[Answer] = []
            first, *others = ask(lines, 4, answers)
            for task in others:
                with pytest.raises(ConnectFailed, match="no SETTINGS within"):
                    await task
            await first
            made[0].answer(made[0].calls[0])
            await answers[0].done
            await made[0].lost.wait()
            assert len(made) == 1


@pytest.mark.parametrize("how", ["goodbye", "close"])
async def test_a_replica_that_ends_every_connection(how: str) -> None:
    """Each connection costs one call at least: nobody dials for ever."""

    def leave(each: Replica) -> None:
        each.settle()
        if how == "goodbye":
            each.transport.write(goaway(0))
        else:
            each.transport.close()

    async with replica(begin=leave) as (lines, made):
        answers: list[Answer] = []
        results = await asyncio.gather(*ask(lines, 20, answers), return_exceptions=True)
        for result, answer in zip(results, answers, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, ConnectFailed)
            else:
                with pytest.raises(ResponseLost):
                    await answer.done
        assert 1 <= len(made) <= 20


async def test_closed_while_calls_wait() -> None:
    """Calls that wait for a connection when no more are wanted are served still; then it is closed."""
    async with replica(limit=3, begin=silent) as (lines, made):
        answers: list[Answer] = []
        tasks = ask(lines, 5, answers)
        await reached(lambda: made and made[0].calls)
        lines.close()
        made[0].settle()
        await reached(lambda: len(made) == 2)
        made[1].settle()
        await asyncio.gather(*tasks)
        await reached(lambda: sum(len(each.calls) for each in made) == 5)
        assert [len(each.calls) for each in made] == [3, 2]
        for each in made:
            for id in each.calls:
                each.answer(id)
        await asyncio.gather(*(answer.done for answer in answers))
        await asyncio.gather(*(each.lost.wait() for each in made))


async def test_fresh_calls_share_a_connection() -> None:
    """Calls that want a connection made from now on share the one that is made for the first of them."""
    async with replica(limit=10) as (lines, made):
        await lines.warm(5.0)
        await reached(lambda: lines._open[0].settled)
        await asyncio.gather(*(lines.send(HEADERS, Whole(b""), Answer(), fresh=True) for _ in range(8)))
        await reached(lambda: len(made) == 2 and len(made[1].calls) == 8)
        assert made[0].calls == []
