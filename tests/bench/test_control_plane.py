"""The control plane benchmark's own parts: which writes count, what is seen of endpoints, what its figures become."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from bench.control_plane.fleet import EACH, names, spec
from bench.control_plane.meter import between
from bench.control_plane.table import Outcome, result, table
from bench.control_plane.writes import counted
from zerotide.api.endpoint import InferenceEndpoint

PAGE = """
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",resource="deployments",subresource="",verb="POST"} 7
apiserver_request_total{code="200",resource="deployments",subresource="",verb="PATCH"} 2
apiserver_request_total{code="200",resource="deployments",subresource="status",verb="PUT"} 3
apiserver_request_total{code="200",resource="inferenceendpoints",subresource="status",verb="APPLY"} 1e+01
apiserver_request_total{code="200",resource="deployments",subresource="",verb="LIST"} 100
apiserver_request_total{code="200",resource="leases",subresource="",verb="PUT"} 50
apiserver_request_total{code="200",resource="nodes",subresource="status",verb="PATCH"} 50
apiserver_request_total{code="201",resource="tokenreviews",subresource="",verb="POST"} 5
apiserver_request_total{code="201",resource="serviceaccounts",subresource="token",verb="POST"} 5
apiserver_request_total{code="200",resource="",subresource="/healthz",verb="POST"} 5
"""


def test_only_writes_count_and_no_signs_of_life() -> None:
    """Heartbeats, questions and reads are none, whoever makes them."""
    assert counted(PAGE) == {"deployments": 9, "deployments/status": 3, "inferenceendpoints/status": 10}


def test_the_endpoints_are_spread_over_namespaces_and_valid() -> None:
    """Each name is one endpoint, and its spec is one that the operator reads."""
    made = names(2 * EACH + 1)
    assert len(set(made)) == 2 * EACH + 1 and len({space for space, _ in made}) == 3
    metadata = {"namespace": "fleet-0", "name": "m-0", "uid": "u", "generation": 1}
    kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint"}
    read = InferenceEndpoint.parse({**kind, "metadata": metadata, "spec": spec()})
    assert read.spec.accelerator is not None and read.spec.accelerator.count == 1


def test_the_result_has_the_agreed_keys() -> None:
    """For each endpoint, by the minute, in milliseconds; null where nothing was measured."""
    seconds = [0.001 * each for each in range(1, 101)]
    writes = Counter({"deployments": 20, "services": 10})
    outcome = Outcome(
        10,
        "ExternalName",
        ready_s=2.04,
        cpu={"operator": 0.04},
        rss={"all ready": 99.96, "started again": 40.0},
        writes=writes,
        idle_s=30.0,
    )
    outcome.idle_writes, outcome.wakes = Counter({"events": 1}), {"answer": seconds, "made": seconds}
    outcome.wake_writes, outcome.alone = Counter({"pods": 300}), {"decision sent": [0.002, 0.001, 0.004]}
    outcome.wake_reasons = Counter({"Scheduled": 100})
    said: dict[str, Any] = json.loads(json.dumps(result(outcome)))
    assert said["service_type"] == "ExternalName" and "of type ExternalName: all made" in table(outcome)
    agreed = {"endpoints": 10, "ready_s": 2.0, "cpu_ms_per_endpoint": 4.0, "rss_mib": 100.0}
    assert said.items() >= {**agreed, "idle_writes_per_min": 2.0, "wake_1000_p90_ms": 90.1}.items()
    assert said["writes_per_endpoint"] == {"deployments": 2.0, "services": 1.0} and said["woken"] == 100
    assert "deployments 2.0" in table(outcome) and "writes events 1" in table(outcome)
    assert said["writes_per_wake"] == {"pods": 3.0} and "for each: pods 3.0" in table(outcome)
    assert "Events: Scheduled 100" in table(outcome)
    assert said["alone"] == {"decision sent": {"p50_ms": 2.0, "most_ms": 4.0}}
    assert "3 alone, decision sent: p50 2.0 ms" in table(outcome)
    nothing = result(Outcome(0))
    assert nothing["wake_1000_p90_ms"] is None and nothing["idle_writes_per_min"] is None
    assert between({"a": 1.0}, {"a": 3.0, "b": 1.0}) == {"a": 2.0, "b": 1.0}
