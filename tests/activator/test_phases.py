"""Clients that ask for the phases of a wake see each of them; others, and other clients' parsers, see nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import openai
import pytest

from tests.activator.council.fleet import Fleet
from tests.activator.replica import TEXT, Received, Replica, reset
from tests.activator.stack import Stack
from tests.activator.stack import until as until_within
from tests.activator.test_streams import Reader
from zerotide.activator.traffic.news import asks_for_phases

PHASES = {"X-Zerotide-Events": "phases"}
MARK = ": zerotide.phase "
until = partial(until_within, timeout=60)


class Follower(Reader):
    """A streamed answer to a client that asked for phases."""

    asks = PHASES

    @property
    def code(self) -> str:
        """Return the error code."""
        return self.headers.get("x-zerotide-error", "")

    @property
    def phases(self) -> list[dict[str, Any]]:
        """Return the phases."""
        lines = self.text[: self.text.rfind("\n") + 1].split("\n")
        return [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]

    def knows(self, number: int) -> bool:
        """Tell whether it was told so many."""
        return len(self.phases) == number

    @property
    def states(self) -> list[tuple[str, bool]]:
        """Return their states, and whether the request was still held."""
        return [(phase["state"], phase["held"]) for phase in self.phases]


def still(stack: Stack, state: str = "Waking", **spec: Any) -> None:
    """Make an endpoint that starts, whose heart does not beat, and a key; or bring it to its next state."""
    stack.endpoint(status={"desiredReplicas": 1, "state": state}, hold={"heartbeat": "0s", **spec})
    if not stack.keys:
        stack.key()


def test_words() -> None:
    """One word among others asks for phases; what is not known asks for nothing."""
    assert asks_for_phases("phases")
    assert asks_for_phases("tokens, Phases")
    assert not any(map(asks_for_phases, ("", "phase", "all", "no phases")))


async def test_each_phase_once_and_at_once(stack: Stack, replica: Replica) -> None:
    """The one that it came in, each change, and that it goes to a replica; then the answer."""
    still(stack)
    follower = Follower()
    task = asyncio.create_task(follower.read(stack))
    for number, state in enumerate(("Pulling", "Loading"), start=1):
        await until(partial(follower.knows, number))
        still(stack, state)
        still(stack, state)
    await until(lambda: follower.knows(3))
    stack.pod(replica.port)
    await task
    assert follower.states == [("Waking", True), ("Pulling", True), ("Loading", True), ("Awake", False)]
    times = [phase["elapsedMs"] for phase in follower.phases]
    assert times == sorted(times)
    assert "readyInMs" not in follower.phases[0]
    assert follower.text.endswith("data: [DONE]\n\n")
    assert (follower.status, follower.cut) == (200, False)
    assert "x-zerotide-events" not in {name.lower() for name, _ in replica.posts[0].headers}
    assert stack.service.holder.news._audiences == {}


async def test_when_it_will_be_ready(stack: Stack, replica: Replica) -> None:
    """As measured, where something was."""
    still(stack)
    (endpoint,) = stack.registry.endpoints.values()
    endpoint.starts.add(600_000_000)
    follower = Follower()
    task = asyncio.create_task(follower.read(stack))
    await until(lambda: follower.phases)
    stack.pod(replica.port)
    await task
    assert 0 < follower.phases[0]["readyInMs"] <= 600_000


async def test_others_see_nothing(stack: Stack, replica: Replica) -> None:
    """Neither who did not ask, nor whose request does not wait."""
    still(stack)
    (endpoint,) = stack.registry.endpoints.values()
    follower = Follower()
    task = asyncio.create_task(follower.read(stack, headers={"X-Zerotide-Events": "none"}))
    await until(lambda: endpoint.gate.held)
    still(stack, "Loading")
    stack.pod(replica.port)
    await task
    warm = await Follower().read(stack)
    assert follower.text == warm.text
    assert ": zerotide" not in warm.text


async def test_what_is_refused_at_once_has_its_status(stack: Stack) -> None:
    """Nothing is said before the request has its place in the line."""
    still(stack, maxRequests=1)
    held = asyncio.create_task(Follower().read(stack))
    (endpoint,) = stack.registry.endpoints.values()
    await until(lambda: endpoint.gate.held)
    refused = await Follower().read(stack)
    assert (refused.status, refused.code, refused.phases) == (429, "queue_full", [])
    cold = await Follower().read(stack, headers={**PHASES, "Prefer": "wait=0"})
    assert (cold.status, cold.code) == (503, "endpoint_cold")
    held.cancel()
    await until(lambda: stack.service.holder.news._audiences == {})


async def test_a_failure_comes_in_band(stack: Stack) -> None:
    """The first phase sent status 200: what fails later is an event and a cut."""
    still(stack)
    follower = Follower()
    task = asyncio.create_task(follower.read(stack))
    await until(lambda: follower.phases)
    condition = {"type": "Accepting", "status": "False", "reason": "CrashLooping", "message": "exit 1"}
    more = {"lastTransitionTime": "2026-11-22T10:00:00Z", "observedGeneration": 1}
    stack.endpoint(status={"state": "Failed", "conditions": [{**condition, **more}]})
    await task
    assert (follower.status, follower.cut) == (200, True)
    assert json.loads(follower.text.split("data: ")[1])["error"]["code"] == "crash_looping"
    assert follower.states == [("Waking", True)]


async def test_a_lost_replica_is_a_phase(stack: Stack, replica: Replica) -> None:
    """A request that comes back into the line says so."""
    still(stack)
    follower = Follower()
    task = asyncio.create_task(follower.read(stack))
    await until(lambda: follower.phases)

    async def die(request: Received, writer: asyncio.StreamWriter) -> None:
        stack.delete_pod()
        await reset(request, writer)

    replica.behave = die
    stack.pod(replica.port)
    await until(lambda: follower.knows(3))
    replica.behave = None
    stack.pod(replica.port, name="m-2")
    await task
    assert [held for _, held in follower.states] == [True, False, True, False]
    assert follower.text.endswith("data: [DONE]\n\n")


async def test_wherever_the_line_is_kept(tmp_path: Path, replica: Replica) -> None:
    """An activator that has to ask for room says nothing until it was told that there is some."""
    async with Fleet(tmp_path, 2) as fleet:
        await fleet.endpoint(hold={"maxRequests": 1, "heartbeat": "0s"})
        owner = fleet.owner()
        other = next(stack for stack in fleet.stacks if stack is not owner)
        follower = Follower()
        task = asyncio.create_task(follower.read(other))
        await until(lambda: follower.phases)
        refused = await Follower().read(other)
        assert (refused.status, refused.code) == (429, "queue_full")
        fleet.pod(replica)
        await task
    assert follower.states[0][1] and follower.states[-1] == ("Awake", False)


def by_openais_helper(url: str, key: str) -> str:
    """Ask it by its helper that gathers a stream."""
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
        client.chat.completions.stream(model="m", messages=[], extra_headers=PHASES) as stream,
    ):
        return str(stream.get_final_completion().choices[0].message.content)


def by_hub_chat(url: str, key: str) -> str:
    """Ask huggingface_hub for a chat."""
    with huggingface_hub.InferenceClient(base_url=f"{url}/v1", token=key, headers=PHASES) as client:
        parts = client.chat_completion([{"role": "user", "content": "x"}], model="m", stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts)


@pytest.mark.parametrize("client", [by_openais_helper, by_hub_chat])
async def test_other_ways_of_clients_to_read_streams(
    stack: Stack, replica: Replica, client: Callable[[str, str], str]
) -> None:
    """They pass over phases as well."""
    still(stack)
    (endpoint,) = stack.registry.endpoints.values()
    task = asyncio.get_running_loop().run_in_executor(None, client, stack.url, stack.keys["k"])
    await until(lambda: endpoint.gate.held)
    assert len(stack.service.holder.news._audiences) == 1
    still(stack, "Loading")
    stack.pod(replica.port)
    assert await task == TEXT
