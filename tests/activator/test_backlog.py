"""How much may wait for the exporter: the decision by itself, against a list of all records."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from zerotide.activator.usage.backlog import MARKS, REOPEN, Backlog, Bounds, Cause, Waiting, closed_by

BOUNDS = st.builds(Bounds, st.integers(1, 500), st.integers(1, 50), st.integers(1, 10_000))
WAITING = st.builds(Waiting, st.integers(0, 1000), st.integers(0, 100), st.integers(0, 20_000))
BEFORE = st.one_of(st.none(), st.sampled_from(Cause))


@given(WAITING, BOUNDS, BEFORE)
def test_a_disk_that_takes_nothing_closes_whatever_else(waiting: Waiting, bounds: Bounds, before: Cause | None) -> None:
    assert closed_by(waiting, bounds, writable=False, before=before) is Cause.UNWRITABLE


@given(WAITING, BOUNDS, BEFORE)
def test_at_a_bound_it_is_closed_and_well_below_all_it_is_open(
    waiting: Waiting, bounds: Bounds, before: Cause | None
) -> None:
    cause = closed_by(waiting, bounds, writable=True, before=before)
    if waiting.fill(bounds) >= 1:
        assert cause is not None
    if all(mine * 100 <= most * REOPEN for mine, most in zip(waiting, bounds, strict=True)):
        assert cause is None
    if before is None and waiting.fill(bounds) < 1:
        assert cause is None


@given(WAITING, BOUNDS)
def test_a_record_is_lost_for_want_of_room_alone(waiting: Waiting, bounds: Bounds) -> None:
    cause = closed_by(waiting, bounds, writable=True, before=None)
    lost = cause is not None and cause.loses
    assert lost is (waiting.bytes >= bounds.bytes or waiting.records >= bounds.records)


@given(WAITING, BOUNDS, BEFORE)
def test_what_is_decided_is_decided(waiting: Waiting, bounds: Bounds, before: Cause | None) -> None:
    """The same state judged again is judged alike: nothing opens and closes by itself."""
    cause = closed_by(waiting, bounds, writable=True, before=before)
    assert closed_by(waiting, bounds, writable=True, before=cause) is cause


@given(WAITING, WAITING, BOUNDS)
def test_more_that_waits_never_opens(one: Waiting, more: Waiting, bounds: Bounds) -> None:
    larger = Waiting(one.bytes + more.bytes, one.records + more.records, one.age_us + more.age_us)
    if closed_by(one, bounds, writable=True, before=None) is not None:
        assert closed_by(larger, bounds, writable=True, before=None) is not None


WRITES = st.tuples(st.just("wrote"), st.integers(1, 50), st.integers(0, 300))
TAKES = st.tuples(st.just("taken"), st.integers(0, 9), st.just(0))


@given(st.lists(st.one_of(WRITES, TAKES), max_size=60), st.integers(100, 10_000))
def test_it_counts_as_a_list_of_all_records_does(steps: list[tuple[str, int, int]], longest: int) -> None:
    """Bytes and records to the last one; the age at least as old, and by no more than a part of the longest."""
    backlog, kept, now = Backlog(longest), list[tuple[int, int]](), 1000
    for what, number, later in steps:
        now += later
        if what == "wrote":
            kept.append((number, now))
            backlog.wrote(number, 1, now)
        else:
            batch, kept = kept[:number], kept[number:]
            backlog.taken(sum(size for size, _ in batch), len(batch))
        waiting = backlog.waiting(now)
        assert (waiting.bytes, waiting.records) == (sum(size for size, _ in kept), len(kept))
        age = now - kept[0][1] if kept else 0
        assert age <= waiting.age_us <= age + max(longest // MARKS, 1)


def test_a_batch_that_is_sent_twice_counts_once() -> None:
    backlog = Backlog(1000)
    backlog.wrote(10, 2, 5)
    backlog.taken(10, 2)
    backlog.taken(10, 2)
    assert backlog.waiting(99) == Waiting(0, 0, 0)
    backlog.wrote(7, 1, 50)
    assert backlog.waiting(60) == Waiting(7, 1, 10)
