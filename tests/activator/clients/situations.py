"""How each error is brought about; every one by what really causes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.activator.clients.scene import IMAGE, Scene
from tests.activator.records import intent
from tests.activator.replica import reset
from zerotide.activator.usage.backlog import Bounds
from zerotide.api.scalars import format_time

Situation = Callable[[Scene], Awaitable[None]]


def spec(prompt: str = "x", **fields: Any) -> Situation:
    """Return the situation of an endpoint with this spec, asleep."""

    async def bring(scene: Scene) -> None:
        scene.stack.endpoint(model=IMAGE, **fields)
        scene.ask.prompt = prompt

    return bring


def asking(**fields: Any) -> Situation:
    """Return the situation of an endpoint that could be woken, and of a request that is as the fields say."""

    async def bring(scene: Scene) -> None:
        scene.stack.endpoint(hold={"coldTimeout": "5s"})
        for name, value in fields.items():
            setattr(scene.ask, name, value)

    return bring


def blocked(reason: str, due: float | None = None) -> Situation:
    """Return the situation of an endpoint that takes no requests; `due` is when it starts again, in seconds."""

    async def bring(scene: Scene) -> None:
        condition = {
            "type": "Accepting",
            "status": "False",
            "reason": reason,
            "message": "told",
            "lastTransitionTime": "2026-11-22T10:00:00Z",
            "observedGeneration": 1,
        }
        status: dict[str, Any] = {"conditions": [condition], "desiredReplicas": 1}
        if due is not None:
            at = scene.stack.service.clock.now_us() + round(due * 1_000_000)
            failed = {"count": 3, "since": "2026-11-22T10:00:00Z", "reason": "CrashLooping"}
            status["failedStarts"] = {**failed, "retryTime": format_time(at)}
        scene.stack.endpoint(status=status)

    return bring


async def ambiguous(scene: Scene) -> None:
    """Two endpoints of one age have the model."""
    for name in ("a", "b"):
        scene.stack.endpoint(name, model={**IMAGE, "aliases": ["shared"]})
    scene.ask.path, scene.ask.model = "", "shared"


async def revoked(scene: Scene) -> None:
    """The keys were deleted."""
    scene.stack.endpoint()
    for name in scene.stack.keys:
        scene.stack.revoke(name)


async def closed(scene: Scene) -> None:
    """The keys open another endpoint only."""
    scene.stack.endpoint()
    scene.keys(endpoints=["other"])


async def deleted(scene: Scene) -> None:
    """The endpoint was deleted."""
    scene.stack.endpoint()
    scene.stack.delete_endpoint()


async def crowded_consumer(scene: Scene) -> None:
    """The consumer has the one request held that it may have."""
    scene.stack.endpoint(access={"maxInFlightPerConsumer": 1})
    await scene.another_is_held()


async def full(scene: Scene) -> None:
    """The one request that may be held is."""
    scene.stack.endpoint(hold={"maxRequests": 1})
    await scene.another_is_held()


async def lost(scene: Scene) -> None:
    """The replica drops every connection before it answers."""
    await scene.stack.awake(scene.replica)
    scene.replica.behave = reset


async def stuck(scene: Scene) -> None:
    """The replica does not answer."""
    await scene.stack.awake(scene.replica, model=IMAGE, request={"timeout": "1s"})
    scene.replica.hold = asyncio.Event()


def used_up(action: str) -> Situation:
    """Return the situation of an endpoint that sleeps, of a namespace whose budget is used up."""

    async def bring(scene: Scene) -> None:
        scene.stack.endpoint(model=IMAGE)
        scene.stack.budget(action)

    return bring


async def unbilled(scene: Scene) -> None:
    """The endpoint serves nothing unbilled, and the one record that may wait for the exporter does."""
    journal = scene.stack.service.journal
    assert journal is not None
    journal.bounds = Bounds(records=1)
    journal.append(intent(1))
    scene.stack.endpoint(model=IMAGE, billing={"onLedgerFailure": "Deny"})
