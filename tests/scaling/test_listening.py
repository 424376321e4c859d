"""What is learned from demand as the activators tell it, what is kept of it, and how it is explained."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.learning.explain import ENOUGH, learned
from zerotide.scaling.learning.gaps import EDGES, MOST, Gaps
from zerotide.scaling.learning.learner import LONGEST_S, SHORTEST_S, Learner
from zerotide.scaling.learning.listening import Listening
from zerotide.scaling.learning.memory import LONGEST, read, written
from zerotide.scaling.learning.prior import Prior

SHORTEST_US, LONGEST_US = int(SHORTEST_S * SECOND), int(LONGEST_S * SECOND)
NOW = 1_790_000_000 * SECOND


class Conversation(RuleBasedStateMachine):
    """Requests, lost reports and clocks that jump: a silence is counted once, at its length, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = Listening(Learner(Prior(), 10.0, 7.0))
        self.now, self.flying, self.last, self.missing = NOW, 0, 0, False
        self.sure_since: int | None = None
        self.unsure_until: int | None = None
        self.expected = 0.0
        self.number = 0

    def tell(self) -> None:
        """Let the listener look."""
        load = Load(0, self.flying, self.last, self.last, self.now, ("x",) if self.missing else ())
        self.listening.observe(load, self.now)
        if self.missing or self.unsure_until is None:
            self.unsure_until = self.now
        if self.missing or self.flying or not self.last or self.last < self.unsure_until:
            self.sure_since = None
        else:
            self.sure_since = self.last

    @rule()
    def arrive(self) -> None:
        """A request comes."""
        if self.sure_since is not None and not self.missing and not self.flying and self.now > self.sure_since:
            self.expected += (self.now - self.sure_since) / SECOND
            self.number += 1
        self.flying += 1
        self.last = self.now
        self.tell()

    @precondition(lambda self: self.flying)
    @rule()
    def end(self) -> None:
        """A request ends."""
        self.flying -= 1
        self.last = self.now
        self.tell()

    @rule(seconds=st.integers(1, 4_000))
    def wait(self, seconds: int) -> None:
        """Time passes, and somebody looks."""
        self.now += seconds * SECOND
        self.tell()

    @rule(missing=st.booleans())
    def report(self, missing: bool) -> None:
        """An activator is lost, or back."""
        self.missing = missing
        self.tell()

    @rule(back=st.integers(1, 4_000))
    def set_clock_back(self, back: int) -> None:
        """The operator's clock jumps for one look; the activators' stamps stay."""
        jumped = Load(0, self.flying, self.last, self.last, self.now, ("x",) if self.missing else ())
        self.listening.observe(jumped, self.now - back * SECOND)

    @invariant()
    def agrees(self) -> None:
        """As a list of all silences would say."""
        gaps = self.listening.learner.gaps
        assert gaps.seen == self.number
        assert abs(gaps.total_s - self.expected) < 1e-3


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_silence_that_may_not_have_been_one_teaches_nothing() -> None:
    """An activator that goes takes with it what came to it: the others' last request is older than the last one."""
    listening, gaps = Listening(Learner(Prior(), 10.0, 7.0)), None
    for now, load in (
        (NOW, Load(last_request_us=NOW)),
        (NOW + HOUR, Load(last_request_us=NOW + HOUR)),
        (NOW + 2 * HOUR, Load(last_request_us=NOW + HOUR, missing=("gone",))),
        (NOW + 3 * HOUR, Load(last_request_us=NOW)),
        (NOW + 4 * HOUR, Load(last_request_us=NOW + 4 * HOUR)),
        (NOW + 5 * HOUR, Load(last_request_us=NOW + 5 * HOUR)),
    ):
        listening.observe(load, now)
        gaps = listening.learner.gaps
    assert gaps is not None and (gaps.seen, gaps.total_s) == (2, 2 * HOUR / SECOND), "the first and the last"


def test_a_silence_that_was_going_on_before_teaches_nothing() -> None:
    """The operator was not there, and one activator may be new."""
    listening = Listening(Learner(Prior(), 10.0, 7.0))
    listening.observe(Load(last_request_us=NOW - HOUR), NOW)
    listening.observe(Load(last_request_us=NOW + HOUR), NOW + HOUR)
    assert listening.learner.gaps.seen == 0
    listening.observe(Load(last_request_us=NOW + 2 * HOUR), NOW + 2 * HOUR)
    assert listening.learner.gaps.seen == 1


