"""A ledger that is away: who serves nothing unbilled is refused, wakes nothing, and is billed once when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from e2e import traffic
from e2e.harness import System, chat, trivial, wait_until
from e2e.test_costs import PROXY, token
from e2e.traffic import Answer
from zerotide.billing.rollups import UsageReport

HOME = ("-n", "zerotide-system")
BOUND = "ZEROTIDE_USAGE_MAX_RECORDS"
DENY = {"onLedgerFailure": "Deny"}


@contextmanager
def tiny_bound(system: System) -> Iterator[None]:
    """Let one record wait at each activator, as long as the block runs."""
    activators = system.get("deployment", "zerotide-activator", *HOME)
    (container,) = activators["spec"]["template"]["spec"]["containers"]
    (before,) = [each["value"] for each in container["env"] if each["name"] == BOUND]

    def bound(records: str) -> None:
        system.kubectl("set", "env", "deployment/zerotide-activator", *HOME, f"{BOUND}={records}")
        system.kubectl("rollout", "status", "deployment/zerotide-activator", *HOME, "--timeout=90s")
        # Those that leave have the old bound, and take what they could not ship with them.
        wait_until("the old ones are gone", lambda: len(system.activators()) == activators["spec"]["replicas"], 60)

    bound("1")
    try:
        yield
    finally:
        bound(before)


@contextmanager
def no_exporter(system: System) -> Iterator[None]:
    """Have no exporter, as long as the block runs."""

    def pods() -> bool:
        return bool(system.get("pods", *HOME, "-l", "app.kubernetes.io/component=exporter")["items"])

    system.kubectl("scale", "deployment/zerotide-exporter", *HOME, "--replicas=0")
    try:
        wait_until("the exporter is gone", lambda: not pods(), 60)
        yield
    finally:
        system.kubectl("scale", "deployment/zerotide-exporter", *HOME, "--replicas=1")
        system.kubectl("rollout", "status", "deployment/zerotide-exporter", *HOME, "--timeout=90s")


async def test_a_budget_that_must_be_known_refuses_while_nobody_knows(system: System) -> None:
    """A minute after the exporter was heard last, without any usage that waits; and serves once it is back."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "known", trivial(idle="5m"))
    spec = {"limit": {"type": "Tokens", "tokens": 1_000_000}, **DENY}
    metadata = {"namespace": namespace, "name": "b"}
    system.apply({"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", "metadata": metadata, "spec": spec})
    url = system.url(namespace, "known", "/v1/chat/completions")

    async def until(status: int, timeout: float) -> Answer:
        async with asyncio.timeout(timeout):
            while (answer := await traffic.once(url, key, chat(), timeout=60)).status != status:
                await asyncio.sleep(1)
        return answer

    await until(200, 30)
    with no_exporter(system):
        refused = await until(503, 120)
        assert refused.code == "ledger_unavailable" and "budget b of namespace" in refused.body
    await until(200, 30)


def counted(system: System, namespace: str) -> int:
    """Return the requests of a namespace that the ledger has."""
    report = UsageReport.model_validate(system.report(f"{PROXY}/usage?namespace={namespace}", token(system)))
    return sum(row.requests for row in report.rows)


async def test_who_denies_is_refused_and_then_billed_once(system: System) -> None:
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "strict", trivial(idle="5m", billing=DENY))
    system.endpoint(namespace, "asleep", trivial(billing=DENY))
    url = system.url(namespace, "strict", "/v1/chat/completions")

    async def ask() -> Answer:
        return await traffic.once(url, key, chat(), timeout=60)

    with tiny_bound(system):
        served = [await ask()]
        assert served[0].status == 200, served[0]
        with no_exporter(system):
            refused: list[Answer] = []
            while len(refused) < 6:
                answer = await ask()
                (served if answer.status == 200 else refused).append(answer)
                # Each activator serves until its first record waits.
                assert len(served) <= 1 + len(system.activators()), served
            for answer in refused:
                assert (answer.status, answer.code) == (503, "ledger_unavailable"), answer
                assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("10", "true")
            cold = await traffic.once(system.url(namespace, "asleep", "/v1/chat/completions"), key, chat(), timeout=60)
            assert cold.code == "ledger_unavailable"
            status = system.status(namespace, "asleep")
            assert status["state"] == "Asleep" and "wakeRequest" not in status
        async with asyncio.timeout(60):
            while (answer := await ask()).status != 200:
                assert answer.code == "ledger_unavailable", answer
        served.append(answer)

        def billed() -> int | None:
            return found if (found := counted(system, namespace)) >= len(served) else None

        found = await asyncio.to_thread(wait_until, "every request is in the ledger", billed, 60, 1.0)
        assert found == len(served), "and once"
