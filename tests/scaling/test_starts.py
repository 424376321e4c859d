"""Failed starts are counted within a window; each is given up in its time, and the next waits longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.policy import Policy
from zerotide.scaling.starts import FailedStarts, failed, give_up_at, given_up

NOW = 1_790_000_000 * SECOND
POLICY = Policy()


def test_failures_add_up_within_the_window() -> None:
    """An old one is forgotten."""
    one = failed(FailedStarts(), "CrashLooping", "boom", POLICY, NOW)
    two = failed(one, "OutOfMemory", "killed", POLICY, NOW + MINUTE)
    assert (two.count, two.since_us, two.reason, two.retry_us) == (2, NOW, "OutOfMemory", None)
    late = failed(two, "CrashLooping", "boom", POLICY, NOW + HOUR + 1)
    assert (late.count, late.since_us) == (1, NOW + HOUR + 1)


def test_when_a_start_is_given_up() -> None:
    """At once where waiting cannot help; else when nobody has asked for the idle timeout; never while one is held."""
    one, quiet = FailedStarts(1, NOW), Load(last_request_us=NOW + MINUTE)
    assert give_up_at(one, NOW, True, quiet, POLICY) == NOW + SECOND
    assert give_up_at(FailedStarts(3, NOW), NOW, False, Load(held=1), POLICY) == NOW + SECOND
    assert give_up_at(one, NOW, False, quiet, POLICY) == NOW + 6 * MINUTE
    assert give_up_at(one, NOW, False, Load(), POLICY) == NOW + 5 * MINUTE
    assert give_up_at(one, NOW, False, Load(held=1), POLICY) is None


@given(count=st.integers(1, 10_000), window=st.integers(60, 86_400))
def test_backoff_grows_to_the_window(count: int, window: int) -> None:
    """Never shorter for more failures, never longer than the failure window or before now."""
    policy = Policy(failure_window_us=window * SECOND)
    here = given_up(FailedStarts(count, NOW), policy, NOW)
    more = given_up(FailedStarts(count + 1, NOW), policy, NOW)
    assert here.retry_us is not None and more.retry_us is not None
    assert NOW + 30 * SECOND <= here.retry_us <= more.retry_us <= NOW + window * SECOND
    assert here.waiting(NOW) and not here.waiting(here.retry_us)


def test_nothing_failed_waits_for_nothing() -> None:
    """A fresh record."""
    assert not FailedStarts().waiting(NOW)
