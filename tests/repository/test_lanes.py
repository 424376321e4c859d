"""`make test`'s stages: what runs side by side, how its lines are told apart, and who gets a second try."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2e.setup import testrun
from e2e.setup.lanes import Lane, side_by_side

MEET = """
import pathlib, sys, time
mine, other, code = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
mine.touch()
ends = time.monotonic() + 30
while not other.exists():
    if time.monotonic() > ends:
        sys.exit(9)
    time.sleep(0.01)
print("met " + other.name)
print("no newline here", end="")
sys.exit(code)
"""

FLAKY = """
import os, pathlib

def test_flaky():
    seen = pathlib.Path(os.environ["SEEN"])
    before = seen.read_text() if seen.exists() else ""
    seen.write_text(before + "x")
    assert len(before) >= int(os.environ["FAILURES"])

def test_steady():
    with open(os.environ["SEEN"] + ".steady", "a") as file:
        file.write("x")
"""


def test_lanes_run_at_once_and_each_line_names_its_lane(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lanes = [
        Lane("one", [sys.executable, "-c", MEET, str(first), str(second), "0"]),
        Lane("two", [sys.executable, "-c", MEET, str(second), str(first), "3"]),
    ]
    assert side_by_side(lanes, tmp_path) == [0, 3]
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines == ["[one] met second", "[one] no newline here", "[two] met first", "[two] no newline here"]


def test_a_lane_has_its_environment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    show = [sys.executable, "-c", "import os; print(os.environ['OF'])"]
    assert side_by_side([Lane("one", show, {"OF": "mine"}), Lane("two", show, {"OF": "yours"})], tmp_path) == [0, 0]
    assert sorted(capfd.readouterr().out.splitlines()) == ["[one] mine", "[two] yours"]


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (1, 0), (2, 1)])
def test_what_fails_gets_one_more_try_by_itself(
    failures: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(FLAKY)
    seen = tmp_path / "seen"
    monkeypatch.setattr(testrun, "ROOT", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), "test_it.py"]
    lane = Lane("unit", command, {"SEEN": str(seen), "FAILURES": str(failures), "PYTEST_ADDOPTS": ""})
    assert testrun.run([lane]) == code
    assert len(seen.read_text()) == min(failures + 1, 2)
    assert Path(f"{seen}.steady").read_text() == "x"
    told = capfd.readouterr().out
    assert ("FLAKY" in told) == (failures == 1) and ("once more" in told) == (failures > 0)


def test_clusters_of_this_machine_are_used_side_by_side_and_a_given_one_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("ZEROTIDE_TEST_CLUSTER", raising=False)
    together = testrun.stages(True)[-1]
    assert [lane.name for lane in together] == ["integration", "e2e"]
    names = [lane.environment.get("ZEROTIDE_TEST_CLUSTER", "zerotide-test") for lane in together]
    assert names == ["zerotide-test-parts", "zerotide-test"]
    monkeypatch.setenv("KUBECONFIG", "/dev/null")
    assert [[lane.name for lane in lanes] for lanes in testrun.stages(True)[-2:]] == [["integration"], ["e2e"]]
    assert all(lane.name in ("environments", "checks", "unit", "runtime") for [lane] in testrun.stages(False))
