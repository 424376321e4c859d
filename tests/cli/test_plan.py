"""`zerotide plan replay` on files: what it prints, and what it says of a trace that it cannot use. No cluster."""

from __future__ import annotations

import gzip
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
    assert main([*line[:4], "--endpoints", "1"]) == 0
    assert " requests to 1 endpoint in its last third. " in capsys.readouterr().err
    assert cheap["trace"] == dear["trace"] == "timer" and cheap["optimum"] < dear["optimum"]


def test_what_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A silent last third, no file, no trace, no cold start: the message says so, with the right code."""
    silent = trace(tmp_path, [0, 1, 2])
    for arguments, code, said in (
        (["--trace", str(tmp_path / "none.csv")], 1, "cannot be read: "),
        (["--trace", silent, "--endpoints", "1"], 0, ""),
        (["--synthetic", "poisson", "--cold-start", "0s"], 2, "--cold-start must be longer than 0s"),
        (["--trace", str(tmp_path)], 1, f"{tmp_path} cannot be read: Is a directory"),
        (["--trace", silent, "--stretch", "1e300"], 1, "stretched ×1e+300 the trace lasts for"),
    ):
        assert main(["plan", "replay", *arguments]) == code
        assert said in capsys.readouterr().err
    (tmp_path / "requests.csv").write_text("A,B\n1,2\n")
    assert main(["plan", "replay", "--trace", silent]) == 1
    assert "has no column TIMESTAMP" in capsys.readouterr().err
    usual = (("--endpoints", "0"), ("--gpu-second", "-1"), ("--stretch", "inf"), ("--gpu-second", "nan"))
    for option, value in (*usual, ("--cold-start", "soon")):
        with pytest.raises(SystemExit) as usage:
            main(["plan", "replay", "--trace", silent, option, value])
        assert usage.value.code == 2


@pytest.mark.parametrize("value", ["1e308", "1e16", "1e-16", "1e-320", "inf", "nan", "0", "-1"])
@pytest.mark.parametrize(
    "line",
    [
        ["replay", "--synthetic", "timer", "--gpu-second"],
        ["replay", "--synthetic", "timer", "--waiting-second"],
        ["compare", "--rate"],
        ["compare", "--rate", "1", "--gpu-second"],
        ["compare", "--rate", "1", "--waiting-worth"],
        ["advise", "m", "--gpu-second"],
        ["advise", "m", "--waiting-second"],
        ["advise", "m", "--dedicated-hour"],
        ["advise", "m", "--api-million"],
        ["forecast", "m", "--waiting-worth"],
    ],
    ids=" ".join,
)
def test_figures_with_which_nothing_can_be_reckoned(
    line: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would make every cost infinite or none, and every ratio no number."""
    with pytest.raises(SystemExit) as usage:
        main(["plan", *line, value])
    assert usage.value.code == 2
    assert f"argument {line[-1]}: {value} is not a number from 1e-15 to 1e+15" in capsys.readouterr().err


def test_the_least_and_the_most_still_give_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one beside the other; what they come to together is refused where it is too much."""
    for gpu, waiting in (("1e15", "1e-15"), ("1e-15", "1e15"), ("1e15", "1e15"), ("1e-15", "1e-15")):
        line = ["plan", "replay", "--synthetic", "timer", "--endpoints", "1", "--json"]
        assert main([*line, "--gpu-second", gpu, "--waiting-second", waiting]) == 0
        told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert 0 < told["optimum"] <= told["rules"]["learned"]["cost"]
    assert main(["plan", "compare", "--rate", "1", "--gpu-second", "1e10", "--waiting-worth", "1e10"]) == 1
    assert "1e+20 for a second in which a request waits cannot be reckoned with" in capsys.readouterr().err


def test_how_a_trace_is_written_does_not_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Packed, from a spreadsheet, with other line ends, its rows in any order: the same figures under the same name."""
    plain = Path(trace(tmp_path, list(range(0, 3_000, 20)))).read_bytes()
    head, *rows = plain.splitlines(keepends=True)
    told = []
    for number, (name, written) in enumerate(
        (
            ("requests.csv", plain),
            ("requests.csv.gz", gzip.compress(plain)),
            ("requests", gzip.compress(plain)),
            ("requests.csv", b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")),
            ("requests.csv", head + b"".join(reversed(rows))),
        )
    ):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(written)
        assert main(["plan", "replay", "--trace", str(path), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["trace"].startswith("requests (") and all(each == told[0] for each in told)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (gzip.compress(HEAD.encode(), mtime=0)[:-9], "cannot be unpacked: "),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + bytes(range(64)), "cannot be unpacked: "),
        (b"\x1f\x8bPNGPNGPNG", "cannot be read: "),
        (b"\x89PNG\x0d\x0a", "the trace is no text in UTF-8: "),
        (HEAD.encode("utf-16"), "the trace is no text in UTF-8: "),
        (b"", "the trace has no column TIMESTAMP"),
        (HEAD.encode() + b"\x00,1,2\n", "line "),
    ],
)
def test_what_is_no_file_of_requests(
    written: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is wrong, for every command that takes a trace."""
    path = tmp_path / "requests.csv"
    path.write_bytes(written)
    for command in ("replay", "compare"):
        assert main(["plan", command, "--trace", str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("zerotide: ") and said in err and len(err.splitlines()) == 1
