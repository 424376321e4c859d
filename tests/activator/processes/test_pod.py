"""A pod with several processes of the wire: one activator from outside, whatever becomes of any of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.activator.processes.api import Api
from tests.activator.replica import Replica
from tests.activator.stack import until
from zerotide.activator.usage.journal import read
from zerotide.api.demand import Delta, Message, Report, Snapshot, decode
from zerotide.api.usage import AnyRecord, Intent, Outcome, Settlement

BODY = {"model": "m", "messages": []}


@dataclass
class Pod:
    """A running activator of two processes."""

    process: asyncio.subprocess.Process
    api: Api
    usage: Path
    url: str
    admin: str
    session: aiohttp.ClientSession
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def children(self) -> list[int]:
        """Return the process ids of its children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    async def chat(self) -> int:
        """Send a request over a connection of its own and return the status."""
        headers = {"X-Zerotide-Endpoint": "demo/m", "Host": "m.demo", "Connection": "close"}
        async with self.session.post(self.url + "/v1/chat/completions", json=BODY, headers=headers) as response:
            await response.read()
            return response.status

    async def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Ask on the admin port."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.get(self.admin + path, headers=headers) as response:
            return response.status, await response.text()

    async def figure(self, line: str) -> float:
        """Return a sample of the metrics, 0 where there is none."""
        for each in (await self.get("/metrics"))[1].splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0

    def records(self, number: int) -> list[AnyRecord]:
        """Return what the usage log of a process holds."""
        return [record for path in sorted((self.usage / str(number)).glob("*.ndjson")) for record in read(path)]


