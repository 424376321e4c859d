"""The laws of the fold, and the shapes of lives it must tell apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, born, busy, fact, instants, life, pod_facts
from zerotide.api.scalars import SECOND
from zerotide.billing.errors import InvalidFact
from zerotide.billing.facts import (
    END_RANK,
    SOURCE_NODE,
    SOURCE_SPEC,
    Accelerator,
    Allocation,
    Fact,
    Identity,
    Kind,
    decode_accelerator,
    decode_allocation,
    decode_identity,
    encode,
    run_key,
    run_number,
)
from zerotide.billing.fold import Flag, Lifetime, Phase, fold
from zerotide.billing.spans import Span, total_us, union

NOW = T0 + 300


def shape(folded: Lifetime | None) -> list[tuple[str, float, float]]:
    """Return (phase, from, to) in seconds after T0."""
    assert folded is not None
    return [
        (segment.phase.value, (segment.start_us - T0) / SECOND, (segment.end_us - T0) / SECOND)
        for segment in folded.segments
    ]


def later(seconds: float) -> int:
    """Return an instant in seconds after T0."""
    return T0 + round(seconds * SECOND)


@given(pod_facts(), busy, st.integers(T0 + 1, NOW))
def test_segments_partition_the_allocation(facts: list[Fact], spans: list[Span], as_of: int) -> None:
    folded = fold(facts, spans, as_of_us=as_of)
    assert folded is not None
    allocated = [segment for segment in folded.segments if segment.phase != Phase.QUEUED]
    assert sum(segment.length_us for segment in allocated) == folded.allocated_us >= 0
    assert all(segment.length_us > 0 for segment in folded.segments)
    assert all(one.end_us == other.start_us for one, other in pairwise(allocated))
    if allocated:
        assert (allocated[0].start_us, allocated[-1].end_us) == (folded.start_us, folded.end_us)


@given(pod_facts(), busy, st.randoms())
def test_order_and_repetition_of_facts_change_nothing(facts: list[Fact], spans: list[Span], rng: object) -> None:
    shuffled = [*facts, *facts[: len(facts) // 2]]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled, reversed(spans), as_of_us=NOW) == fold(facts, spans, as_of_us=NOW)


@given(pod_facts(), busy)
def test_the_total_depends_on_scheduled_and_the_end_alone(facts: list[Fact], spans: list[Span]) -> None:
    bounds = {*END_RANK, Kind.SCHEDULED, Kind.CREATED, Kind.POD, Kind.ALLOCATION}
    bare = fold([each for each in facts if each.kind in bounds], as_of_us=NOW)
    full = fold(facts, spans, as_of_us=NOW)
    assert bare is not None
    assert full is not None
    assert (bare.start_us, bare.end_us) == (full.start_us, full.end_us)


@given(pod_facts(), busy, st.integers(T0 + 1, NOW), st.integers(T0 + 1, NOW))
def test_what_is_known_to_be_over_is_the_same_at_every_later_time(
    facts: list[Fact], spans: list[Span], one: int, other: int
) -> None:
    early, late = sorted((one, other))
    before, after = fold(facts, spans, as_of_us=early), fold(facts, spans, as_of_us=late)
    assert before is not None
    assert after is not None
    assert before.start_us <= after.start_us or before.allocated_us == 0
    assert before.allocated_us <= after.allocated_us
    if before.ended and before.allocated_us:
        assert (before.start_us, before.end_us) == (after.start_us, after.end_us)


@given(pod_facts(), busy)
def test_active_time_is_the_union_of_what_was_in_flight(facts: list[Fact], spans: list[Span]) -> None:
    folded = fold([each for each in facts if each.kind != Kind.LOST], spans, as_of_us=NOW)
    assert folded is not None
    active = sum(segment.length_us for segment in folded.segments if segment.phase == Phase.ACTIVE)
    clipped = [Span(max(span.start_us, folded.start_us), min(span.end_us, folded.end_us)) for span in spans]
    assert active == total_us(union(clipped))


@given(pod_facts(), st.lists(st.tuples(st.sampled_from([*END_RANK]), instants), min_size=1, max_size=5))
def test_the_best_witness_names_the_end(facts: list[Fact], ends: list[tuple[Kind, int]]) -> None:
    facts = [each for each in facts if each.kind not in END_RANK]
    facts += [Fact("c", "u1", kind, "", t_us) for kind, t_us in ends]
    folded = fold([*facts, fact(Kind.SCHEDULED, 0)], as_of_us=NOW)
    best = max((kind for kind, _ in ends), key=END_RANK.__getitem__)
    choose = min if best == Kind.GONE else max
    assert folded is not None
    assert (folded.ended, folded.end_us) == (best, choose(t_us for kind, t_us in ends if kind == best))


@given(st.integers(-600, 600), st.sampled_from([Kind.STARTED, Kind.READY, Kind.DELETE]))
def test_a_clock_that_is_off_moves_edges_and_never_the_total(skew: int, kind: Kind) -> None:
    facts = life(scheduled=10, started=15, ready=40, delete=100, finished=130)
    skewed = [each._replace(t_us=each.t_us + skew * SECOND) if each.kind == kind else each for each in facts]
    folded = fold(skewed, as_of_us=later(1000))
    assert folded is not None
    assert folded.allocated_us == 120 * SECOND
    assert all(segment.length_us > 0 for segment in folded.segments)


def test_a_whole_life() -> None:
    facts = life(created=0, scheduled=2, started=5, ready=20, delete=60, finished=70)
    folded = fold(facts, [Span(later(25), later(30)), Span(later(28), later(40))], as_of_us=later(100))
    assert shape(folded) == [
        ("queued", 0, 2),
        ("provisioning", 2, 5),
        ("loading", 5, 20),
        ("idle_cooldown", 20, 25),
        ("active", 25, 40),
        ("idle_cooldown", 40, 60),
        ("draining", 60, 70),
    ]
    assert folded is not None
    assert (folded.ended, folded.warm_us, folded.flags) == ("finished", later(20), frozenset())


def test_requests_in_flight_are_active_while_the_pod_drains() -> None:
    facts = life(scheduled=0, started=1, ready=2, delete=10, finished=20)
    folded = fold(facts, [Span(later(8), later(15))], as_of_us=later(100))
    assert shape(folded)[-2:] == [("active", 8, 15), ("draining", 15, 20)]


def test_a_request_proves_readiness_where_the_meter_missed_it() -> None:
    facts = life(scheduled=0, started=1, delete=10, finished=20)
    folded = fold(facts, [Span(later(5), later(6))], as_of_us=later(100))
    assert shape(folded)[1:3] == [("loading", 1, 5), ("active", 5, 6)]
    assert folded is not None
    assert folded.flags == {Flag.READY_ESTIMATED}


def test_a_crash_loop_is_blocked_between_runs() -> None:
    facts = life(scheduled=0, started=1, finished=60)
    facts += [fact(Kind.EXITED, 10), fact(Kind.STARTED, 30), fact(Kind.EXITED, 40), fact(Kind.BACKOFF, 12)]
    assert shape(fold(facts, as_of_us=later(100))) == [
        ("provisioning", 0, 1),
        ("loading", 1, 10),
        ("blocked", 10, 30),
        ("loading", 30, 40),
        ("blocked", 40, 60),
    ]


def test_a_restart_in_the_second_of_the_exit_is_a_run_of_its_own() -> None:
    """The kubelet restarts at once the first time; the exit that both stamps share is of the run before."""
    facts = [*life(scheduled=0, started=1), fact(Kind.EXITED, 20), fact(Kind.STARTED, 20, "model#1")]
    facts = [*facts, fact(Kind.READY, 30)]
    assert shape(fold(facts, as_of_us=later(90)))[1:] == [("loading", 1, 30), ("idle_cooldown", 30, 90)]
    unnumbered = [each._replace(key="model") if each.kind == Kind.STARTED else each for each in facts]
    assert shape(fold(unnumbered, as_of_us=later(90))) == shape(fold(facts, as_of_us=later(90)))


def test_a_container_that_dies_at_once_and_then_runs_is_not_blocked() -> None:
    facts = [*life(scheduled=0, started=1), fact(Kind.EXITED, 1), fact(Kind.STARTED, 1, "model#1")]
    assert shape(fold([*facts, fact(Kind.READY, 9)], as_of_us=later(90)))[1:] == [
        ("loading", 1, 9),
        ("idle_cooldown", 9, 90),
    ]


def test_a_pod_that_was_ready_after_an_exit_had_a_run_that_nobody_saw_start() -> None:
    facts = [*life(scheduled=0, started=1), fact(Kind.EXITED, 5), fact(Kind.READY, 30)]
    folded = fold(facts, as_of_us=later(90))
    assert shape(folded)[1:] == [("loading", 1, 5), ("blocked", 5, 30), ("idle_cooldown", 30, 90)]
    assert folded is not None
    assert folded.flags == {Flag.RESTARTS_MISSED}


def test_a_request_that_the_exit_cut_proves_no_further_run() -> None:
    """Its clock is finer than the kubelet's, so it seems to have begun after the exit."""
    facts = [*life(scheduled=0, started=1, ready=2), fact(Kind.EXITED, 10)]
    folded = fold(facts, [Span(later(10.2), later(10.6))], as_of_us=later(90))
    assert shape(folded)[-2:] == [("active", 10.2, 10.6), ("blocked", 10.6, 90)]