def test_who_waited_for_a_wake() -> None:
    """All held requests, for as long as they were held; not those of the wake before."""
    listening = Listening(Learner(Prior(), 10.0, 7.0))
    quiet = Load(last_request_us=NOW, reported_us=NOW)
    listening.observe(quiet, NOW)
    for wake in range(30):
        begin = NOW + (wake + 1) * HOUR
        listening.observe(replace(quiet, held=1, last_request_us=begin), begin)
        listening.observe(replace(quiet, held=3, last_request_us=begin + 5 * SECOND), begin + 5 * SECOND)
        listening.observe(replace(quiet, in_flight=3, last_request_us=begin + 5 * SECOND), begin + 10 * SECOND)
        listening.woke()
        listening.observe(replace(quiet, last_request_us=begin + MINUTE), begin + MINUTE)
    assert abs(listening.learner.waiting.mean - (5 + 15) / 10) < 0.25
    assert (listening.learner.gaps.seen, listening.learner.after_wakes.seen) == (30, 29)
    assert listening.learner.woken
    listening.observe(replace(quiet, missing=("x",)), NOW + 40 * HOUR)
    assert not listening.learner.woken


def test_a_wake_that_was_over_before_anybody_listened_teaches_nothing() -> None:
    """Neither how long is waited for one, nor that the next silence is the first after one."""
    listening = Listening(Learner(Prior(), 10.0, 7.0))
    listening.observe(Load(in_flight=1, last_activity_us=NOW, last_request_us=NOW, reported_us=NOW), NOW)
    listening.woke()
    assert listening.learner.waiting.wakes == 0 and not listening.learner.woken


@given(lengths=st.lists(st.floats(0, 200_000), max_size=80))
def test_memory(lengths: list[float]) -> None:
    """What is written is read again."""
    gaps = Gaps()
    for length in lengths:
        gaps.add(length)
    assert read(written(gaps)).counts == gaps.counts


def test_memory_is_short_and_robust() -> None:
    """Every bin full, or text that somebody edited."""
    full = Gaps((index, MOST) for index in range(len(EDGES)))
    assert len(written(full)) <= LONGEST
    assert read("3:2 x 4: 7:1:1 900:3 5:99999 -1:4 \N{ARABIC-INDIC DIGIT ONE}:1").filled() == [(3, 2.0)]
    assert read("").seen == 0


@given(lengths=st.lists(st.floats(0, 200_000), max_size=40), given_us=st.integers(SHORTEST_US, LONGEST_US))
def test_the_timeout_stays_within_the_bounds_of_the_field(lengths: list[float], given_us: int) -> None:
    """And the spec's own holds until enough was seen."""
    learner = Learner(Prior(), 1_000_000.0, 7.0)
    for length in lengths:
        learner.silence(length)
    told = learned(learner, given_us)
    assert SHORTEST_US <= told.timeout_us <= LONGEST_US and told.silences == len(lengths)
    if len(lengths) < ENOUGH:
        assert told.timeout_us == given_us and f"holds until there are {ENOUGH}" in told.message
    assert len(told.message) < 1024


def test_the_explanation() -> None:
    """A timer of 40 s with a cold start of 10 s: what each number stands for."""
    learner = Learner(Prior(), 10.0, 7.0)
    for _ in range(100):
        learner.silence(40.0)
    told = learned(learner, 5 * MINUTE)
    assert 40 * SECOND <= told.timeout_us <= 80 * SECOND
    assert told.message.startswith(
        f"after 100 silences: a cold start counts as {learner.choice.break_even_s:.0f} s of an idle replica "
        f"(10 s, {learner.paid:.0%} of it paid in any case, in which 1.0 requests wait); "
    )
    assert 70 <= learner.choice.break_even_s <= 80 and " of silences end in one" in told.message
    assert "under 5m it would be" in told.message
    learner.woke(10.0)
    assert " of silences after a wake end in one" in learned(learner, 5 * MINUTE).message


def test_patience_is_explained() -> None:
    """Who comes without memory, but often enough: longer than a cold start is worth, and what speaks for that."""
    learner, source = Learner(Prior(), 10.0, 15.0), random.Random(7)
    for _ in range(1_000):
        learner.silence(source.expovariate(1 / 100))
    told, worth_s = learned(learner, 5 * MINUTE), learner.choice.break_even_s
    longer = int(learner.gaps.longer_than(worth_s))
    assert told.timeout_us > worth_s * SECOND and longer > 30
    assert told.message.endswith(
        f"; it is longer than a cold start counts as, since {longer} silences tell how such end"
    )


def test_new_prices_change_the_choice() -> None:
    """A cold start that became longer is worth more idle time; the same prices change nothing."""
    learner = Learner(Prior(), 1.0, 7.0)
    for _ in range(100):
        learner.silence(40.0)
    assert learner.choice.timeout_s == 0
    before = learner.choice
    learner.price(Prior(), 1.0, 7.0)
    assert learner.choice is before
    learner.price(Prior(), 60.0, 7.0)
    assert learner.choice.timeout_s >= 40
