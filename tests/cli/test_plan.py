"""`zerotide plan replay` on files: what it prints, and what it says of a trace that it cannot use. No cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zerotide.cli.main import main

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def trace(folder: Path, seconds: list[int]) -> str:
    """Write a trace with requests at these seconds of an hour."""
    path = folder / "requests.csv"
    lines = [f"2026-11-16 18:{second // 60:02}:{second % 60:02}.0000000,500,20\n" for second in seconds]
    path.write_text(HEAD + "".join(lines))
    return str(path)


def test_a_recorded_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each rule and the optimum; the prose names the trace and how it was thinned."""
    path = trace(tmp_path, list(range(0, 3_000, 20)))
    line = ["plan", "replay", "--trace", path, "--endpoints", "2", "--run", "5", "--stretch", "4", "--seed", "9"]
    assert main(line) == 0
    out, err = capsys.readouterr()
    rows = [row.split("  ")[0] for row in out.splitlines()]
    assert rows[0].startswith("RULE") and rows[1:8] == [f"fixed {s} s" for s in (30, 60, 120, 300, 600, 900, 1200)]
    assert rows[8:] == ["Knative", "KubeAI", "learned", "optimum"]
    assert "requests (2 endpoints, runs of 5, ×4, seed 9): 50 requests" in err and "The learned policy costs" in err
    assert main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["requests"] == 50 and told["cells"] == 1 and told["poisson_vs_floor"] is None
    assert told["rules"]["learned"]["cost"] / told["optimum"] == pytest.approx(told["vs_optimum_geo"])


def test_a_made_up_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """Prices and the cold start are the caller's."""
    line = ["plan", "replay", "--synthetic", "timer", "--endpoints", "2", "--json"]
    assert main([*line, "--cold-start", "5s", "--waiting-second", "0.001"]) == 0
    cheap = json.loads(capsys.readouterr().out)
    assert main([*line, "--cold-start", "60s", "--gpu-second", "0.01"]) == 0
    dear = json.loads(capsys.readouterr().out)
    assert cheap["trace"] == dear["trace"] == "timer" and cheap["optimum"] < dear["optimum"]


def test_what_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A silent last third, no file, no trace, no cold start: the message says so, with the right code."""
    silent = trace(tmp_path, [0, 1, 2])
    for arguments, code, said in (
        (["--trace", str(tmp_path / "none.csv")], 1, "cannot be read: "),
        (["--trace", silent, "--endpoints", "1"], 0, ""),
        (["--synthetic", "poisson", "--cold-start", "0s"], 2, "--cold-start must be longer than 0s"),
        (["--synthetic", "poisson", "--cold-start", "soon"], 1, "'soon' is not a duration"),
    ):
        assert main(["plan", "replay", *arguments]) == code
        assert said in capsys.readouterr().err
    (tmp_path / "requests.csv").write_text("A,B\n1,2\n")
    assert main(["plan", "replay", "--trace", silent]) == 1
    assert "has no column TIMESTAMP" in capsys.readouterr().err
    for option, value in (("--endpoints", "0"), ("--gpu-second", "-1"), ("--stretch", "inf")):
        with pytest.raises(SystemExit) as usage:
            main(["plan", "replay", "--trace", silent, option, value])
        assert usage.value.code == 2
