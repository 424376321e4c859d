"""On a real cluster: replicas by the clock, an override that ends by itself, and what is learned over a restart."""

from __future__ import annotations

import re
from typing import Any

from tests.controller.rig import Rig, trivial
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.kube.resources import BUDGETS, INFERENCE_ENDPOINTS
from zerotide.scaling.prewarm.account import DAY
from zerotide.scaling.prewarm.habits import HOURS

IDLE = {"timeout": "5s"}
ALWAYS = {"name": "always", "start": "* * * * *", "duration": "10m"}


async def scaling(rig: Rig, namespace: str, **changes: Any) -> None:
    """Change the endpoint's scaling, as a person does."""
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, {"spec": {"scaling": changes}})


async def test_a_window_opens_without_a_request_and_an_override_stands_in_its_place(rig: Rig) -> None:
    """Open: it starts and stays. Overridden with nothing: it sleeps, until the override ends by itself."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"idle": IDLE, "schedules": [ALWAYS]}))
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["lastDecision"]["reason"] == "Schedule" and status["schedule"]["name"] == "always"
    await scaling(rig, namespace, override={"minReplicas": 0, "until": format_time(rig.clock.now_us() + HOUR)})
    await rig.state(namespace, "a", "Asleep", timeout=60)  # told, too: else what is read below may be from before
    until = rig.clock.now_us() + 5 * SECOND
    await scaling(rig, namespace, override={"minReplicas": 0, "until": format_time(until)})
    status = await rig.state(namespace, "a", "Awake", timeout=90)
    assert rig.clock.now_us() >= until - SECOND and status["lastDecision"]["reason"] == "Schedule"
    await scaling(rig, namespace, schedules=None)
    await rig.replicas(namespace, "a", 0, timeout=60)


async def test_habits_start_a_replica_before_the_request_that_they_foretell(rig: Rig) -> None:
    """Of nine weeks before, as the status has them; the request ends it, and gives back what is left of the budget."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"idle": IDLE}))
    await rig.state(namespace, "a", "Asleep")
    now = rig.clock.now_us()
    number, past = divmod(now + HOUR // 2, HOUR)
    minute = past // MINUTE
    hours = [f"{number % HOURS}:9:{max(minute - 1, 0)}:{min(minute + 2, 59)}", f"{(number + 1) % HOURS}:9:0:3"]
    known = {
        "history": " ".join(hours),
        "since": format_time(now - 9 * HOURS * HOUR),
        "spentDay": format_time(now // DAY * DAY),
    }
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, {"status": {"prewarm": known}}, subresource="status")
    await scaling(rig, namespace, prewarm={"mode": "Enabled", "budget": "30m"})
    status = await rig.state(namespace, "a", "Awake", timeout=120)
    assert status["lastDecision"]["reason"] == "Prewarm" and status["keptAwakeBy"] == "prewarm"
    assert status["prewarm"]["spent"] not in ("", "0s") and "as in 9 of 9 weeks" in status["prewarm"]["message"]
    await rig.demand(namespace, "a", in_flight=1)
    await rig.demand(namespace, "a")
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    assert (status["prewarm"].get("met"), status["prewarm"].get("missed", 0)) == (1, 0)
    assert status["prewarm"]["saved"] != "0s"


async def test_what_was_learned_outlives_the_operator(rig: Rig) -> None:
    """Silences are counted from the demand stream, told when it falls asleep, and counted on by the next operator."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"idle": {"policy": "Learned", "timeout": "1h"}}))
    await rig.state(namespace, "a", "Asleep")

    async def teach(value: str) -> Any:
        await rig.wake(namespace, "a")
        await rig.state(namespace, "a", "Awake", timeout=60)
        for _ in range(4):
            await rig.demand(namespace, "a", in_flight=1)
            await rig.demand(namespace, "a")
        body = {"metadata": {"annotations": {"zerotide.dev/sleep-requested-at": value}}}
        await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, body)
        return (await rig.state(namespace, "a", "Asleep", timeout=60))["idle"]

    first = await teach("1")
    assert first["silences"] >= 3 and first["timeout"] == "1h" and "1h holds until there are 5" in first["message"]
    await rig.restart_operator()
    second = await teach("2")
    assert second["silences"] >= 5 > first["silences"]
    said = re.match(rf"after {second['silences']} silences: a cold start counts as (\d+) s", second["message"])
    assert said and 210 <= int(said[1]) <= 240, (
        "seven times the 30 s for who waits, and what of them is not paid anyway"
    )
    assert second["historyAfterWakes"] == "", "the stand-in tells of no wake that is over"
    assert sum(int(pair.partition(":")[2]) for pair in second["history"].split()) == second["silences"]


async def test_a_budget_lets_nothing_be_kept_without_requests(rig: Rig) -> None:
    """It says so in its status; the endpoint sleeps and tells why, wakes for a request, and is kept again after it."""
    namespace = await rig.namespace()
    body = {"metadata": {"namespace": namespace, "name": "b"}, "spec": {"limit": {"type": "Tokens", "tokens": 5}}}
    made = await rig.client.create(BUDGETS, {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", **body})
    await rig.apply(namespace, "a", trivial(scaling={"idle": IDLE, "minReplicas": 1}))
    await rig.state(namespace, "a", "Awake", timeout=60)

    async def holds(action: str | None) -> None:
        status = {"action": action, "message": "5 of 5", "windowEnd": format_time(rig.clock.now_us() + HOUR)}
        name = made["metadata"]["name"]
        await rig.client.patch(BUDGETS, name, namespace, {"status": status}, subresource="status")

    await holds("StopPrewarm")
    await rig.replicas(namespace, "a", 0, timeout=60)
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    assert status["lastDecision"]["reason"] == "Budget"
    assert "budget b of the namespace: 5 of 5" in status["lastDecision"]["message"]
    await rig.wake(namespace, "a")
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["lastDecision"]["reason"] == "Request"
    await holds(None)
    kept = await rig.until(
        INFERENCE_ENDPOINTS,
        namespace,
        "a",
        lambda obj: ((obj or {}).get("status") or {}).get("keptAwakeBy") == "minReplicas",
        timeout=90,
    )
    assert kept is not None and kept["status"]["state"] in ("Waking", "Awake")
