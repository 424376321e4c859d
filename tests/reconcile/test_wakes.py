"""The stages of a wake sum to its total, whatever stamps there are; percentiles are those of the newest twenty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.helpers import NOW
from zerotide.api.scalars import MILLISECOND, parse_duration
from zerotide.reconcile.wakes import Sightings, WakeStamps, add, init_us, record

times = st.one_of(st.none(), st.integers(NOW - 5_000_000, NOW + 20_000_000))


def test_a_whole_wake() -> None:
    """Each stage ends at the earliest stamp that proves it."""
    ms = MILLISECOND
    stamps = WakeStamps(NOW, NOW + 500 * ms, NOW + 120 * ms, NOW + 200 * ms, NOW + 450 * ms)
    seen = Sightings(NOW + 50 * ms, NOW + 700 * ms)  # the kubelet told late that the container runs
    wake = record("w", "Request", stamps, seen, {"init": 30.0})
    assert {stage.name: stage.duration for stage in wake.stages} == {
        "provision": "50ms",
        "pull": "150ms",
        "load": "220ms",
        "init": "30ms",
        "firstByte": "50ms",
    }
    assert (wake.total, wake.cause, wake.id) == ("500ms", "Request", "w")


@pytest.mark.parametrize(
    ("runtime", "milliseconds"),
    [
        ({}, 0),
        ({"init": 30.0}, 30),
        ({"listen": 60.0, "import": 140.0, "read": 120.0, "device": 165.0, "ready": 170.0, "torch": 900.0}, 30),
        ({"import": 100.0, "read": 120.0, "ready": 170.0}, 50),
        ({"read": 120.0, "ready": 119.5}, 0),
        ({"ready": 170.0}, 0),
        ({"read": 120.0}, 0),
    ],
)
def test_what_follows_the_weights_is_init(runtime: dict[str, float], milliseconds: int) -> None:
    assert init_us(runtime) == milliseconds * MILLISECOND


@given(
    end=st.integers(0, 20_000_000),
    address=times,
    connect=times,
    ready=times,
    scheduled=times,
    started=times,
    init=st.one_of(st.none(), st.floats(0, 1e6)),
)
def test_stages_always_sum_to_the_total(
    end: int,
    address: int | None,
    connect: int | None,
    ready: int | None,
    scheduled: int | None,
    started: int | None,
    init: float | None,
) -> None:
    """Missing, late and disordered stamps lose detail, never time."""
    stamps = WakeStamps(NOW, NOW + end, address, connect, ready)
    wake = record("w", "Request", stamps, Sightings(scheduled, started), None if init is None else {"init": init})
    lengths = [parse_duration(stage.duration) for stage in wake.stages]
    assert sum(lengths) == wake.total_us and min(lengths) >= 0
    assert abs(wake.total_us - end) <= 5 * MILLISECOND, "each stage is rounded to milliseconds"


def test_percentiles() -> None:
    """Nearest rank over the newest twenty, newest first."""
    starts = None
    for number in range(1, 26):
        starts = add(starts, record(str(number), "Request", WakeStamps(NOW, NOW + number * 1_000_000), Sightings()))
    assert starts is not None
    assert (starts.window, starts.count, starts.p50, starts.p90) == (20, 20, "15s", "23s")
    assert starts.recent[0] == "25s" and len(starts.recent) == 20
