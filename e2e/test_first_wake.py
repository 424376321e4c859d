"""How many replicas a wake begins with: by what comes and how long it takes, once that is known."""

from __future__ import annotations

import asyncio

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until
from zerotide.api.names import ANNOTATION_SLEEP
from zerotide.api.scalars import SECOND
from zerotide.scaling.arrivals import SPAN_US
from zerotide.scaling.service import ENOUGH

LINE = 3
"""Requests that wait for each wake, each of which is reason for a replica."""
SCALING = {
    "maxReplicas": LINE,
    "concurrency": {"target": 1},
    "stabilization": {"scaleUp": "0s"},
    "idle": {"timeout": "10m"},
}
ENGINE = {"DELAY_MS": "12000", "RESPONSE_MS": "500"}


async def test_a_line_that_one_replica_soon_works_off_wakes_one(system: System) -> None:
    """At first all that is held counts; then it is known that a start takes 12 s, and a request half of one."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "m", trivial(env=ENGINE, scaling=SCALING))
    url = system.url(namespace, "m", "/v1/chat/completions")
    assert traffic.tally(await traffic.burst(url, key, chat(), LINE)) == {200: LINE}
    for _ in range(ENOUGH):
        assert traffic.tally(await traffic.burst(url, key, chat(), LINE)) == {200: LINE}

    def learned() -> Json | None:
        status = system.status(namespace, "m")
        return status if (status.get("coldStarts") or {}).get("p50") else None

    status = await asyncio.to_thread(wait_until, "the start's length is known", learned, 30)
    assert max(each["to"] for each in status["decisions"]) == LINE, status["decisions"]
    system.kubectl("annotate", "iep", "m", "-n", namespace, f"{ANNOTATION_SLEEP}=now")

    def asleep() -> list[Json]:
        status = system.status(namespace, "m")
        gone = status.get("state") == "Asleep" and not system.pods(namespace, "m")
        return status["decisions"] if gone else []

    before = await asyncio.to_thread(wait_until, "all are gone", asleep, 60)
    await asyncio.sleep(SPAN_US / SECOND)  # what came before that is no rate any more
    assert traffic.tally(await traffic.burst(url, key, chat(), LINE)) == {200: LINE}
    status = await asyncio.to_thread(system.wait_state, namespace, "m", "Awake")
    new = [each for each in status["decisions"] if each not in before]
    assert [each["to"] for each in new] == [1], new