def test_restarts_that_nobody_saw_are_told() -> None:
    """While the exporter was away the container was restarted more than once: the kubelet tells of the last run."""
    facts = [*life(scheduled=0, started=1), fact(Kind.STARTED, 50, "model#4"), fact(Kind.EXITED, 52, "model#4")]
    folded = fold(facts, as_of_us=later(90))
    assert shape(folded)[1:] == [("loading", 1, 52), ("blocked", 52, 90)]
    assert folded is not None
    assert folded.flags == {Flag.RESTARTS_MISSED}


lengths = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=6)


@given(lengths, st.booleans())
def test_back_off_is_what_lies_between_runs(runs: list[tuple[int, int]], exits: bool) -> None:
    """Runs and the time before each, in tenths of seconds, as the kubelet stamps them: in whole ones."""
    facts, now, expected, before = life(scheduled=0), 0, 0, None
    for number, (wait, length) in enumerate(runs):
        start, stop = (now + wait) // 10, (now + wait + length) // 10
        facts.append(fact(Kind.STARTED, start, run_key("model", number)))
        expected += 0 if before is None else start - before
        if exits or number + 1 < len(runs):
            facts.append(fact(Kind.EXITED, stop, run_key("model", number)))
            before = stop
        now += wait + length
    expected += 100 - before if exits and before is not None else 0
    folded = fold(facts, as_of_us=later(100))
    assert folded is not None
    blocked = [segment.length_us for segment in folded.segments if segment.phase == Phase.BLOCKED]
    assert sum(blocked) == expected * SECOND
    assert not folded.flags


