"""gRPC through the activator, with grpcio on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.activator.grpc_replica import (
    CHAT,
    FAIL,
    FLOOD,
    INFER,
    NOTHING,
    SERVICE,
    STREAM,
    UPLOAD,
    Cable,
    awake,
    channel,
    failure,
    grpc_replica,
    key,
    spec_for,
)
from tests.activator.stack import Stack, until
from zerotide.activator.admission.naming import Name
from zerotide.api.usage import Outcome

Code = grpc.StatusCode


async def test_a_call_and_its_answer(stack: Stack) -> None:
    """Message, metadata and trailers pass both ways; what is ours stays here; usage is recorded."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            call = client.unary_unary(INFER)(
                b"hello", metadata=(*key(stack), ("x-own", "1"), ("x-own-bin", b"\x00\xff"))
            )
            assert await call == b"HELLO"
            head = dict(await call.initial_metadata() or ())
            assert (head["x-model"], head["x-zerotide-cold-start"], len(str(head["x-request-id"]))) == (
                "m",
                "false",
                32,
            )
            trailers = dict(await call.trailing_metadata() or ())
            assert (trailers["x-cost"], trailers["x-data-bin"]) == ("7", b"\x00\x01")
        seen = replica.seen[0]
        assert (seen["x-own"], seen["x-own-bin"]) == ("1", b"\x00\xff")
        assert "authorization" not in seen
        assert seen["x-forwarded-for"] == "127.0.0.1"
        await until(lambda: stack.records()[1])
        (intent,), (settlement,) = stack.records()
        assert (intent.consumer, intent.stream, settlement.outcome) == ("demo/team-a", False, Outcome.COMPLETED)
        assert (settlement.status, settlement.response_bytes) == (200, 10)


async def test_streams_both_ways(stack: Stack) -> None:
    """Messages pass as they come, in both directions at once, without waiting for the end of either."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            call = client.unary_stream(STREAM)(b"1000", metadata=key(stack))
            assert [message async for message in call] == [b"%d" % number for number in range(1000)]
            chat = client.stream_stream(CHAT)(metadata=key(stack))
            for word in (b"a", b"b" * 100_000, b"c"):
                await chat.write(word)
                assert await chat.read() == word.upper()
            await chat.done_writing()
            assert await chat.read() == grpc.aio.EOF
            assert await chat.code() == Code.OK


@pytest.mark.parametrize("streaming", [False, True])
async def test_from_zero(stack: Stack, streaming: bool) -> None:
    """A call is held while the endpoint wakes, a stream of messages too: nothing of it is lost."""
    async with grpc_replica() as replica:
        replica.serving = False
        endpoint = stack.endpoint(status={"desiredReplicas": 1}, **spec_for(replica.port))
        stack.key()
        async with channel(stack) as client:

            async def words() -> AsyncIterator[bytes]:
                for number in range(300):
                    yield b"x%d" % number * 100

            if streaming:
                method = client.stream_stream(CHAT)(words(), metadata=key(stack))
                task = asyncio.ensure_future(_all(method))
            else:
                task = asyncio.ensure_future(_all(client.unary_stream(STREAM)(b"3", metadata=key(stack))))
            await until(lambda: endpoint.gate.held == 1)
            assert 0 < endpoint.gate.held_bytes <= 65536
            assert len(stack.api.applied) <= 1
            stack.pod(replica.port)
            await asyncio.sleep(0.1)
            assert endpoint.gate.cold
            replica.serving = True
            got = await task
        assert got == ([b"X%d" % number * 100 for number in range(300)] if streaming else [b"0", b"1", b"2"])
        assert endpoint.gate.held == 0


async def _all(call: Any) -> list[bytes]:
    return [message async for message in call]


async def test_refusals_are_in_grpcs_words(stack: Stack) -> None:
    """Each row of the table has its status; the message says why, and our code is in the trailers."""
    async with grpc_replica() as replica:
        endpoint = stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, **spec_for(replica.port))
        async with channel(stack) as client:

            async def refused(path: str = INFER, *more: tuple[str, str], **options: Any) -> tuple[Any, ...]:
                metadata = (*more, *(key(stack) if stack.keys else ()))
                error = await failure(lambda: client.unary_unary(path)(b"x", metadata=metadata, **options))
                told = dict(error.trailing_metadata() or ())
                return error.code(), str(told.get("x-zerotide-error")), told.get("grpc-retry-pushback-ms")

            assert await refused() == (Code.UNAUTHENTICATED, "invalid_api_key", None)
            stack.key()
            assert await refused(f"/{SERVICE}/Other") == (Code.UNIMPLEMENTED, "route_not_found", None)
            other = ("x-zerotide-endpoint", "demo/other")
            assert await refused(INFER, other) == (Code.INVALID_ARGUMENT, "endpoint_mismatch", None)
            stack.endpoint(suspend=True, **spec_for(replica.port))
            assert await refused() == (Code.FAILED_PRECONDITION, "suspended", "-1")
            stack.endpoint(**spec_for(replica.port, hold={"whileCold": "Reject"}))
            code, ours, pushback = await refused()
            assert (code, ours) == (Code.UNAVAILABLE, "endpoint_cold")
            assert pushback is not None
            assert int(pushback) >= 1000
            stack.endpoint(**spec_for(replica.port, access={"maxInFlightPerConsumer": 1}))
            held = client.unary_unary(INFER)(b"x", metadata=key(stack))
            await until(lambda: endpoint.gate.held)
            assert await refused() == (Code.RESOURCE_EXHAUSTED, "consumer_limit", "1000")
            held.cancel()
            error = await failure(lambda: client.unary_unary(INFER)(b"x", metadata=key(stack), timeout=0.3))
            assert error.code() == Code.DEADLINE_EXCEEDED
    assert not replica.seen


async def test_protocols_do_not_mix(stack: Stack) -> None:
    """An endpoint of HTTP takes no gRPC, and the other way round; each is told in its own words."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        answer = await stack.post(INFER, {"a": 1}, x_zerotide_endpoint="demo/m")
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert b"speaks gRPC" in answer.body
        stack.endpoint("web", request={"extraPaths": [INFER]})
        async with channel(stack, host="web.demo.svc") as client:
            error = await failure(lambda: client.unary_unary(INFER)(b"x", metadata=key(stack)))
            assert error.code() == Code.INVALID_ARGUMENT
            assert "speaks HTTP" in (error.details() or "")


