"""`zerotide plan compare` on traces and rates: what it prints, and what it says of what it cannot use. No cluster."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from tests.reconcile.helpers import endpoint
from zerotide.api.endpoint import ColdStarts
from zerotide.api.scalars import SECOND, parse_time
from zerotide.billing.elsewhere import Devices
from zerotide.billing.reports import ArrivalReport, CostReport, EndpointCost, PhaseCost, TokenCost
from zerotide.cli.arrivals import replica_price
from zerotide.cli.compare_source import Assumed, of_recorded
from zerotide.cli.compare_text import assumptions, table
from zerotide.cli.errors import CliError
from zerotide.cli.main import build, main
from zerotide.scaling.compare import MONTH_S, compare
from zerotide.scaling.replay.simulate import Prices

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
RATE = ["plan", "compare", "--rate", "6", "--input-tokens", "800", "--output-tokens", "200"]
TOKENS = ("together-70b", "fireworks-over-16b", "groq-llama-3.3-70b", "bedrock-llama-3.3-70b", "vertex-llama-3.3-70b")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command and return its document."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each way here and elsewhere; then what it comes to, what is assumed, and whose prices they are."""
    assert main(RATE) == 0
    out, err = capsys.readouterr()
    rows = {row.split("  ")[0]: row.split() for row in out.splitlines()}
    ours = ["always on", "sleeps after 1m", "sleeps after 5m", "sleeps after 15m", "learned"]
    machines = [f"{name}, {way}" for name in ("replicate", "modal") for way in ("always on", "sleeps after 5m")]
    assert list(rows)[1:] == [*ours, *machines, "runpod, always on", *(f"{name}, its tokens" for name in TOKENS)]
    assert rows["always on"][2] == f"{0.0014 * MONTH_S:.2f}"
    assert rows["always on"][4:] == ["1.00", "0", "0.0%", "0", "ms", "0", "ms"]
    assert "Least of yours: " in err and " of so many such requests an hour, if its replicas keep up: " in err
    assert "together-70b 9333, " in err
    assert "A cold start takes 30.0 s, assumed." in err and "as if they went on so for 730 hours." in err
    assert "  modal: a100-80gb 0.001092 per Second (modal.com/pricing, A100, as compared in 2026)" in err.splitlines()
    assert "  groq-llama-3.3-70b: in 0.59 per Million, out 0.79 per Million (groq.com/pricing, llama-3.3-70b" in err


def test_costs_and_waits_of_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Each way is its replicas times the price; more patience costs more and waits less; tokens do not wait here."""
    found = told(RATE, capsys)
    ways = {way["name"]: way for way in found["ways"]}
    months = found["workload"]["spanSeconds"] / MONTH_S
    for way in ways.values():
        assert way["month"] == pytest.approx(way["replicaSeconds"] * found["replicaSecond"] / months)
        assert 0 <= way["p50Wait"] <= way["p90Wait"] <= way["p99Wait"] <= 30.0
    assert ways["always on"]["month"] == pytest.approx(0.0014 * MONTH_S) and ways["always on"]["p99Wait"] == 0
    slow, quick = ways["sleeps after 1m"], ways["sleeps after 15m"]
    assert slow["month"] < quick["month"] < ways["always on"]["month"]
    assert slow["meanWait"] > quick["meanWait"] > 0 and slow["coldShare"] > quick["coldShare"]
    elsewhere = {(each["book"], each["way"]): each for each in found["elsewhere"]}
    same = elsewhere["replicate", "sleeps after 5m"]
    assert same["month"] == pytest.approx(ways["sleeps after 5m"]["month"]), "the shipped price is Replicate's"
    requests = found["workload"]["requests"]
    groq = elsewhere["groq-llama-3.3-70b", None]
    assert groq["month"] == pytest.approx(requests * (800 * 0.59 + 200 * 0.79) / 1e6 / months)
    assert "p90Wait" not in groq and all(price["source"] for price in groq["prices"])
    assert groq["cheaperAlwaysOnFromPerHour"] * 730 * (800 * 0.59 + 200 * 0.79) / 1e6 == pytest.approx(0.0014 * MONTH_S)


def test_a_trace_with_several_replicas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its tokens are its own; what is kept warm lies between what sleeps and what is always on."""
    path = tmp_path / "requests.csv"
    path.write_text(HEAD + "".join(f"2026-11-16 {hour:02}:00:00.0000000,500,100\n" * 9 for hour in range(9, 18)))
    line = ["plan", "compare", "--trace", str(path), "--max-replicas", "3", "--target", "2", "--limit", "2"]
    found = told([*line, "--cold-start", "20s", "--gpu-second", "0.002"], capsys)
    ways = {way["name"]: way for way in found["ways"]}
    assert list(ways)[:3] == ["always on", "1 kept warm", "2 kept warm"]
    assert found["workload"] | {"spanSeconds": 0} == {
        "name": "requests",
        "requests": 81,
        "spanSeconds": 0,
        "inputTokens": 81 * 500,
        "outputTokens": 81 * 100,
    }
    assert ways["always on"]["month"] == pytest.approx(3 * 0.002 * MONTH_S, rel=1e-3)
    assert ways["always on"]["month"] > ways["2 kept warm"]["month"] > ways["1 kept warm"]["month"]
    assert ways["always on"]["meanWait"] < ways["2 kept warm"]["meanWait"] < ways["1 kept warm"]["meanWait"]
    assert ways["1 kept warm"]["meanWait"] < ways["sleeps after 1m"]["meanWait"]
    chosen = told([*line, "--keep-warm", "2", "--idle", "30s", "--idle", "10m"], capsys)
    assert [way["name"] for way in chosen["ways"]] == [
        "always on",
        "2 kept warm",
        "sleeps after 30s",
        "sleeps after 10m",
        "learned",
    ]
    assert {each["way"] for each in chosen["elsewhere"] if each["way"]} == {"always on", "sleeps after 30s"}