def test_an_image_that_cannot_be_pulled_blocks_from_the_back_off_on() -> None:
    facts = life(scheduled=0, delete=50, finished=51)
    facts += [fact(Kind.BACKOFF, 8, "ErrImagePull"), fact(Kind.BACKOFF, 20, "ImagePullBackOff")]
    expected = [("provisioning", 0, 8), ("blocked", 8, 50), ("draining", 50, 51)]
    assert shape(fold(facts, as_of_us=later(100))) == expected


def test_a_restart_that_recovers_serves_again() -> None:
    facts = life(scheduled=0, started=1, ready=5)
    facts += [fact(Kind.EXITED, 20), fact(Kind.STARTED, 21), fact(Kind.READY, 30)]
    assert shape(fold(facts, as_of_us=later(40))) == [
        ("provisioning", 0, 1),
        ("loading", 1, 5),
        ("idle_cooldown", 5, 20),
        ("blocked", 20, 21),
        ("loading", 21, 30),
        ("idle_cooldown", 30, 40),
    ]


def test_a_lost_node_stops_the_clock_and_its_return_heals_it() -> None:
    facts = [*life(scheduled=0, started=1, ready=5), fact(Kind.LOST, 30, "node-1")]
    lost = fold(facts, [Span(later(25), later(90))], as_of_us=later(100))
    assert shape(lost)[-2:] == [("active", 25, 30), ("lost", 30, 100)]
    back = fold([*facts, fact(Kind.ALIVE, 80, "node-1")], as_of_us=later(100))
    assert shape(back)[-1] == ("idle_cooldown", 5, 100)
    told = fold([*facts, fact(Kind.FINISHED, 60)], as_of_us=later(100))
    assert shape(told)[-1] == ("idle_cooldown", 5, 60)
    missed = fold([*facts, fact(Kind.GONE, 60)], as_of_us=later(100))
    assert shape(missed)[-1] == ("lost", 30, 60)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (born(), [("queued", 0, 100)]),
        ([*born(), fact(Kind.GONE, 40)], [("queued", 0, 40)]),
        (life(scheduled=0, gone=40), [("provisioning", 0, 40)]),
        (life(created=5, scheduled=5, finished=5), []),
        (life(scheduled=50, finished=20), [("queued", 0, 50)]),
        (life(scheduled=2, ready=9, finished=20), [("queued", 0, 2), ("provisioning", 2, 9), ("idle_cooldown", 9, 20)]),
    ],
    ids=[
        "never scheduled",
        "deleted while queued",
        "never started",
        "no length",
        "ends before it began",
        "start unseen",
    ],
)
def test_incomplete_lives(facts: list[Fact], expected: list[tuple[str, float, float]]) -> None:
    assert shape(fold(facts, as_of_us=later(100))) == expected