async def test_errors_of_the_replica_pass(stack: Stack) -> None:
    """Status and message arrive as they were, those without any message before them too; figures count them."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            error = await failure(lambda: client.unary_unary(FAIL)(b"x", metadata=key(stack)))
            assert (error.code(), error.details()) == (Code.ALREADY_EXISTS, "déjà vu 100%")
            error = await failure(lambda: client.unary_unary(NOTHING)(b"x", metadata=key(stack)))
            assert error.code() == Code.UNIMPLEMENTED
        series = stack.service.metrics.of("demo", "m")
        assert (series.requests["409", "false"], series.requests["501", "false"]) == (1, 1)


async def test_deadlines(stack: Stack) -> None:
    """The replica knows how long the client waits still; ours is shorter where the endpoint says so."""
    async with grpc_replica() as replica:
        await awake(stack, replica, request={**spec_for(0)["request"], "timeout": "1s"})
        async with channel(stack) as client:
            assert await client.unary_unary(INFER)(b"x", metadata=key(stack), timeout=30) == b"X"
            assert replica.remaining[0] is not None
            assert 25 < replica.remaining[0] <= 30
            replica.hold = asyncio.Event()
            error = await failure(lambda: client.unary_unary(INFER)(b"x", metadata=key(stack), timeout=30))
            assert error.code() == Code.DEADLINE_EXCEEDED
            assert dict(error.trailing_metadata() or ())["x-zerotide-error"] == "upstream_timeout"
            await until(lambda: replica.cancelled == 1)
        assert [each.outcome for each in stack.records()[1]] == [Outcome.COMPLETED, Outcome.TIMED_OUT]


async def test_a_client_that_leaves(stack: Stack) -> None:
    """The replica is told to stop; the connection to it is kept."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            replica.hold = asyncio.Event()
            call = client.unary_unary(INFER)(b"x", metadata=key(stack))
            await until(lambda: len(replica.seen) == 1)
            call.cancel()
            await until(lambda: replica.cancelled == 1)
            replica.hold = None
            assert await client.unary_unary(INFER)(b"y", metadata=key(stack)) == b"Y"
        await until(lambda: len(stack.records()[1]) == 2)
        assert stack.records()[1][0].outcome is Outcome.CLIENT_GONE


async def test_a_replica_that_is_lost(stack: Stack) -> None:
    """A call that has no answer yet goes to another one; one within its answer fails as unavailable."""
    async with grpc_replica() as replica, Cable(replica.port) as cable, Cable(replica.port) as other:
        await awake(stack, cable)
        async with channel(stack) as client:
            replica.hold = asyncio.Event()
            call = client.unary_unary(INFER)(b"x" * 1000, metadata=key(stack))
            await until(lambda: len(replica.seen) == 1)
            chat = client.stream_stream(CHAT)(metadata=key(stack))
            await chat.write(b"a")
            assert await chat.read() == b"A"
            replica.hold = None
            stack.endpoint(**spec_for(other.port))
            cable.cut()
            await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.cold)
            stack.delete_pod()
            stack.pod(other.port, name="m-2")
            assert await call == b"X" * 1000
            assert (await failure(chat.read)).code() == Code.UNAVAILABLE
            assert dict(await chat.trailing_metadata())["x-zerotide-error"] == "upstream_lost"
    outcomes = [each.outcome for each in stack.records()[1]]
    assert sorted(outcomes) == [Outcome.COMPLETED, Outcome.LOST, Outcome.LOST]


