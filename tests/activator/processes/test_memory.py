"""Memory is bounded: clients that keep coming beyond the limits cost nothing that stays."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.activator.processes.test_pod import Pod, running
from tests.activator.stack import until

MIB = 1024 * 1024
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: m.demo\r\nContent-Type: application/json\r\n"
BODY = b'{"model":"m","prompt":"' + b"x" * 20_000 + b'"}'
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: m.demo\r\nConnection: close\r\n\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def resident(pod: Pod) -> int:
    """Return the bytes of memory that the process has."""
    status = Path(f"/proc/{pod.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


async def knock(pod: Pod, sent: bytes) -> bytes:
    """Connect, send, and return what comes back until the end."""
    answer = b""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(pod.url).port)
        writer.write(sent)
        with suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
    return answer


async def crowd(pod: Pod, count: int, sent: bytes) -> list[bytes]:
    """Knock many times, a hundred at once."""
    answers: list[bytes] = []
    for _ in range(count // 100):
        answers += await asyncio.gather(*(knock(pod, sent) for _ in range(100)))
    return answers


async def test_clients_beyond_the_limits_cost_nothing_that_stays(tmp_path: Path) -> None:
    """A full queue, then a full house, each with thousands of clients at the door: memory stays where it was."""
    limits = ("--limit-connections", "400", "--limit-body-memory", "4Mi", "--limit-body-bytes", "1Mi")
    async with running(tmp_path, 1, *limits) as pod:
        pod.api.endpoint()
        async with asyncio.timeout(30):
            # Who comes before the activator knows the endpoint is refused, and would not be one of those held.
            while not (await knock(pod, MODELS)).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.02)
            held = [asyncio.create_task(knock(pod, REQUEST)) for _ in range(100)]
            while await pod.figure('zerotide_held_requests{inference_endpoint="m",namespace="demo"}') < 100:
                await asyncio.sleep(0.02)
        await until(lambda: pod.api.wishes, timeout=10)
        last = REQUEST.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        refused = await crowd(pod, 500, last)
        assert {answer[:12] for answer in refused} == {b"HTTP/1.1 429"}
        before = resident(pod)
        refused = await crowd(pod, 2000, last)
        assert {answer[:12] for answer in refused} == {b"HTTP/1.1 429"}
        full = resident(pod)
        idle = [asyncio.create_task(knock(pod, b"")) for _ in range(300)]
        while await pod.figure("zerotide_connections") < 400:
            await asyncio.sleep(0.02)
        house = resident(pod)
        assert {*await crowd(pod, 3000, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")} == {b""}
        after = resident(pod)
        assert await pod.figure('zerotide_connections_rejected_total{reason="connections"}') >= 3000
        assert full - before < 4 * MIB, f"{before} -> {full}"
        assert after - house < 2 * MIB, f"{house} -> {after}"
        pod.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*held, *idle)
