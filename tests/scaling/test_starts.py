"""Failed starts are counted within a window; each is given up in its time, and the next waits longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy
from zerotide.scaling.starts import FailedStarts, believed, failed, give_up_at, given_up

NOW = 1_790_000_000 * SECOND
POLICY = Policy()


def count_of(times: list[int], policy: Policy) -> FailedStarts:
    """Return the record after failures at these times."""
    starts = FailedStarts()
    for time in times:
        starts = failed(believed(starts, policy, time), "CrashLooping", "boom", policy, time)
    return starts


def test_failures_add_up_within_the_window() -> None:
    """Each is forgotten by itself, once it is older than the window."""
    one = failed(FailedStarts(), "CrashLooping", "boom", POLICY, NOW)
    two = failed(one, "OutOfMemory", "killed", POLICY, NOW + 59 * MINUTE)
    assert (two.count, two.since_us, two.reason, two.retry_us) == (2, NOW, "OutOfMemory", None)
    third = failed(two, "CrashLooping", "boom", POLICY, NOW + HOUR)
    assert (third.count, third.since_us) == (3, NOW)
    late = failed(third, "CrashLooping", "boom", POLICY, NOW + HOUR + 1)
    assert late.times_us == (NOW + HOUR + 1, NOW + HOUR, NOW + 59 * MINUTE)


def test_failures_on_both_sides_of_an_hour_count_together() -> None:
    """Three within two minutes are three, whenever others came before them."""
    starts = count_of([NOW, NOW + 59 * MINUTE, NOW + 60 * MINUTE + 1, NOW + 61 * MINUTE], POLICY)
    assert starts.count == 3
    assert give_up_at(starts, NOW, False, Load(held=1), POLICY) == NOW + SECOND


GAPS = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 4_000)), min_size=1, max_size=130)
WINDOWS = st.integers(60, 86_400)


@given(gaps=GAPS, window=WINDOWS, most=st.integers(1, 100))
def test_those_count_that_are_younger_than_the_window(gaps: list[int], window: int, most: int) -> None:
    """And no others, of the newest hundred; one is given up for their number if they are as many, and only then."""
    policy = Policy(failure_window_us=window * SECOND, max_failures=most)
    times = [NOW + SECOND * sum(gaps[: end + 1]) for end in range(len(gaps))]
    starts = count_of(times, policy)
    young = [time for time in times if times[-1] - time <= policy.failure_window_us]
    assert starts.times_us == tuple(reversed(young))[:100] and starts.since_us == starts.times_us[-1]
    assert (give_up_at(starts, NOW, False, Load(held=1), policy) is not None) == (len(young) >= most)


@given(gaps=GAPS, more=st.integers(0, 4_000), window=WINDOWS)
def test_longer_windows_and_more_failures_never_count_less(gaps: list[int], more: int, window: int) -> None:
    """A failure that came before others takes none of them away, and a longer window holds what a shorter one does."""
    times = [NOW + SECOND * sum(gaps[: end + 1]) for end in range(len(gaps))]
    policy, longer = Policy(failure_window_us=window * SECOND), Policy(failure_window_us=2 * window * SECOND)
    starts = count_of(times, policy)
    assert count_of([NOW - more * SECOND, *times], policy).count >= starts.count
    assert count_of(times, longer).count >= starts.count


@given(times=st.lists(st.integers(0, 4_000), min_size=1, max_size=40), window=WINDOWS, back=st.integers(0, 10**9))
def test_a_clock_that_is_set_back_makes_nothing_last_for_longer(times: list[int], window: int, back: int) -> None:
    """What was told of the future is of now: it is over one window later, and so is the pause."""
    policy = Policy(failure_window_us=window * SECOND)
    starts = given_up(count_of([NOW + time * SECOND for time in times], policy), policy, NOW + times[-1] * SECOND)
    now_us = NOW - back * SECOND
    here = believed(starts, policy, now_us)
    assert here.count == starts.count and all(time <= now_us for time in here.times_us)
    assert here.times_us == tuple(sorted(here.times_us, reverse=True))
    assert not here.waiting(now_us + policy.failure_window_us)
    assert failed(here, "CrashLooping", "boom", policy, now_us + policy.failure_window_us + 1).count == 1


@given(gaps=GAPS, window=WINDOWS, later=st.integers(0, 10**6))
def test_what_is_remembered_is_believed_while_the_clock_goes_on(gaps: list[int], window: int, later: int) -> None:
    """However late it is read: time alone forgets nothing."""
    policy = Policy(failure_window_us=window * SECOND)
    times = [NOW + SECOND * sum(gaps[: end + 1]) for end in range(len(gaps))]
    starts = given_up(count_of(times, policy), policy, times[-1])
    assert believed(starts, policy, times[-1] + later * SECOND) == starts


def test_when_a_start_is_given_up() -> None:
    """At once where waiting cannot help; else when nobody has asked for the idle timeout; never while one is held."""
    one, quiet = FailedStarts((NOW,)), Load(last_request_us=NOW + MINUTE)
    assert give_up_at(one, NOW, True, quiet, POLICY) == NOW + SECOND
    assert give_up_at(FailedStarts((NOW,) * 3), NOW, False, Load(held=1), POLICY) == NOW + SECOND
    assert give_up_at(one, NOW, False, quiet, POLICY) == NOW + 6 * MINUTE
    assert give_up_at(one, NOW, False, Load(), POLICY) == NOW + 5 * MINUTE
    assert give_up_at(one, NOW, False, Load(held=1), POLICY) is None


@given(count=st.integers(1, 99), window=st.integers(60, 86_400))
def test_backoff_grows_to_the_window(count: int, window: int) -> None:
    """Never shorter for more failures, never longer than the failure window or before now."""
    policy = Policy(failure_window_us=window * SECOND)
    here = given_up(FailedStarts((NOW,) * count), policy, NOW)
    more = given_up(FailedStarts((NOW,) * (count + 1)), policy, NOW)
    assert here.retry_us is not None and more.retry_us is not None
    assert NOW + 30 * SECOND <= here.retry_us <= more.retry_us <= NOW + window * SECOND
    assert here.waiting(NOW) and not here.waiting(here.retry_us)


def test_nothing_failed_waits_for_nothing() -> None:
    """A fresh record."""
    assert not FailedStarts().waiting(NOW)
