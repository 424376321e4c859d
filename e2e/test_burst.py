"""Many clients at once on a sleeping endpoint: one wake, honest bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e import traffic
from e2e.harness import System, chat, trivial, wait_until


@pytest.fixture
def one_activator(system: System) -> Iterator[None]:
    """Run a single activator for a while."""
    set_activators(system, 1)
    yield
    set_activators(system, 2)


def set_activators(system: System, count: int) -> None:
    """Scale the activators and wait until exactly so many serve."""
    system.kubectl("scale", "deployment/zerotide-activator", "-n", "zerotide-system", f"--replicas={count}")

    def settled() -> bool:
        items = system.get("pods", "-n", "zerotide-system", "-l", "app.kubernetes.io/component=activator")["items"]
        ready = [
            pod
            for pod in items
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]
        return len(items) == len(ready) == count

    wait_until(f"{count} activators", settled, timeout=90)


async def test_fifty_clients_make_one_wake(system: System) -> None:
    """All are answered, over both activators, by a single pod."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "burst", trivial(idle="30s", env={"DELAY_MS": "1000"}))
    answers = await traffic.burst(system.url(namespace, "burst", "/v1/chat/completions"), key, chat(), 50)
    assert traffic.tally(answers) == {200: 50}, [answer for answer in answers if answer.status != 200][:3]
    assert len(system.pods(namespace, "burst")) == 1
    wakes = [d for d in system.status(namespace, "burst")["decisions"] if d["from"] == 0 and d["to"] > 0]
    assert len(wakes) == 1, wakes


async def test_the_bound_of_held_requests_with_one_activator(system: System, one_activator: None) -> None:
    """Ten wait and are served, forty are told at once, with a time to come back."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "bound", trivial(idle="30s", env={"DELAY_MS": "3000"}, hold={"maxRequests": 10}))
    answers = await traffic.burst(system.url(namespace, "bound", "/v1/chat/completions"), key, chat(), 50)
    assert traffic.tally(answers) == {200: 10, 429: 40}
    for answer in answers:
        if answer.status == 429:
            assert answer.code == "queue_full" and int(answer.headers["retry-after"]) >= 1
            assert answer.seconds < 2.5, "a refusal does not wait"


async def test_the_bound_holds_over_two_activators(system: System) -> None:
    """Exactly ten are held and served, whichever activators the connections reach: these two act as one."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "bound", trivial(idle="30s", env={"DELAY_MS": "3000"}, hold={"maxRequests": 10}))
    answers = await traffic.burst(system.url(namespace, "bound", "/v1/chat/completions"), key, chat(), 50)
    assert traffic.tally(answers) == {200: 10, 429: 40}
    assert {answer.code for answer in answers if answer.status == 429} == {"queue_full"}
