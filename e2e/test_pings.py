"""A real model that is pinged: it answers, and neither the idle timeout nor the bill knows of it."""

from __future__ import annotations

from openai import OpenAI

from e2e.harness import System, smollm2, wait_until
from e2e.test_costs import bill
from zerotide.api.scalars import parse_time

IDLE = 30


def answered(system: System) -> float:
    """Return how many pings replicas have answered, by the operators that are there."""
    selector = "app.kubernetes.io/component=operator"
    total = 0.0
    for pod in system.get("pods", "-n", "zerotide-system", "-l", selector)["items"]:
        path = f"/api/v1/namespaces/zerotide-system/pods/{pod['metadata']['name']}:9090/proxy/metrics"
        for line in system.try_kubectl("get", "--raw", path).stdout.splitlines():
            if line.startswith('zerotide_pings_total{outcome="answered"}'):
                total += float(line.split()[1])
    return total


def test_pings_keep_nothing_awake_and_are_not_billed(system: System) -> None:
    """Two are answered within the silence, which is as long as without them; the bill has the one request."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    before = answered(system)
    scaling = {"idle": {"timeout": f"{IDLE}s"}, "ping": {"interval": "10s"}}
    system.endpoint(namespace, "pinged", smollm2(scaling=scaling))
    client = OpenAI(base_url=system.url(namespace, "pinged", "/v1"), api_key=key, max_retries=0)
    answer = client.completions.create(model="pinged", prompt="The capital of France is", max_tokens=4, temperature=0)
    assert answer.usage is not None and answer.usage.completion_tokens == 4
    status = system.wait_state(namespace, "pinged", "Asleep", timeout=IDLE + 30)
    assert answered(system) - before == 2
    slept_us, active_us = parse_time(status["lastDecision"]["time"]), parse_time(status["lastActivityTime"])
    assert IDLE - 0.1 <= (slept_us - active_us) / 1e6 <= IDLE + 3

    def settled() -> bool:
        return not system.pods(namespace, "pinged") and bill(system, namespace).tokens.requests == 1

    wait_until("the request is in the bill", settled, timeout=60)
    billed = bill(system, namespace)
    assert (billed.tokens.input, billed.tokens.output) == (answer.usage.prompt_tokens, 4)
    idle_us = sum(phase.replica_us for phase in billed.phases if phase.phase.startswith("idle"))
    assert idle_us / 1e6 >= IDLE - 1, "the time of pings is idle"
