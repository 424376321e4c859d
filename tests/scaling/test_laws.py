"""The laws that no history may break: bounds, sleep, no flapping, and that more load never means fewer replicas."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.scaling.test_decide import NOW, take
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.scaling.arrivals import Arrivals
from zerotide.scaling.backlog import Backlog, backlog
from zerotide.scaling.decide import Facts, Why, decide, wanted
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy
from zerotide.scaling.schedules import By, Floor
from zerotide.scaling.service import Service
from zerotide.scaling.window import Window

numbers = st.integers(0, 50)
lengths = st.integers(1, 60 * SECOND)
loads = st.builds(
    Load,
    held=numbers,
    in_flight=numbers,
    last_activity_us=st.integers(NOW - 20 * MINUTE, NOW),
    last_request_us=st.integers(0, NOW),
    reported_us=st.integers(NOW - 20 * MINUTE, NOW + MINUTE),
    missing=st.sampled_from([(), ("x",)]),
    wait_us=st.integers(0, 10 * SECOND),
    queued=numbers,
    tokens=st.integers(0, 50_000),
    backlog=st.one_of(st.none(), st.builds(Backlog, came=numbers, service_us=lengths, drain_us=lengths)),
)
policies = st.builds(
    Policy,
    min_replicas=st.integers(0, 2),
    max_replicas=st.integers(2, 6),
    pinned=st.sampled_from([0, 0, 0, 2]),
    target=st.integers(1, 9),
    idle_us=st.integers(5, 600).map(lambda seconds: seconds * SECOND),
    scale_up_us=st.integers(0, 60).map(lambda seconds: seconds * SECOND),
    scale_down_us=st.integers(0, 120).map(lambda seconds: seconds * SECOND),
    queue_delay_us=st.sampled_from([0, 0, 500_000]),
    engine_queue=st.sampled_from([0, 0, 3]),
    tokens=st.sampled_from([0, 0, 10_000]),
)
facts = st.builds(
    Facts,
    replicas=st.integers(0, 6),
    since_us=st.one_of(st.none(), st.integers(NOW - 20 * MINUTE, NOW)),
    wake=st.sampled_from([None, Why.REQUEST, Why.ANNOTATION]),
    sleep=st.booleans(),
    lowered_us=st.one_of(st.none(), st.integers(NOW - 5 * MINUTE, NOW + 5 * MINUTE)),
)


@given(policy=policies, load=loads, known=facts)
def test_bounds_and_safety(policy: Policy, load: Load, known: Facts) -> None:
    """Within the bounds; never zero with a request held or in flight; never in the past when to look again."""
    decision = take(policy, load, known)
    if policy.pinned:
        assert decision.replicas == policy.pinned
        return
    assert decision.replicas <= policy.max_replicas
    assert decision.replicas >= policy.min_replicas
    if known.replicas and load.active:
        assert decision.replicas >= 1
    if load.held:
        assert decision.replicas >= 1
    if known.replicas and not policy.min_replicas and decision.replicas == 0:
        assert not load.missing
        assert known.sleep or load.reported_us >= load.last_activity_us + policy.idle_us
    if load.missing:
        assert decision.replicas >= min(known.replicas, policy.max_replicas), "who says nothing takes nothing away"
    assert decision.until_us is None or decision.until_us > NOW


@given(policy=policies, load=loads, known=facts)
def test_a_floor_that_is_withheld_is_none(policy: Policy, load: Load, known: Facts) -> None:
    """In replicas and in when to look again; what differs is what is told."""
    withheld, without = take(policy.withholding("b"), load, known), take(replace(policy, min_replicas=0), load, known)
    assert replace(withheld, why=without.why, message=without.message) == without
    if withheld.why is Why.BUDGET:
        assert withheld.replicas < min(known.replicas, policy.min_replicas)
        assert withheld.message.endswith(without.message) and "keeps none: b" in withheld.message


@given(policy=policies, load=loads, known=facts, more=numbers)
def test_more_load_never_means_fewer_replicas(policy: Policy, load: Load, known: Facts, more: int) -> None:
    """Under a steady load."""
    heavier = replace(load, in_flight=load.in_flight + more, tokens=load.tokens + 1_000 * more)
    assert take(policy, heavier, known).replicas >= take(policy, load, known).replicas


@given(policy=policies, load=loads, known=facts)
def test_a_decision_that_was_taken_stands(policy: Policy, load: Load, known: Facts) -> None:
    """Deciding again from where it led changes nothing, as long as nothing else does."""
    decision = take(policy, load, known)
    lowered = NOW if decision.replicas < known.replicas else known.lowered_us
    after = Facts(replicas=decision.replicas, since_us=known.since_us, lowered_us=lowered)
    again = take(policy, load, after)
    assert again.replicas == decision.replicas or (decision.replicas > 0 and again.why is Why.IDLE)


class Endpoint(RuleBasedStateMachine):
    """One endpoint through arrivals, ends, restarts of activators and operators, and time."""

    @initialize(policy=policies)
    def begin(self, policy: Policy) -> None:
        """Start asleep, with an activator that has long been there."""
        self.policy = replace(policy, pinned=0)
        self.now, self.held, self.flying = NOW, 0, 0
        self.last, self.reported, self.replicas = NOW - 3600 * SECOND, NOW, 0
        self.since: int | None = None
        self.window = Window()
        self.missing = self.wish = False
        self.lowered: int | None = None
        self.arrivals, self.came = Arrivals(), 0
        self.service = Service()

    def load(self) -> Load:
        """Return what the activators say."""
        missing = ("x",) if self.missing else ()
        reported, came = (0, 0) if self.missing else (self.reported, self.came)
        self.arrivals = self.arrivals.add(self.now, came, self.held)
        wait = self.arrivals.wait_us(self.held, self.now)
        assert wait >= 0
        load = Load(self.held, self.flying, self.last, self.last, reported, missing, came, wait)
        self.service = self.service.add(self.now, load)
        recent, each = self.arrivals.came(self.now), self.service.time_us
        return replace(load, backlog=backlog(recent, each, 60 * SECOND, 30 * SECOND, self.since, self.now))

    @rule()
    def arrive(self) -> None:
        """A request comes: it flies where a replica has room, else it is held."""
        self.last = self.now
        self.came += 1
        if self.since is not None and self.flying < 2 * self.policy.target * self.replicas:
            self.flying += 1
        else:
            self.held += 1

    @precondition(lambda self: self.flying > 0)
    @rule()
    def finish(self) -> None:
        """A request ends."""
        self.flying -= 1
        self.last = self.now

    @rule(seconds=st.integers(1, 400))
    def tick(self, seconds: int) -> None:
        """Time passes, and the activators report."""
        self.now += seconds * SECOND
        self.reported = self.now

    @precondition(lambda self: self.replicas > 0)
    @rule()
    def ready(self) -> None:
        """A replica serves: what was held flies."""
        self.since = self.since if self.since is not None else self.now
        self.flying, self.held = self.flying + self.held, 0

    @precondition(lambda self: self.since is not None)
    @rule()
    def die(self) -> None:
        """The last pod dies: what flew is held again."""
        self.since = None
        self.held, self.flying = self.held + self.flying, 0

    @rule(down=st.booleans())
    def stream(self, down: bool) -> None:
        """An activator's stream breaks, or is back; its restart counts as activity."""
        if self.missing and not down:
            self.last = self.now
        self.missing = down

    @rule()
    def ask_to_sleep(self) -> None:
        """Somebody asks for one sleep."""
        self.wish = self.replicas > 0

    @rule()
    def restart(self) -> None:
        """The operator forgets what it did not write down."""
        self.window, self.arrivals, self.service = Window(), Arrivals(), Service()

    @rule(seconds=st.integers(-400, 400))
    def jump(self, seconds: int) -> None:
        """The operator's clock is put right, and nobody else's; what is heard from now on is by the new one."""
        self.now += seconds * SECOND

    @rule(policy=policies)
    def change(self, policy: Policy) -> None:
        """Somebody edits the spec."""
        self.policy = replace(policy, pinned=0)

    @invariant()
    def decides(self) -> None:
        """Decide; check what must hold of every decision."""
        if not hasattr(self, "policy"):
            return
        load = self.load()
        serving = self.replicas if self.since is not None else 0
        self.window = self.window.add(self.now, wanted(load, self.policy, serving), self.policy.keep_us)
        facts = Facts(self.replicas, self.since, sleep=self.wish, lowered_us=self.lowered)
        decision = decide(self.policy, load, self.window, facts, self.now)
        assert decision.until_us is None or decision.until_us > self.now
        assert self.policy.min_replicas <= decision.replicas <= self.policy.max_replicas
        if decision.replicas == 0 and self.replicas:
            assert not load.active and not load.missing
            assert self.wish or self.now - self.last >= self.policy.idle_us
        if load.held:
            assert decision.replicas >= 1
        if load.missing:
            assert decision.replicas >= min(self.replicas, self.policy.max_replicas)
        halved = self.replicas - self.replicas // 2
        if 0 < decision.replicas < self.replicas and self.policy.scale_down_us > 1:
            assert decision.replicas >= min(halved, self.policy.max_replicas), "no more than half at once"
        if decision.replicas < self.replicas:
            self.lowered = self.now
        self.replicas = decision.replicas
        if not self.replicas:
            self.since, self.wish = None, False

    def teardown(self) -> None:
        """However it went: without requests it comes to rest at its minimum."""
        if not hasattr(self, "policy"):
            return
        self.missing, self.held, self.flying = False, 0, 0
        self.now = max(self.now, self.last)
        if self.replicas and self.since is None:
            self.since = self.now
        for _ in range(4):
            self.now += self.policy.idle_us + 200 * SECOND
            self.reported = self.now
            self.decides()
        assert self.replicas == self.policy.min_replicas


