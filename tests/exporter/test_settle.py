"""Counters: each instant of each pod once, never decreasing, the same however often they are settled."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life, pod_facts
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.facts import Allocation, Fact, Kind
from zerotide.billing.fold import fold
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rollups import DAY
from zerotide.exporter import settle as settling
from zerotide.exporter.settle import COST, CPU_SECONDS, GPU_SECONDS
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import DayKey, Series

PRICES = index(
    gpu("0.001"),
    {"name": "cpu", "meter": "CPUTime", "amount": "0.5", "per": "Second", "validFrom": "2020-01-01T00:00:00Z"},
)
GPU = ("demo", "smollm2")


def settle(store: SQLiteStore, prices: PriceIndex, until_us: int) -> Mapping[Series, Fraction]:
    """Count what is due."""
    return settling.settle(store, settling.due(store, prices, until_us))


def at(seconds: float) -> int:
    """Return an instant in seconds after T0."""
    return T0 + round(seconds * SECOND)


def by_phase(series: dict[Series, Fraction], name: str) -> dict[str, Fraction]:
    """Return a counter's values by phase."""
    place = {GPU_SECONDS: 2, CPU_SECONDS: 2, COST: 3}[name]
    return {labels[place]: value for (kind, labels), value in series.items() if kind == name}


def test_a_life_settles_bit_by_bit(store: SQLiteStore) -> None:
    store.add_facts(life(scheduled=0, started=5, ready=20), T0)
    store.add_usage([intent(forwarded_us=at(25)), settlement(ended_us=at(40), tokens=None)], [], T0)
    half = dict(settle(store, PRICES, at(30)))
    assert by_phase(half, GPU_SECONDS) == {"provisioning": 5, "loading": 15, "idle_cooldown": 5, "active": 5}
    store.add_facts(life(scheduled=0, started=5, ready=20, delete=60, finished=70), T0)
    whole = dict(settle(store, PRICES, at(100)))
    assert by_phase(whole, GPU_SECONDS) == {
        "provisioning": 5,
        "loading": 15,
        "idle_cooldown": 25,
        "active": 15,
        "draining": 10,
    }
    assert sum(by_phase(whole, COST).values()) == Fraction("0.070")
    assert store.unsettled() == []
    assert settle(store, PRICES, at(1000)) == whole


def test_a_cpu_endpoint_counts_core_seconds(store: SQLiteStore) -> None:
    store.add_facts(life(scheduled=0, finished=10, class_name="", allocation=Allocation("", 0, 500, 0)), T0)
    series = dict(settle(store, PRICES, at(60)))
    assert by_phase(series, CPU_SECONDS) == {"provisioning": 5}
    assert by_phase(series, COST) == {"provisioning": Fraction("2.5")}
    assert by_phase(series, GPU_SECONDS) == {}


def test_time_is_paid_on_the_day_that_it_belongs_to(store: SQLiteStore) -> None:
    """A pod that lives over two midnights of UTC, found after the second one, as if it had been followed."""
    night = (T0 // DAY + 1) * DAY
    before, after = (night - T0) / SECOND - 60, (night + DAY - T0) / SECOND + 30
    store.add_facts(life(scheduled=before, started=before, ready=before, finished=after), T0)
    settle(store, PRICES, at(after + 60))
    assert store.costs("demo", "smollm2", 0) == {
        DayKey(*GPU, night - DAY, "USD"): Fraction("0.06"),
        DayKey(*GPU, night, "USD"): Fraction("86.4"),
        DayKey(*GPU, night + DAY, "USD"): Fraction("0.03"),
    }


def test_activity_that_settles_late_changes_no_counter(store: SQLiteStore) -> None:
    store.add_facts(life(scheduled=0, started=1, ready=2), T0)
    before = dict(settle(store, PRICES, at(50)))
    store.add_usage([intent(forwarded_us=at(25)), settlement(ended_us=at(40), tokens=None)], [], T0)
    after = dict(settle(store, PRICES, at(60)))
    assert by_phase(after, GPU_SECONDS) == {**by_phase(before, GPU_SECONDS), "idle_cooldown": 58}


@given(pod_facts(), st.lists(st.integers(T0, T0 + 300), max_size=6), st.booleans())
def test_settling_in_steps_is_settling_at_once(facts: list[Fact], stops: list[int], restart: bool) -> None:
    """A pod whose facts are all known from the start counts its whole allocation, by whatever steps."""
    folded = fold(facts, as_of_us=T0 + 300)
    assert folded is not None
    store = SQLiteStore(Path(":memory:"))
    store.add_facts([*facts, *life(scheduled=0.001)[4:]], T0)
    for stop in sorted(stops):
        settle(store, PRICES, stop)
    series = dict(settle(store, PRICES, T0 + 300))
    assert sum(by_phase(series, GPU_SECONDS).values()) * SECOND == folded.allocated_us
    assert sum(by_phase(series, COST).values()) == sum(store.costs("", "", 0).values())
    store.close()


late = st.sampled_from([Kind.STARTED, Kind.READY, Kind.DELETE, Kind.FINISHED, Kind.GONE])
chaos = st.lists(
    st.one_of(
        st.tuples(st.just("settle"), st.integers(T0, T0 + 400)),
        st.tuples(
            st.sampled_from([Kind.STARTED, Kind.READY, Kind.DELETE, Kind.FINISHED, Kind.GONE]),
            st.integers(T0, T0 + 300),
        ),
        st.tuples(st.just("request"), st.integers(T0, T0 + 300)),
    ),
    max_size=15,
)


@given(chaos)
def test_no_counter_ever_decreases(steps: list[tuple[str, int]]) -> None:
    store = SQLiteStore(Path(":memory:"))
    store.add_facts(life(scheduled=0), T0)
    shown: dict[Series, Fraction] = {}
    for number, (what, t_us) in enumerate(steps):
        if what == "settle":
            now = dict(settle(store, PRICES, t_us))
            assert all(now[key] >= value for key, value in shown.items())
            shown = now
        elif what == "request":
            pair: list[Intent | Settlement] = [
                intent(str(number), forwarded_us=t_us),
                settlement(str(number), ended_us=t_us + 20),
            ]
            store.add_usage(pair, [], T0)
        else:
            store.add_facts([Fact("c", "u1", what, "", t_us)], T0)
    store.close()
