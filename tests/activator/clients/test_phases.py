"""Unmodified clients that are told of the phases of a wake, of which they know nothing."""

from __future__ import annotations

import asyncio
from functools import partial

from tests.activator.clients.asks import Ask
from tests.activator.clients.children import Child
from tests.activator.clients.drivers import Driver, with_hub, with_openai
from tests.activator.clients.scene import Scene
from tests.activator.replica import TEXT
from tests.activator.stack import until as until_within

until = partial(until_within, timeout=60)


async def test_every_client_passes_over_phases(scene: Scene, tgi: Child, js: Child) -> None:
    """Each returns the answer and nothing else, and asks once."""
    (asleep, starts) = ({"state": "Asleep"}, {"desiredReplicas": 1, "state": "Loading"})
    endpoint = scene.stack.endpoint(status=asleep)
    scene.ask = Ask(stream=True, headers={"X-Zerotide-Events": "phases"})
    told: list[float] = []
    clients: dict[str, Driver] = {"openai": with_openai(told), "js": js.ask, "hub": with_hub, "tgi": tgi.ask}
    tasks = {name: asyncio.create_task(scene.ask_by(name, driver)) for name, driver in clients.items()}
    await until(lambda: endpoint.gate.held == len(clients))
    (audience,) = scene.stack.service.holder.news._audiences.values()
    assert len(audience.places) == len(clients)
    scene.stack.endpoint(status=starts)
    scene.stack.pod(scene.replica.port)
    outcomes = {name: await task for name, task in tasks.items()}
    assert {name: outcome.text for name, outcome in outcomes.items()} == dict.fromkeys(clients, TEXT)
    assert scene.seen == dict.fromkeys(clients, 1)
