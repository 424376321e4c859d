"""TGI's metrics under TGI's names, on a real server and by themselves."""

from __future__ import annotations

import pytest

from tests.runtime.process import RuntimeProcess
from zerotide_runtime.server.telemetry import Telemetry
from zerotide_runtime.startup import Startup

from .test_tgi import generate

COUNTERS = {
    "tgi_request_count": (),
    "tgi_request_success": (),
    "tgi_request_failure": ("err",),
    "tgi_batch_inference_count": ("method",),
    "tgi_batch_inference_success": ("method",),
    "tgi_batch_inference_failure": ("method",),
    "tgi_batch_concat": ("reason",),
}
GAUGES = ("tgi_queue_size", "tgi_batch_current_size", "tgi_batch_current_max_tokens", "tgi_batch_max_total_tokens")
HISTOGRAMS = (
    *("duration", "validation_duration", "queue_duration", "inference_duration", "mean_time_per_token_duration"),
    *("input_length", "generated_tokens", "max_new_tokens", "skipped_tokens"),
)
BATCH_HISTOGRAMS = (
    *("next_size", "inference_duration", "forward_duration", "decode_duration", "filter_duration", "concat_duration"),
)


def test_every_name_is_there(server: RuntimeProcess) -> None:
    generate(server, max_new_tokens=2)
    with server.send("GET", "/metrics") as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = set(response.read().decode().splitlines())
    assert {f"# TYPE {name} counter" for name in COUNTERS} <= lines
    assert {f"# TYPE {name} gauge" for name in GAUGES} <= lines
    assert {f"# TYPE tgi_request_{name} histogram" for name in HISTOGRAMS} <= lines
    assert {f"# TYPE tgi_batch_{name} histogram" for name in BATCH_HISTOGRAMS} <= lines


def test_metrics_count(server: RuntimeProcess) -> None:
    before = server.metric("tgi_request_count"), server.metric("tgi_request_success")
    generate(server, max_new_tokens=2)
    server.call("POST", "/generate", {"inputs": ""})
    assert server.metric("tgi_request_count") == before[0] + 2
    assert server.metric("tgi_request_success") == before[1] + 1
    assert server.metric('tgi_request_failure{err="validation"}') >= 1
    assert server.metric("tgi_queue_size") == 0
    assert server.metric('zerotide_runtime_start_seconds{stage="ready"}') > 0


def test_tokens_in_hand_are_told(server: RuntimeProcess) -> None:
    assert server.metric("tgi_batch_current_max_tokens") == 0
    assert server.metric("tgi_batch_max_total_tokens") >= 8192
    assert server.metric('tgi_batch_decode_duration_count{method="prefill"}') > 0
    skipped = server.metric("tgi_request_skipped_tokens_sum")
    for _ in range(2):
        assert server.call("POST", "/generate", {"inputs": "tide " * 40, "parameters": {"max_new_tokens": 2}})[0] == 200
    assert server.metric("tgi_request_skipped_tokens_sum") >= skipped + 38


def test_failures_and_joins_have_their_labels() -> None:
    telemetry = Telemetry(Startup(), lambda: (0, 0), lambda: (7, 9))
    telemetry.stepped("prefill", 1, 0.1, joined=True)
    telemetry.broke("decode")
    page = telemetry.page().decode().splitlines()
    assert 'tgi_batch_concat{reason="prefilled"} 1' in page
    assert 'tgi_batch_inference_failure{method="decode"} 1' in page
    assert 'tgi_batch_inference_success{method="prefill"} 1' in page
    assert {"tgi_batch_current_max_tokens 7", "tgi_batch_max_total_tokens 9"} <= set(page)


def test_durations_have_tgis_buckets() -> None:
    page = Telemetry(Startup(), lambda: (0, 0)).page().decode()
    bounds = [
        line.split('le="')[1].split('"')[0] for line in page.splitlines() if "tgi_request_duration_bucket" in line
    ]
    assert bounds[-1] == "+Inf"
    assert [float(bound) for bound in bounds[:-1]] == pytest.approx([0.0001 * 1.5**k for k in range(35)], rel=1e-5)