TestEndpoint = Endpoint.TestCase
TestEndpoint.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(
    policy=policies,
    peaks=st.lists(st.integers(0, 30), min_size=2, max_size=30),
    level=st.integers(1, 30),
)
def test_no_flapping_under_a_constant_load(policy: Policy, peaks: list[int], level: int) -> None:
    """Whatever came before: once the load is constant, replicas change direction at most once."""
    policy = replace(policy, pinned=0)
    window, now, replicas = Window(), NOW, 1
    changes, lowered = [], None
    for index, in_flight in enumerate([*peaks, *[level] * 60]):
        now += 5 * SECOND
        load = Load(0, in_flight, now, now, now)
        window = window.add(now, wanted(load, policy), policy.keep_us)
        decision = decide(policy, load, window, Facts(replicas, NOW, lowered_us=lowered), now)
        if decision.replicas < replicas:
            lowered = now
        if index > len(peaks) and decision.replicas != replicas:
            changes.append(decision.replicas > replicas)
        replicas = decision.replicas
    turns = sum(one != other for one, other in itertools.pairwise(changes))
    assert turns <= 1
    assert replicas == min(max(wanted(Load(in_flight=level), policy), policy.min_replicas, 1), policy.max_replicas)


@given(
    policy=policies,
    load=loads,
    known=facts,
    floor=st.integers(0, 9),
    by=st.sampled_from(list(By)),
)
def test_floors_by_the_clock_are_floors_like_any_other(
    policy: Policy, load: Load, known: Facts, floor: int, by: By
) -> None:
    """Whoever sets them: the same number as `minReplicas` gives, within the bounds, and the decision names them."""
    floored = policy.at_least(Floor(floor, by, "the clock"))
    decision = take(floored, load, known)
    plain = take(replace(policy, min_replicas=min(floor, policy.max_replicas)), load, known)
    assert (decision.replicas, decision.until_us) == (plain.replicas, plain.until_us)
    if plain.why is Why.MIN_REPLICAS:
        assert decision.why.value == by.value and "the clock" in decision.message
    else:
        assert decision.why is plain.why
