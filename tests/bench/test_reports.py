"""The reports' benchmark from end to end on a small ledger, as `make bench-reports` runs it."""

from __future__ import annotations

import json

import pytest

from bench import bench_reports
from zerotide.exporter.http import REPORTS


def test_the_result_has_a_figure_for_each_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line holds the wall and processor time of each, for all time and for an hour."""
    monkeypatch.setattr("sys.argv", ["bench_reports", "--requests", "40", "--pods", "2", "--rounds", "1"])
    bench_reports.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("RESULT ")
    said = json.loads(last.removeprefix("RESULT "))
    spans = {f"{name}_{period}_{key}" for name in REPORTS for period in ("all", "hour") for key in ("p50_s", "cpu_s")}
    assert set(said) == {"requests", "fill_s"} | spans
    assert said["requests"] == 40 and all(said[span] >= 0 for span in spans)
