"""What the backlog of a cold start weighs: laws, and a wake as it goes with it and without."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import MINUTE, SECOND
from zerotide.scaling.arrivals import Arrivals
from zerotide.scaling.backlog import Backlog, backlog
from zerotide.scaling.decide import Facts, Why, decide, wanted
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy
from zerotide.scaling.window import Window

NOW = 1_790_000_000 * SECOND
HELD = Load(held=600, last_activity_us=NOW, last_request_us=NOW, arrivals=600)
KNOWN = Backlog(came=20, service_us=2 * SECOND, drain_us=MINUTE)


def test_what_comes_and_what_must_be_gone() -> None:
    """Two a second of two seconds each, and 600 that one minute is left for: 4 and 20."""
    assert KNOWN.weigh(600) == 24 and KNOWN.weigh(3) == 3 and KNOWN.weigh(0) == 0
    assert Backlog(came=0, service_us=1, drain_us=MINUTE).weigh(5) == 1


times = st.integers(1, 20 * MINUTE)
backlogs = st.builds(Backlog, came=st.integers(0, 5_000), service_us=times, drain_us=times)
numbers = st.integers(0, 5_000)


@given(known=backlogs, requests=numbers, more=numbers)
def test_it_is_monotone(known: Backlog, requests: int, more: int) -> None:
    """More requests, more that come and longer ones weigh no less; more time weighs no more; never above themselves."""
    weight = known.weigh(requests)
    assert min(requests, 1) <= weight <= requests
    assert known.weigh(requests + more) >= weight
    assert replace(known, came=known.came + more).weigh(requests) >= weight
    assert replace(known, service_us=known.service_us + more).weigh(requests) >= weight
    assert replace(known, drain_us=known.drain_us + more).weigh(requests) <= weight


def test_when_there_is_one() -> None:
    """Until as long after the first replica serves as another start takes, or half of what requests wait for."""
    assert backlog(20, None, MINUTE, 30 * SECOND, None, NOW) is None, "how long requests take is not known"
    assert backlog(20, SECOND, 0, 30 * SECOND, None, NOW) is None, "how long a start takes is not"
    assert backlog(20, SECOND, MINUTE, 30 * SECOND, None, NOW) == Backlog(20, SECOND, 15 * SECOND)
    serving = backlog(20, SECOND, 4 * SECOND, 30 * SECOND, NOW, NOW + 3 * SECOND)
    assert serving == Backlog(20, SECOND, 4 * SECOND, NOW + 4 * SECOND)
    assert backlog(20, SECOND, 4 * SECOND, 30 * SECOND, NOW, NOW + 4 * SECOND) is None


def test_what_came_of_late() -> None:
    """In the last ten seconds; what there is at the first look has come just now, and a count that fell began anew."""
    known = Arrivals.begun(NOW, 40).add(NOW, 43, 3)
    assert known.came(NOW) == 3
    for second in range(1, 31):
        known = known.add(NOW + second * SECOND, 43 + second, 3)
    assert known.came(NOW + 30 * SECOND) == 10 and known.came(NOW + 35 * SECOND) == 5
    assert known.add(NOW + 31 * SECOND, 2, 2).came(NOW + 31 * SECOND) == 0


def decided(load: Load, facts: Facts) -> tuple[int, Why, str, int | None]:
    """Decide for an endpoint with a target of eight."""
    policy = Policy(max_replicas=100)
    decision = decide(policy, load, Window().add(NOW, wanted(load, policy), 0), facts, NOW)
    return decision.replicas, decision.why, decision.message, decision.until_us


def test_the_decision_says_so() -> None:
    """By what held requests count, why, and when they all count again."""
    weighed = replace(HELD, backlog=KNOWN)
    text = "600 requests held, which count as 24 until the backlog of the start is gone "
    text += "(2.0 come a second and take 2s each; 1m to work it off)"
    assert decided(weighed, Facts(wake=Why.REQUEST))[:3] == (3, Why.REQUEST, text)
    assert decided(weighed, Facts())[:2] == (3, Why.DEMAND)
    assert decided(HELD, Facts(wake=Why.REQUEST))[:3] == (75, Why.REQUEST, "600 requests held")
    assert decided(replace(HELD, held=0), Facts(wake=Why.REQUEST))[2] == "a request is held"
    serving = replace(weighed, backlog=replace(KNOWN, until_us=NOW + SECOND))
    replicas, _, message, until_us = decided(serving, Facts(1, NOW - SECOND))
    assert (replicas, until_us) == (3, NOW + SECOND) and message.endswith("off) at a target of 8 per replica")


@dataclass
class Endpoint:
    """One endpoint that wakes under a steady load: each replica serves `target` at once, all starts take as long."""

    rate: float
    service_s: float
    cold_s: float
    weighed: bool
    target: int = 8
    replicas: int = 0
    ready: list[float] = field(default_factory=list)
    gpu_s: float = 0.0
    longest_s: float = 0.0

    def run(self, span_s: float, step_s: float = 0.1) -> None:
        """Let time pass."""
        policy, window, arrivals = Policy(max_replicas=1000, target=self.target), Window(), Arrivals.begun(NOW, 0)
        line: deque[float] = deque()
        flying: deque[float] = deque()
        came = 0
        for index in range(1, round(span_s / step_s)):
            now = index * step_s
            now_us = NOW + round(now * SECOND)
            serving = sorted(at for at in self.ready if at <= now)
            while flying and flying[0] <= now:
                flying.popleft()
            while came < int(now * self.rate):
                came += 1
                line.append(now)
            while line and len(flying) < self.target * len(serving):
                self.longest_s = max(self.longest_s, now - line.popleft())
                flying.append(now + self.service_s)
            arrivals = arrivals.add(now_us, came, len(line))
            since_us = NOW + round(serving[0] * SECOND) if serving else None
            service_us, cold_us = round(self.service_s * SECOND), round(self.cold_s * SECOND)
            known = backlog(arrivals.came(now_us), service_us, cold_us, 10 * MINUTE, since_us, now_us)
            load = Load(len(line), len(flying), now_us, now_us, now_us, arrivals=came)
            load = replace(load, backlog=known) if self.weighed else load
            window = window.add(now_us, wanted(load, policy), policy.keep_us)
            decision = decide(policy, load, window, Facts(len(self.ready), since_us), now_us)
            self.ready = sorted(self.ready)[: decision.replicas]
            self.ready += [now + self.cold_s] * (decision.replicas - len(self.ready))
            self.gpu_s += len(self.ready) * step_s


@pytest.mark.parametrize(
    ("rate", "service_s", "cold_s"), [(2.0, 2.0, 60.0), (10.0, 0.5, 30.0), (1.0, 20.0, 60.0), (20.0, 1.0, 5.0)]
)
def test_a_wake_with_it_and_without(rate: float, service_s: float, cold_s: float) -> None:
    """Hardly anybody waits for longer than the first one did, for less time of replicas where loading is long."""
    by_rate, by_backlog = (Endpoint(rate, service_s, cold_s, weighed) for weighed in (True, False))
    for each in (by_rate, by_backlog):
        each.run(4 * cold_s)
    assert by_rate.longest_s <= 1.2 * cold_s
    assert by_rate.gpu_s <= by_backlog.gpu_s
    if service_s * 10 < cold_s:
        assert by_rate.gpu_s < 0.5 * by_backlog.gpu_s
    assert len(by_rate.ready) >= rate * service_s / 8
