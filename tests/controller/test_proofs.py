"""Tokens over real sockets: who is asked, what is written of it, and when again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from tests.controller.test_process import operator
from tests.loopback import served
from tests.reconcile.helpers import NOW, pod_object, raw
from zerotide.api.endpoint import Engine
from zerotide.api.generation import one_token
from zerotide.api.names import CONDITION_TOKEN
from zerotide.api.scalars import format_time
from zerotide.controller.failures import NotLeading, NoToken
from zerotide.controller.proofs import Proofs, Replica, _send
from zerotide.kube import Change, ConnectionFailed, Object
from zerotide.reconcile.pods import Proof

DUE = Proof(container="c1", due=True)
TOKEN = {"choices": [{"text": "a"}]}


class Scene:
    """An engine, the replicas that are told of, what is written of them, and a clock."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[Any] = []
        self.never = False
        self.replicas: list[Replica] = []
        self.written: list[tuple[str, Object]] = []
        self.fault: Exception | None = None
        self.now = 0.0
        self.base = ""
        self.proofs = Proofs(lambda: self.replicas, self.write, lambda: NOW, patience=5, clock=lambda: self.now)

    async def take(self, request: web.Request) -> web.Response:
        """Answer as the next of `answers` says, the last one for ever."""
        self.asked.append(await request.json())
        if self.never:
            await asyncio.sleep(60)
        status, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text=content if isinstance(content, str) else json.dumps(content))

    async def write(self, replica: Replica, condition: Object) -> None:
        """Write a condition, or fail."""
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.written.append((replica.name, condition))

    def replica(self, proof: Proof = DUE, name: str = "p") -> Replica:
        """Return a replica in a state."""
        return Replica("demo", name, f"uid-{name}", proof, self.base, one_token(Engine.VLLM, "m", counted=True))

    async def rounds(self, *times: float) -> None:
        """Look at these times, each time until everybody has answered."""
        async with self.proofs.session() as session:
            for self.now in times:
                await asyncio.gather(*self.proofs.round(session))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Serve."""
    made = Scene()
    app = web.Application()
    app.router.add_post("/v1/completions", made.take)
    async with served(app) as made.base:
        yield made


async def test_a_token_is_told(scene: Scene) -> None:
    """Once, with the container that generated it."""
    scene.answers = [(200, TOKEN)]
    scene.replicas = [scene.replica()]
    await scene.rounds(0)
    assert scene.asked == [{"model": "m", "prompt": "a", "max_tokens": 1}]
    condition = {
        "type": CONDITION_TOKEN,
        "status": "True",
        "reason": "TokenGenerated",
        "message": "container c1 generated a token",
        "lastTransitionTime": format_time(NOW),
    }
    assert scene.written == [("p", condition)]
    scene.replicas = [scene.replica(Proof(True, condition["message"], "c1", due=True))]
    await scene.rounds(1, 2, 60)
    assert len(scene.asked) == len(scene.written) == 1


async def test_who_is_not_asked(scene: Scene) -> None:
    """Whose own probe does not pass yet, and who has no address."""
    scene.replicas = [scene.replica(replace(DUE, due=False)), replace(scene.replica(name="q"), base="")]
    await scene.rounds(0, 60)
    assert scene.asked == scene.written == []


async def test_why_there_is_no_token(scene: Scene) -> None:
    """Told when it changes, with what the engine said; asked again at longer and longer pauses."""
    scene.answers = [(503, "still\n loading"), (503, "still\n loading"), (200, "ok")]
    scene.replicas = [scene.replica()]
    await scene.rounds(0)
    message = "container c1 generated no token: POST /v1/completions: 503: still loading"
    assert [(each["status"], each["reason"], each["message"]) for _, each in scene.written] == [
        ("False", "NoToken", message)
    ]
    scene.replicas = [scene.replica(replace(DUE, message=message))]
    await scene.rounds(0.9, 1.0, 2.9)
    assert (len(scene.asked), len(scene.written)) == (2, 1), "one second, then two"
    await scene.rounds(3.0)
    last = scene.written[-1][1]
    assert last["message"] == "container c1 generated no token: POST /v1/completions: 200: ok"
    assert "lastTransitionTime" not in last, "it was False before"
    await scene.rounds(6.9, 7.0, 14.9, 15.0, 24.9, 25.0, 34.9)
    assert len(scene.asked) == 6, "four, eight, ten"
    scene.replicas = [scene.replica(replace(DUE, container="c2"))]
    await scene.rounds(34.9)
    assert len(scene.asked) == 7, "another container is asked at once"


async def test_a_container_that_starts_anew_has_proven_nothing(scene: Scene) -> None:
    """What was said of the one before is taken back, be the new one ready to be asked or not, and it is asked then."""
    scene.answers = [(200, TOKEN)]
    old = Proof(True, "container c1 generated a token", "c2")
    scene.replicas = [scene.replica(old)]
    await scene.rounds(0)
    ((_, condition),) = scene.written
    assert (condition["status"], condition["reason"]) == ("False", "ContainerStarted")
    assert scene.asked == [] and "lastTransitionTime" in condition
    scene.replicas = [scene.replica(Proof(False, condition["message"], "c2", due=True))]
    await scene.rounds(1.0)
    assert len(scene.asked) == 1 and scene.written[-1][1]["message"] == "container c2 generated a token"


async def test_who_is_gone_is_asked_no_more(scene: Scene) -> None:
    """A question to a pod that left is given up."""
    scene.answers, scene.never = [(200, TOKEN)], True
    scene.replicas = [scene.replica()]
    async with scene.proofs.session() as session:
        (task,) = scene.proofs.round(session)
        while not scene.asked:
            await asyncio.sleep(0.001)
        assert scene.proofs.round(session) == [task], "one question at a time"
        scene.replicas = []
        scene.proofs.round(session)
        await asyncio.wait([task])
        assert task.cancelled() and scene.proofs.round(session) == []


@pytest.mark.parametrize("fault", [ConnectionFailed("no answer"), NotLeading("no lease")])
async def test_what_could_not_be_written_is_tried_again(scene: Scene, fault: Exception) -> None:
    """The pod says still that it was not asked."""
    scene.answers, scene.fault = [(200, TOKEN)], fault
    scene.replicas = [scene.replica()]
    await scene.rounds(0, 0.5)
    assert len(scene.asked) == 1 and scene.written == []
    scene.fault = None
    await scene.rounds(1.0)
    assert len(scene.asked) == 2 and len(scene.written) == 1


async def test_one_loop_looks_when_something_changes(scene: Scene) -> None:
    """And ends what it asks when it ends."""
    scene.answers = [(200, TOKEN)]
    task = asyncio.create_task(scene.proofs.run())
    await asyncio.sleep(0)
    scene.replicas = [scene.replica()]
    scene.proofs.look()
    async with asyncio.timeout(5):
        while not scene.written:
            await asyncio.sleep(0.001)
        scene.never, scene.replicas = True, [scene.replica(name="q")]
        scene.proofs.look()
        while len(scene.asked) < 2:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(scene.written) == 1


async def test_an_engine_that_does_not_answer(scene: Scene) -> None:
    """Said with what was asked."""
    async with scene.proofs.session() as session:
        with pytest.raises(NoToken, match="POST /v1/completions: ClientConnectorError"):
            await _send(session, replace(scene.replica(), base="http://127.0.0.1:1"))


async def test_pods_with_the_gate_are_asked_as_their_engine_wants_it() -> None:
    """As long as they are replicas; others are ready without."""
    made = operator()
    made.on_event("ADDED", raw({"runtime": {"engine": "tgi", "readiness": {"type": "Token"}}}))
    gate = [{"conditionType": CONDITION_TOKEN}]
    for name, gates in (("a-0", gate), ("a-1", []), ("a-2", gate)):
        pod = pod_object(name, state={"running": {}})
        if name == "a-2":
            pod["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
        pod["spec"]["readinessGates"] = gates
        pod["status"]["podIP"] = "10.0.0.7"
        pod["status"]["conditions"].append({"type": "ContainersReady", "status": "True"})
        pod["status"]["containerStatuses"][0]["containerID"] = f"containerd://{'0123456789abcdef' * 4}"
        made.watches.pods.take(Change("set", pod), NOW)
    (replica,) = made._unproven()
    assert replica == Replica(
        "demo",
        "a-0",
        "uid-a-0",
        Proof(container="0123456789ab", due=True),
        "http://10.0.0.7:8000",
        one_token(Engine.TGI, "a", counted=True),
    )
    made.watches.pods.take(Change("deleted", pod_object("a-0")), NOW)
    assert list(made._unproven()) == []