def test_another_class_and_no_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    """Two of a class cost twice; without tokens nothing is held against prices of them, and that is said."""
    one = told(["plan", "compare", "--rate", "6", "--class", "nvidia-h100-80gb"], capsys)
    two = told(["plan", "compare", "--rate", "6", "--class", "nvidia-h100-80gb", "--count", "2"], capsys)
    assert two["replicaSecond"] == pytest.approx(2 * one["replicaSecond"]) == pytest.approx(2 * 0.001525)
    assert [each["month"] for each in two["elsewhere"]] == pytest.approx([2 * x["month"] for x in one["elsewhere"]])
    assert {each["book"] for each in one["elsewhere"]} == {"replicate", "modal", "runpod"}
    assert any("Without --input-tokens" in line for line in one["assumptions"])


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error or an error, and what to do."""
    base = ["plan", "compare"]
    for arguments, code, said in (
        (["--rate", "6", "--cold-start", "0s"], 2, "--cold-start must be longer than 0s"),
        (["--rate", "6", "--class", "nvidia-b999"], 2, "no shipped price is for the class 'nvidia-b999': give --gpu"),
        (["--rate", "6", "--input-tokens", "5"], 2, "--input-tokens and --output-tokens belong together"),
        (["--rate", "6", "--target", "40"], 2, "--target 40 is more than the 32 requests"),
        (["--rate", "6", "--keep-warm", "1"], 2, "--keep-warm 1 is no less than the 1"),
        (["--rate", "0.00001"], 2, "makes no request in a month"),
        (["--trace", str(tmp_path / "none.csv")], 1, "cannot be read: "),
    ):
        assert main([*base, *arguments]) == code
        assert said in capsys.readouterr().err
    for arguments in ([], ["m", "--rate", "6"], ["--rate", "0"], ["--rate", "6", "--idle", "soon"]):
        with pytest.raises(SystemExit) as usage:
            main([*base, *arguments])
        assert usage.value.code == 2


def args_of(*line: str) -> argparse.Namespace:
    """Parse the command's line."""
    return build().parse_args(["plan", "compare", "smollm2", *line])


def source_of(*line: str, cost: CostReport, cold: str | None = "20s", **scaling: Any) -> Assumed:
    """Return what is known of an endpoint with two requests, five minutes apart."""
    made = endpoint({"scaling": scaling})
    starts = ColdStarts(window=20, count=1, p50=cold, p90=cold) if cold else None
    made = made.model_copy(update={"status": made.status.model_copy(update={"cold_starts": starts})})
    arrivals = ArrivalReport(from_us=0, to_us=600 * SECOND, requests=((0, SECOND), (300 * SECOND, SECOND)))
    return of_recorded(args_of(*line), made, arrivals, cost, parse_time("2026-11-26T00:00:00Z"))


