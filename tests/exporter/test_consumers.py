"""Counters by consumer: so many names, and each token in exactly one counter that never decreases."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import HOUR, MINUTE
from zerotide.exporter import consumers
from zerotide.exporter.sqlite import SQLiteStore


def outputs(store: SQLiteStore) -> dict[str, int]:
    """Return the output tokens by consumer."""
    return {labels[2]: int(value) for (_, labels), value in store.series().items() if labels[3] == "output"}


def serve(store: SQLiteStore, request: str, consumer: str, now_us: int) -> None:
    """Record one answer of 5 output tokens."""
    store.add_usage([intent(request, forwarded_us=T0, consumer=consumer), settlement(request, ended_us=T0)], [], now_us)


@pytest.fixture
def two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only two consumers have names."""
    monkeypatch.setattr(consumers, "PLACES", 2)


@pytest.mark.usefixtures("two_places")
def test_who_finds_no_place_is_one_of_the_others(store: SQLiteStore) -> None:
    for number, consumer in enumerate(["n/a", "n/b", "n/c", "n/a", "n/d"]):
        serve(store, str(number), consumer, T0 + number)
    assert outputs(store) == {"n/a": 10, "n/b": 5, "_other": 10}


@pytest.mark.usefixtures("two_places")
def test_a_place_goes_to_a_new_consumer_after_an_idle_hour_and_comes_back(store: SQLiteStore) -> None:
    serve(store, "1", "n/a", T0)
    serve(store, "2", "n/b", T0 + 10 * MINUTE)
    serve(store, "3", "n/c", T0 + HOUR - 1)
    assert outputs(store) == {"n/a": 5, "n/b": 5, "_other": 5}
    serve(store, "4", "n/c", T0 + HOUR)
    assert outputs(store) == {"n/c": 5, "n/b": 5, "_other": 5}, "the one idle for longest makes room"
    serve(store, "5", "n/a", T0 + 2 * HOUR)
    assert outputs(store) == {"n/c": 5, "n/a": 10, "_other": 5}, "its counter goes on where it was"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2 * HOUR)), max_size=20))
def test_no_counter_ever_decreases_and_every_token_is_in_one(served: list[tuple[str, int]]) -> None:
    store, now, before = SQLiteStore(Path(":memory:")), T0, dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumers, "PLACES", 2)
        for number, (consumer, pause) in enumerate(served):
            now += pause
            serve(store, str(number), consumer, now)
            after = outputs(store)
            assert all(after[name] >= count for name, count in before.items() if name in after)
            assert len(after.keys() - {consumers.OTHER}) <= 2
            before |= after
    assert sum(before.values()) == 5 * len(served)
    store.close()