def test_a_pod_that_nobody_identifies_has_no_lifetime() -> None:
    assert fold([fact(Kind.CREATED, 0), fact(Kind.SCHEDULED, 1)], as_of_us=NOW) is None
    assert fold(life(created=10), as_of_us=later(10)) is None
    assert fold([], as_of_us=NOW) is None


def test_the_endpoint_beats_the_node_in_naming_the_accelerator() -> None:
    facts = life(scheduled=0, class_name="nvidia-l4")
    named = fact(Kind.ACCELERATOR, 5, encode(Accelerator(SOURCE_SPEC, "mine")))
    folded = fold([*facts, named], as_of_us=later(10))
    assert folded is not None
    assert folded.accelerator == Accelerator(SOURCE_SPEC, "mine")


@given(st.text(), st.text(), st.text(), st.integers(), st.integers(min_value=1))
def test_keys_are_read_back(one: str, two: str, three: str, number: int, parts: int) -> None:
    assert decode_identity(encode(Identity(one, two, three))) == Identity(one, two, three)
    assert decode_allocation(encode(Allocation(one, number, 1, 2))) == Allocation(one, number, 1, 2)
    accelerator = Accelerator(SOURCE_NODE, two, parts)
    assert decode_accelerator(encode(accelerator)) == accelerator
    assert run_number(run_key("model", abs(number))) == abs(number)


@pytest.mark.parametrize("key", ["", "[", "{}", "[1,2]", '["a",1]', '[1,"x",0]', '["a","b",3]'])
def test_keys_of_another_make_are_refused(key: str) -> None:
    for decode in (decode_identity, decode_allocation, decode_accelerator):
        with pytest.raises(InvalidFact):
            decode(key)