def test_what_is_known_of_an_endpoint() -> None:
    """Its own price, devices, tokens, bounds, cold start and way; each option stands in place of what is known."""
    known = source_of(cost=bill(accelerator="nvidia-l4", units=2), maxReplicas=3, idle={"timeout": "10m"})
    assert (known.second_by, known.devices) == ("as billed", Devices("nvidia-l4", 2))
    assert known.second == pytest.approx(0.0014)
    assert (known.cold_s, known.cold_by, known.bounds.most, known.present) == (
        20.0,
        "as measured",
        3,
        "sleeps after 10m",
    )
    assert (known.workload.input_tokens, known.workload.output_tokens, known.workload.span_s) == (60, 20, 600.0)
    assert known.timeouts_s[0] == 600.0 and known.kept == [1, 2, 0] and known.left_out == ()
    line = ["--cold-start", "1m", "--class", "nvidia-h100-80gb", "--idle", "30s", "--output-tokens", "7"]
    given = source_of(*line, cost=bill(accelerator="nvidia-l4", units=2))
    assert given.devices == Devices("nvidia-h100-80gb", 1) and given.second == pytest.approx(0.001525)
    assert (given.cold_s, given.timeouts_s, given.workload.output_tokens) == (60.0, [30.0, 300.0], 14)
    assert source_of("--gpu-second", "3", cost=bill()).second == 3.0


@pytest.mark.parametrize(
    ("scaling", "present", "left_out"),
    [
        ({"minReplicas": 1}, "always on", ()),
        ({"minReplicas": 2, "maxReplicas": 3}, "2 kept warm", ()),
        ({"pinnedReplicas": 2, "maxReplicas": 2}, "always on", ()),
        ({"pinnedReplicas": 4, "minReplicas": 1, "maxReplicas": 5}, "4 kept warm", ("pinnedReplicas",)),
        ({"idle": {"policy": "Learned"}, "prewarm": {"mode": "Enabled"}}, "learned", ("prewarm",)),
        ({"schedules": [{"name": "a", "start": "0 8 * * *", "duration": "1h"}]}, "sleeps after 5m", ("schedules",)),
    ],
)
def test_the_present_way_is_marked(scaling: dict[str, Any], present: str, left_out: tuple[str, ...]) -> None:
    """Among those that are compared; what of a spec is not run is said."""
    known = source_of(cost=bill(), cold=None, **scaling)
    ways = compare(known.workload, known.cold_s, Prices(), known.bounds, known.timeouts_s, known.kept)
    assert (known.present, known.left_out, known.cold_by) == (present, left_out, "assumed")
    _, rows = table(known, ways, [])
    assert [row[0] for row in rows if row[0].endswith(" (now)")] == [f"{present} (now)"]
    said = "\n".join(assumptions(known, []))
    assert all(word in said for word in left_out) and ("Not run here" in said) == bool(left_out)


def test_nothing_is_known_of_an_endpoint() -> None:
    """Without requests there is nothing to compare on; without a bill a price is assumed; dollars meet dollars."""
    none = bill().model_copy(update={"endpoints": (), "currency": "EUR"})
    known = source_of(cost=none)
    assert known.second_by.startswith("assumed: ") and known.devices is None and known.workload.tokens == 0
    assert any("in USD, and yours in EUR" in line for line in assumptions(known, []))
    silent = ArrivalReport(from_us=0, to_us=600 * SECOND, requests=())
    with pytest.raises(CliError, match="give --rate N"):
        of_recorded(args_of(), endpoint({}), silent, none, 0)


def phase(name: str, seconds: int, amount: str) -> PhaseCost:
    """Return what a phase took and cost."""
    us = seconds * 1_000_000
    none = {"accelerator_seconds": "0", "cpu_seconds": "0", "memory_gib_seconds": "0"}
    return PhaseCost(phase=name, replica_us=us, amount=amount, **none)


def bill(accelerator: str = "", units: int = 0) -> CostReport:
    """Return a bill of one endpoint: 0.0014 for a second that costs anything, two requests with their tokens."""
    phases = (phase("lost", 900, "0"), phase("loading", 10, "0.02"), phase("idle_cooldown", 100, "0.14"))
    tokens = TokenCost(requests=2, input=60, cached_input=0, output=20, amount="0")
    one = EndpointCost(
        namespace="n",
        endpoint="e",
        accelerator=accelerator,
        units=units,
        replicas=1,
        phases=phases,
        tokens=tokens,
        consumers=(),
        wakes=(),
        total="0.16",
        always_on="0",
        per_million_tokens=None,
    )
    totals = {"total": "0.16", "always_on": "0"}
    return CostReport(currency="USD", from_us=0, to_us=1, as_of_us=1, endpoints=(one,), **totals)


def test_the_price_of_a_replica_is_what_was_billed() -> None:
    """Of the phase that took longest and costs anything; nothing where nothing was billed."""
    cost = bill()
    assert replica_price(cost) == pytest.approx(0.0014)
    assert replica_price(cost.model_copy(update={"endpoints": ()})) is None