async def test_a_call_that_cannot_be_repeated(stack: Stack) -> None:
    """Of a long stream of messages not all is kept: where its replica is lost, it fails."""
    async with grpc_replica() as replica, Cable(replica.port) as cable:
        await awake(stack, cable)
        async with channel(stack) as client:
            upload = client.stream_unary(UPLOAD)(metadata=key(stack))
            for _ in range(20):
                await upload.write(bytes(20_000))
            await until(lambda: replica.received == 20)
            cable.cut()
            error = await failure(lambda: upload)
            assert error.code() == Code.UNAVAILABLE
            assert "cannot be repeated" in (error.details() or "")


async def test_a_replica_that_says_goodbye(stack: Stack) -> None:
    """A server that is stopped ends what it has, and calls that come later wait for another one."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            chat = client.stream_stream(CHAT)(metadata=key(stack))
            await chat.write(b"a")
            assert await chat.read() == b"A"
            stopping = asyncio.create_task(replica.server.stop(5))
            await asyncio.sleep(0.1)
            task = asyncio.ensure_future(_answer(client.unary_unary(INFER)(b"b", metadata=key(stack))))
            await chat.write(b"c")
            assert await chat.read() == b"C"
            await chat.done_writing()
            assert await chat.code() == Code.OK
            await stopping
            async with grpc_replica(replica.port):
                assert await task == b"B"


async def _answer(call: Any) -> Any:
    return await call


async def test_a_slow_client_makes_the_replica_wait(stack: Stack) -> None:
    """What a client does not read is not read from the replica either."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack, ("grpc.http2.lookahead_bytes", 65536), ("grpc.http2.bdp_probe", 0)) as client:
            call = client.unary_stream(FLOOD)(b"", metadata=key(stack))
            await call.read()
            stood, before = 0, -1
            while stood < 10:
                stood, before = (stood + 1, replica.sent) if replica.sent == before else (0, replica.sent)
                await asyncio.sleep(0.05)
            assert 0 < before < 200
            call.cancel()


async def test_large_messages(stack: Stack) -> None:
    """Each may be as large as a body may; a larger one is refused before it is here."""
    async with grpc_replica(
        0, ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)
    ) as replica:
        await awake(stack, replica, request={**spec_for(0)["request"], "maxBodyBytes": "1Mi"})
        async with channel(stack, ("grpc.max_receive_message_length", -1)) as client:
            message = b"x" * 1_000_000
            assert await client.unary_unary(INFER)(message, metadata=key(stack)) == message.upper()
            error = await failure(lambda: client.unary_unary(INFER)(message * 2, metadata=key(stack)))
            assert error.code() == Code.RESOURCE_EXHAUSTED
            assert "larger than 1048576 bytes" in (error.details() or "")
            assert await client.unary_unary(INFER)(b"y", metadata=key(stack)) == b"Y"
        assert stack.service.server.buffered == 0


async def test_many_calls_share_connections(stack: Stack) -> None:
    """More calls at once than one connection takes: as many are made as are needed, and no call is reset."""
    async with grpc_replica(0, ("grpc.max_concurrent_streams", 20)) as replica, Cable(replica.port) as cable:
        free = {"access": {"maxInFlightPerConsumer": 1000}, "scaling": {"concurrency": {"limit": 0}}}
        await awake(stack, cable, **free)
        async with channel(stack) as client, channel(stack) as other:
            replica.hold = asyncio.Event()
            calls = [(client, other)[n % 2].unary_unary(INFER)(b"x%d" % n, metadata=key(stack)) for n in range(150)]
            await until(lambda: len(replica.seen) == 150)
            replica.hold.set()
            assert [await call for call in calls] == [b"X%d" % n for n in range(150)]
    assert cable.resets == 0
    assert cable.connections == 8
    await until(lambda: len(stack.records()[1]) == 150)
    intents, settlements = stack.records()
    assert {each.attempt for each in intents} == {1}
    assert [each.outcome for each in settlements] == [Outcome.COMPLETED] * 150


async def test_drain(stack: Stack) -> None:
    """What is going on is answered, and the client is told to go elsewhere."""
    async with grpc_replica() as replica:
        await awake(stack, replica)
        async with channel(stack) as client:
            chat = client.stream_stream(CHAT)(metadata=key(stack))
            await chat.write(b"a")
            assert await chat.read() == b"A"
            stack.service.server.drain()
            await asyncio.sleep(0.1)
            await chat.write(b"b")
            assert await chat.read() == b"B"
            await chat.done_writing()
            assert await chat.read() == grpc.aio.EOF
            await until(lambda: not stack.service.server.connections)
