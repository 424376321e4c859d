"""How long requests take, from what is in flight and what has ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import SECOND
from zerotide.scaling.demand import Load
from zerotide.scaling.service import ENOUGH, Service

NOW = 1_790_000_000 * SECOND


def load(arrivals: int, in_flight: int = 0, held: int = 0, missing: tuple[str, ...] = ()) -> Load:
    """Return what the activators say."""
    return Load(held=held, in_flight=in_flight, arrivals=arrivals, missing=missing)


def test_the_mean_of_what_was_in_flight() -> None:
    """Four at a time for two seconds each, one after the other; nothing before enough have ended."""
    known = Service()
    for index in range(ENOUGH // 4 + 1):
        assert known.time_us is None
        known = known.add(NOW + 2 * index * SECOND, load(4 * index + 4, in_flight=4))
    assert known.time_us == 2 * SECOND


def test_who_leaves_the_line_says_nothing() -> None:
    """A hundred clients that give up while the model loads."""
    known = Service().add(NOW, load(100, held=100)).add(NOW + SECOND, load(100))
    assert known.ended == 0 and known.time_us is None


def test_what_is_uncertain_teaches_nothing() -> None:
    """A missing activator, its return with all that it ever counted, a restart, and a clock that falls."""
    known = Service().add(NOW, load(10, in_flight=2)).add(NOW + SECOND, load(12, in_flight=2))
    assert (known.busy_us, known.ended) == (2 * SECOND, 2)
    for seen in (load(5, in_flight=1, missing=("x",)), load(900, in_flight=2), load(3, in_flight=2)):
        after = known.add(NOW + 60 * SECOND, load(5, in_flight=1, missing=("x",))).add(NOW + 99 * SECOND, seen)
        assert (after.busy_us, after.ended) == (2 * SECOND, 2)
    fallen = known.add(NOW + 60 * SECOND, load(2, in_flight=1)).add(NOW, load(3, in_flight=1))
    assert (fallen.busy_us, fallen.ended) == (2 * SECOND, 2)


def test_what_was_long_ago_weighs_less() -> None:
    """A model that became ten times as slow is known for it before it has served twice as many."""
    known, now, count = Service(), NOW, 0
    for seconds in [1] * 1000 + [10] * 1000:
        count, now = count + 1, now + seconds * SECOND
        known = known.add(now, load(count, in_flight=1))
    assert known.time_us is not None and known.time_us > 9 * SECOND and known.ended <= 256


events = st.tuples(
    st.integers(-5, 20), st.integers(0, 9), st.integers(0, 9), st.integers(0, 30), st.sampled_from([(), (), ("x",)])
)


@given(steps=st.lists(events, max_size=60))
def test_it_is_never_negative(steps: list[tuple[int, int, int, int, tuple[str, ...]]]) -> None:
    """Whatever activators say and clocks do."""
    known, now = Service(), NOW
    for seconds, held, in_flight, gone, missing in steps:
        now += seconds * SECOND
        known = known.add(now, load(held + in_flight + gone, in_flight, held, missing))
        assert known.busy_us >= 0 and known.ended >= 0
        assert known.time_us is None or known.time_us >= 1
