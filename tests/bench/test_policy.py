"""The benchmark of policies: its traces, its tables, its RESULT line and its picture."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.bench_policy import WEIGHTS, ahead, by_cell, by_trace, floors, result, variants
from bench.policy.plot import draw
from bench.policy.traces import THINNINGS, habitual, recorded, synthetic
from zerotide.scaling.replay.failures import InvalidTrace
from zerotide.scaling.replay.score import Cell, cells
from zerotide.scaling.replay.synthetic import make

KEYS = (
    "vs_chosen_fixed_geo vs_chosen_fixed_max vs_hindsight_fixed_geo vs_hindsight_fixed_max vs_optimum_geo "
    "poisson_vs_floor wait_at_equal_gpu_mean wait_at_equal_gpu_max cells"
)


@pytest.fixture(scope="module")
def judged() -> list[Cell]:
    """Return the cells of one small trace."""
    return cells(*make("poisson", random.Random(2), endpoints=1).held_out())


def test_the_recorded_trace_is_whole(tmp_path: Path) -> None:
    """All its requests are in each thinning, and another file with the same columns can take its place."""
    assert [trace.requests for trace in recorded()] == [8_819] * len(THINNINGS)
    other = tmp_path / "other.csv"
    other.write_text("TIMESTAMP,ContextTokens\n")
    with pytest.raises(InvalidTrace, match="GeneratedTokens"):
        recorded(other)


def test_every_trace_can_be_judged() -> None:
    """Each has requests in its last third."""
    for trace in [*recorded(), *synthetic()]:
        before, after = trace.held_out()
        assert before.requests and after.requests and trace.name


def test_tables_and_result(judged: list[Cell]) -> None:
    """A line for each cell and for each trace, and the keys that were agreed on, in their order."""
    assert len(by_cell(judged)) == 10 and len(by_trace(judged)) == 2
    told = result(judged)
    assert list(told) == KEYS.split() and told["cells"] == 9
    assert "1: 1.58" in floors()[-1]


def test_variants_look_at_two_thirds_only() -> None:
    """The last third may hold anything."""
    trace = make("timer", random.Random(1), endpoints=1)
    found = variants(trace)
    assert set(found) == set(WEIGHTS) and all(len(ratios) == 9 for ratios in found.values())


def test_the_picture(judged: list[Cell], tmp_path: Path) -> None:
    """It is a PNG."""
    path = tmp_path / "new" / "plot.png"
    draw(judged, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_prewarming_is_judged_apart() -> None:
    """On habits it saves cold starts, and nobody beats one who knows them all."""
    header, *rows = (line.split() for line in ahead(habitual()))
    assert header[0] == "C" and len(rows) == 9
    for row in rows:
        assert int(row[2]) <= int(row[4]) and float(row[6]) >= 1
    assert any(int(row[2]) < int(row[4]) / 2 for row in rows)
