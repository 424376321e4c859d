"""Which idle time was ordered."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, at, busy, fact, instants, life
from zerotide.api.scalars import SECOND
from zerotide.billing.facts import Fact, Kind
from zerotide.billing.fold import Lifetime, Phase, fold
from zerotide.billing.keepwarm import Floor, label_idle, since
from zerotide.billing.spans import Span

IDLE = (Phase.KEEP_WARM, Phase.COOLDOWN)


def lives(*facts: list[Fact], until: float = 1000, spans: tuple[Span, ...] = ()) -> list[Lifetime]:
    """Fold several pods."""
    folded = [fold(each, spans, as_of_us=T0 + round(until * SECOND)) for each in facts]
    return [each for each in folded if each is not None]


def seconds(lifetime: Lifetime, phase: Phase) -> float:
    """Return the seconds that a lifetime spent in a phase."""
    return sum(segment.length_us for segment in lifetime.segments if segment.phase == phase) / SECOND


def idle_us(lifetime: Lifetime) -> int:
    """Return the microseconds of idle time of either kind."""
    return sum(segment.length_us for segment in lifetime.segments if segment.phase in IDLE)


def test_the_oldest_replicas_are_the_warm_ones() -> None:
    first = life("u1", scheduled=0, started=1, ready=10, finished=500)
    second = life("u2", scheduled=100, started=101, ready=110, finished=900)
    labelled = label_idle(lives(first, second), [Floor(T0, 1)])
    assert [seconds(each, Phase.KEEP_WARM) for each in labelled] == [490, 400]
    assert [seconds(each, Phase.COOLDOWN) for each in labelled] == [0, 390]


@pytest.mark.parametrize(
    ("end", "busy"),
    [
        ([fact(Kind.DELETE, 200), fact(Kind.FINISHED, 500)], 0),
        ([fact(Kind.DELETE, 200), fact(Kind.FINISHED, 500)], 400),
        ([fact(Kind.LOST, 200, "node-1")], 0),
        ([fact(Kind.EXITED, 200, "model")], 0),
    ],
    ids=["drains", "drains and ends a request", "is on a node that is lost", "has crashed"],
)
def test_a_replica_that_cannot_serve_leaves_its_place_to_the_next(end: list[Fact], busy: int) -> None:
    first = [*life("u1", scheduled=0, started=1, ready=10), *end]
    second = life("u2", scheduled=100, started=101, ready=110, finished=500)
    spans = (Span(T0 + 150 * SECOND, T0 + busy * SECOND),) if busy else ()
    lifetimes = [fold(first, spans, as_of_us=T0 + 500 * SECOND), *lives(second, until=500)]
    labelled = label_idle([each for each in lifetimes if each is not None], [Floor(T0, 1)])
    assert seconds(labelled[0], Phase.KEEP_WARM) == (140 if busy else 190)
    assert (seconds(labelled[1], Phase.COOLDOWN), seconds(labelled[1], Phase.KEEP_WARM)) == (90, 300)


def test_a_floor_holds_from_its_change_on() -> None:
    only = life(scheduled=0, started=1, ready=10, finished=500)
    steps = [Floor(T0, 0), Floor(T0 + 100 * SECOND, 2), Floor(T0 + 300 * SECOND, 0)]
    (labelled,) = label_idle(lives(only), steps)
    assert seconds(labelled, Phase.KEEP_WARM) == 200
    assert seconds(labelled, Phase.COOLDOWN) == 290


def clock(**scaling: Any) -> str:
    """Return what a floor that the clock moves says."""
    return json.dumps(scaling)


def test_what_a_schedule_keeps_is_kept_warm_while_its_window_is_open() -> None:
    only = life(scheduled=0, started=1, ready=10, finished=900)
    opens = datetime.fromtimestamp(T0 // SECOND + 140, UTC)
    assert opens.second == 0, "windows open at whole minutes"
    window = {"name": "w", "start": f"{opens.minute} {opens.hour} * * *", "duration": "5m", "minReplicas": 1}
    (labelled,) = label_idle(lives(only), [Floor(T0, 0, clock(schedules=[window]))])
    assert [(each.phase, each.length_us // SECOND) for each in labelled.segments[-3:]] == [
        (Phase.COOLDOWN, 130),
        (Phase.KEEP_WARM, 300),
        (Phase.COOLDOWN, 460),
    ]


def test_what_an_override_keeps_is_kept_warm_until_it_ends_or_the_spec_changes() -> None:
    only = life(scheduled=0, started=1, ready=10, finished=900)
    held = clock(minReplicas=1, override={"minReplicas": 2, "until": at(400)})
    let_go = clock(minReplicas=1, override={"minReplicas": 0, "until": at(400)})
    second = life("u2", scheduled=0, started=1, ready=20, finished=900)
    labelled = label_idle(lives(only, second), [Floor(T0, 1, held)])
    assert [seconds(each, Phase.KEEP_WARM) for each in labelled] == [890, 380]
    labelled = label_idle(lives(only, second), [Floor(T0, 1, let_go)])
    assert [seconds(each, Phase.KEEP_WARM) for each in labelled] == [500, 0]
    changed = [Floor(T0, 1, held), Floor(T0 + 100 * SECOND, 0)]
    assert [seconds(each, Phase.KEEP_WARM) for each in label_idle(lives(only, second), changed)] == [90, 80]


def test_without_a_floor_all_idle_time_is_cooldown() -> None:
    folded = lives(life(scheduled=0, started=1, ready=10, finished=500))
    assert label_idle(folded, []) == folded == label_idle(folded, [Floor(T0, 0)])


@given(
    st.lists(st.tuples(instants, instants), min_size=1, max_size=4),
    st.lists(st.builds(Floor, instants, st.integers(0, 3), st.just("")), max_size=4),
    busy,
)
def test_labels_change_no_total_and_never_exceed_the_floor(
    pods: list[tuple[int, int]], floors: list[Floor], spans: list[Span]
) -> None:
    made = []
    for number, (ready, end) in enumerate(pods):
        facts = life(f"u{number}", scheduled=0)
        facts += [fact(Kind.READY, (ready - T0) / SECOND, "", f"u{number}")]
        facts += [fact(Kind.FINISHED, (end - T0) / SECOND, "", f"u{number}")]
        made.append(facts)
    before = [each for facts in made if (each := fold(facts, spans, as_of_us=T0 + 300)) is not None]
    after = label_idle(before, floors)
    for one, other in zip(before, after, strict=True):
        merged = [segment for segment in other.segments if segment.phase not in IDLE]
        assert merged == [segment for segment in one.segments if segment.phase not in IDLE]
        assert idle_us(other) == idle_us(one)
    for t in range(T0, T0 + 300, 7):
        floor = max((step for step in reversed(floors) if step.from_us <= t), default=Floor(0, 0), key=since).replicas
        warm = sum(
            segment.start_us <= t < segment.end_us
            for each in after
            for segment in each.segments
            if segment.phase == Phase.KEEP_WARM
        )
        assert warm <= floor
