"""Whatever came before: once nobody asks, an endpoint comes to rest at its floor, at zero on time, and in few looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.test_decide import NOW
from tests.scaling.test_laws import policies
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.scaling.decide import Facts, Why, decide, wanted
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy
from zerotide.scaling.window import Window

REPORT = SECOND // 2
"""Time between two reports of an activator."""
LATE = 100_000
"""How much later than a report the operator may look."""
LOOKS = 60


@given(
    policy=policies,
    peaks=st.lists(st.tuples(st.integers(0, 3 * MINUTE), st.integers(0, 60)), max_size=8),
    replicas=st.integers(1, 6),
    quiet=st.integers(0, 20 * MINUTE),
    since=st.integers(0, 20 * MINUTE),
    phase=st.integers(0, REPORT - 1),
)
def test_it_comes_to_rest(
    policy: Policy, peaks: list[tuple[int, int]], replicas: int, quiet: int, since: int, phase: int
) -> None:
    """It is looked at only when a decision says so; zero is never early, and late by a report and a look at most."""
    window, lowered = Window(), None
    look: int | None = NOW
    for ago, level in sorted(peaks, reverse=True):
        window = window.add(NOW - ago, level, policy.keep_us)
    last, ready = NOW - quiet, NOW - since
    rest, due = policy.pinned or policy.min_replicas, max(last, ready) + policy.idle_us
    for _ in range(LOOKS):
        if look is None:
            break
        now = look
        reported = now - (now - phase) % REPORT
        load = Load(last_activity_us=last, last_request_us=last, reported_us=reported)
        window = window.add(now, wanted(load, policy, replicas), policy.keep_us)
        decision = decide(policy, load, window, Facts(replicas, ready, lowered_us=lowered), now)
        if decision.replicas < replicas:
            lowered = now
        replicas = decision.replicas
        if replicas == 0:
            assert decision.why is Why.IDLE and due <= now <= max(due, NOW) + REPORT + LATE
        look = decision.until_us
    assert replicas == rest and look is None, "nothing more is to come, and nobody looks again"


@given(policy=policies, wish=st.booleans(), gone=st.integers(0, 20 * MINUTE))
def test_who_sleeps_stays_asleep(policy: Policy, wish: bool, gone: int) -> None:
    """Without a request or a floor nothing is decided, and nothing looked at again."""
    load = Load(last_activity_us=NOW - gone, last_request_us=NOW - gone, reported_us=NOW)
    window = Window().add(NOW, wanted(load, policy), policy.keep_us)
    decision = decide(policy, load, window, Facts(0, wake=Why.REQUEST if wish else None), NOW)
    floor = policy.pinned or policy.min_replicas
    assert decision.replicas == (floor or wish) and (wish or floor or decision.until_us is None)