class Followed:
    """A demand stream, as the operator reads it."""

    def __init__(self, pod: Pod) -> None:
        self.messages: list[Message] = []
        self.status = 0
        self._task = asyncio.create_task(self._follow(pod))

    async def _follow(self, pod: Pod) -> None:
        url, headers = pod.admin + "/internal/demand", {"Authorization": "Bearer operator"}
        async with pod.session.get(url, headers=headers) as response:
            self.status = response.status
            if response.status == 200:
                async for line in response.content:
                    message = decode(line)
                    assert message is not None
                    self.messages.append(message)

    @property
    def ended(self) -> bool:
        """Tell whether it ended."""
        return self._task.done()

    @property
    def demand(self) -> tuple[int, int]:
        """Return held and in flight, as told last."""
        told = [message.demand for message in self.messages if isinstance(message, Delta)]
        return (told[-1].held, told[-1].in_flight) if told else (0, 0)

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def running(tmp_path: Path, processes: int = 2, *arguments: str) -> AsyncIterator[Pod]:
    """Run a pod until left."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with Api(tmp_path) as api, aiohttp.ClientSession(timeout=timeout) as session:
        usage = tmp_path / "usage"
        environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "POD_NAME": "act-0"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "zerotide.activator", "--processes", str(processes), "--listen", "127.0.0.1",
            "--port", "0", "--admin-port", "0", "--exporter-url", "none", "--usage-dir", str(usage),
            "--drain-listen", "0s", *arguments, env=environment, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said: list[dict[str, Any]] = []
        reading = None
        try:
            async with asyncio.timeout(30):
                while not said or said[-1]["message"] != "serving" or (processes > 1 and "processes" not in said[-1]):
                    said.append(json.loads(await process.stderr.readline()))
            reading = asyncio.create_task(_read_on(process.stderr, said))
            line = said[-1]
            url, admin = (f"http://127.0.0.1:{line[name]}" for name in ("port", "admin_port"))
            yield Pod(process, api, usage, url, admin, session, said)
        finally:
            if process.returncode is None:
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await process.wait()
            if reading is not None:
                await reading


async def _read_on(stderr: asyncio.StreamReader, said: list[dict[str, Any]]) -> None:
    async for line in stderr:
        said.append(json.loads(line) if line.startswith(b"{") else {"message": line.decode()})
        if "exception" in said[-1] or not line.startswith(b"{"):
            print(line.decode(), file=sys.stderr)


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    """Run a pod of two processes."""
    async with running(tmp_path) as started:
        yield started


async def both_know(pod: Pod) -> None:
    """Wait until both processes have the replica, and so its endpoint: each has a watch of its own."""
    await until(lambda: sum(each["message"] == "replica ready" for each in pod.said) == 2, timeout=10)


async def both_held(pod: Pod, followed: Followed, count: int) -> list[asyncio.Task[int]]:
    """Have requests held that came to both processes."""
    requests = [asyncio.create_task(pod.chat()) for _ in range(count)]
    await until(lambda: followed.demand == (count, 0), timeout=10)
    return requests


async def test_two_processes_are_one_activator(pod: Pod, replica: Replica) -> None:
    """Demand, wake, metrics and health are those of one; both serve, and each writes its own usage log."""
    assert len(pod.children) == 2
    assert await pod.get("/readyz") == (200, "ok\n")
    assert await pod.get("/healthz") == (200, "ok\n")
    assert (await pod.get("/internal/demand"))[0] == 401
    pod.api.endpoint()
    followed = Followed(pod)
    await until(lambda: followed.messages)
    snapshot = followed.messages[0]
    assert isinstance(snapshot, Snapshot)
    assert snapshot.activator == "act-0"
    await asyncio.sleep(0.1)
    requests = await both_held(pod, followed, 24)
    await until(lambda: pod.api.wishes, timeout=10)
    assert len(pod.api.wishes) == 1
    assert pod.api.wishes[0]["by"] in ("act-0/0", "act-0/1")
    pod.api.pod(replica.port)
    assert [await request for request in requests] == [200] * 24
    await until(lambda: followed.demand == (0, 0))
    told = [message.demand.arrivals for message in followed.messages if isinstance(message, Delta)]
    assert told[-1] == 24
    reports = len([message for message in followed.messages if isinstance(message, Report)])
    await until(lambda: len([each for each in followed.messages if isinstance(each, Report)]) > reports + 1)
    assert all(pod.records(number) for number in (0, 1)), "the kernel spreads connections over both"
    assert sum(isinstance(record, Intent) for number in (0, 1) for record in pod.records(number)) == 24
    page = (await pod.get("/metrics"))[1]
    assert page.endswith("# EOF\n") and page.count("# TYPE zerotide_requests counter") == 1
    assert await pod.figure("zerotide_connections_accepted_total") == 24
    assert await pod.figure("zerotide_activator_processes") == 2
    series = [line for line in page.splitlines() if line.startswith("zerotide_requests_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in series) == 24
    await followed.close()


async def test_a_process_that_dies(pod: Pod, replica: Replica) -> None:
    """It is started again and settles what it began; connections wait for it, nothing falls asleep meanwhile."""
    pod.api.endpoint(desiredReplicas=1, state="Awake")
    pod.api.pod(replica.port)
    await both_know(pod)
    assert [await pod.chat() for _ in range(20)] == [200] * 20
    accepted = await pod.figure("zerotide_connections_accepted_total")
    followed = Followed(pod)
    await until(lambda: followed.messages)
    replica.hold = asyncio.Event()
    lost = [asyncio.create_task(pod.chat()) for _ in range(16)]
    await until(lambda: replica.in_flight == 16)
    first = pod.children[0]
    os.kill(first, signal.SIGKILL)
    await until(lambda: followed.ended, timeout=5)
    refused = Followed(pod)
    await until(lambda: refused.ended or refused.status == 200)
    assert refused.status == 503
    assert (await pod.get("/readyz"))[0] == 200, "its socket is still there"
    replica.hold.set()
    served = asyncio.gather(*(pod.chat() for _ in range(30)))
    answers = await asyncio.gather(*lost, return_exceptions=True)
    broken = [each for each in answers if isinstance(each, aiohttp.ClientError)]
    assert 0 < len(broken) < 16, "only its own are lost"
    assert set(answers) - set(broken) == {200}
    assert await served == [200] * 30
    back = Followed(pod)
    await until(lambda: back.messages, timeout=10)
    before, after = followed.messages[0], back.messages[0]
    assert isinstance(before, Snapshot) and isinstance(after, Snapshot)
    assert after.started_at_us > before.started_at_us, "nobody remembers its past activity: its start counts"
    abandoned = [
        record
        for number in (0, 1)
        for record in pod.records(number)
        if isinstance(record, Settlement) and record.outcome is Outcome.ABANDONED
    ]
    assert len(abandoned) == len(broken)
    assert await pod.figure("zerotide_activator_process_restarts_total") == 1
    assert await pod.figure("zerotide_connections_accepted_total") >= accepted + 30
    assert any(line["message"] == "a process died" for line in pod.said)
    await back.close()


async def test_a_process_that_dies_while_the_api_server_is_away(pod: Pod, replica: Replica) -> None:
    """It cannot serve before it read everything again; the other one serves for both, and it joins in later."""
    pod.api.endpoint(desiredReplicas=1, state="Awake")
    pod.api.pod(replica.port)
    await both_know(pod)
    assert [await pod.chat() for _ in range(10)] == [200] * 10
    pod.api.away = True
    os.kill(pod.children[0], signal.SIGKILL)
    await until(lambda: any("others get its connections" in line["message"] for line in pod.said), timeout=20)
    assert [await pod.chat() for _ in range(40)] == [200] * 40
    serving = sum(line["message"] == "serving" for line in pod.said)
    pod.api.away = False
    await until(lambda: sum(line["message"] == "serving" for line in pod.said) > serving, timeout=20)
    assert (await pod.get("/readyz"))[0] == 200
    before = [len(pod.records(number)) for number in (0, 1)]
    assert [await pod.chat() for _ in range(40)] == [200] * 40
    assert all(len(pod.records(number)) > before[number] for number in (0, 1)), "both serve again"


async def test_sigterm_drains_all(pod: Pod, replica: Replica) -> None:
    """Held requests of both processes are served, then every process ends, and the port with them."""
    pod.api.endpoint()
    await until(lambda: len(pod.children) == 2)
    followed = Followed(pod)
    await until(lambda: followed.messages)
    await asyncio.sleep(0.1)
    requests = await both_held(pod, followed, 16)
    children = pod.children
    pod.process.send_signal(signal.SIGTERM)
    while (await pod.get("/readyz"))[0] == 200:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    pod.api.pod(replica.port)
    assert [await request for request in requests] == [200] * 16
    async with asyncio.timeout(20):
        assert await pod.process.wait() == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert followed.demand == (0, 0)
    with pytest.raises(aiohttp.ClientConnectionError):
        await pod.chat()
    await followed.close()


async def test_children_do_not_outlive_their_parent(pod: Pod) -> None:
    """They drain and end when it was killed."""
    children = pod.children
    assert len(children) == 2
    pod.process.kill()
    await pod.process.wait()
    await until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), timeout=10)
