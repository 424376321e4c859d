"""What a real API server keeps of an endpoint: its whole status, its scale, and by which fields it is found."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.api.objects import MODEL, NAMESPACE, ROOT, create
from tests.api.server import APPLY, MERGE, Refused, Server
from tests.api.strategies import endpoint
from zerotide.api.conditions import Reason, State, conditions
from zerotide.api.cost import Cost, FailedStartsCost
from zerotide.api.endpoint import (
    AcceleratorStatus,
    ColdStarts,
    Decision,
    FailedStarts,
    HandledAnnotations,
    InferenceEndpoint,
    LastWake,
    LearnedIdle,
    LiveOverride,
    ModelStatus,
    OpenWindow,
    Status,
    VerificationStatus,
    WakeRequest,
)
from zerotide.api.status import PrewarmOpening, PrewarmStatus

NOW = "2026-11-22T18:00:00Z"


def full_status() -> dict[str, Any]:
    """Return a status with every field."""
    decision = Decision(time=NOW, from_replicas=0, to_replicas=1, reason="WakeRequested", message="one request is held")
    status = Status(
        state="Awake",
        replicas=1,
        ready_replicas=1,
        desired_replicas=1,
        selector="zerotide.dev/endpoint=full",
        observed_generation=1,
        url="http://full.api-tests",
        last_activity_time=NOW,
        kept_awake_by="1 request in flight",
        model=ModelStatus(
            name="full", uri="image:///m", revision="0" * 40, digest=f"sha256:{'0' * 64}", bytes=141_000_000_000
        ),
        accelerator=AcceleratorStatus(class_name="nvidia-h100-80gb", count=2, summary="2 × nvidia-h100-80gb"),
        wake_request=WakeRequest(id="a" * 32, time="2026-11-22T18:00:00.000001Z", by="zerotide-activator-0"),
        handled_wake_request="a" * 32,
        last_wake=LastWake.of("a" * 32, NOW, "Request", {"provision": 250_000, "load": 1_000_000, "firstByte": 9_000}),
        handled_annotations=HandledAnnotations(wake_requested_at=NOW, sleep_requested_at=NOW),
        verification=VerificationStatus(spec_digest="0" * 16, outcome="Failed", failures=3, reason="R", message="why"),
        failed_starts=FailedStarts(
            count=1, since=NOW, times=(NOW,), reason="OutOfMemory", message="it ended", retry_time=NOW
        ),
        cold_starts=ColdStarts(window=20, count=1, p50="1s259ms", p90="1s259ms", recent=("1s259ms",)),
        idle=LearnedIdle(timeout="42s", message="why", silences=9, history="3:4 12:5", held_per_wake="1.25", wakes=2),
        schedule=OpenWindow(name="w", min_replicas=1, start_time=NOW, end_time=NOW, lead_time="9s"),
        override=LiveOverride(min_replicas=2, until=NOW),
        cost=Cost(
            currency="USD",
            month="2026-11",
            month_to_date="12.5",
            day="2026-11-22",
            day_to_date="0.5",
            last_cold_start="0.01",
            per_million_tokens="3.2",
            failed_starts=FailedStartsCost(accelerator_seconds=84, amount="0.1176"),
        ),
        prewarm=PrewarmStatus(
            message="why",
            next_time=NOW,
            met=2,
            missed=1,
            saved="9s",
            spent="10m",
            spent_day=NOW,
            opening=PrewarmOpening(opened_time=NOW, start_time=NOW, end_time=NOW, lead="5m", set_aside="10m"),
            opened_for=NOW,
            since=NOW,
            history="9:3:0:5 33:1:2:2",
            newest=NOW,
        ),
        last_decision=decision,
        decisions=(decision,) * 5,
    ).dump()
    return {**status, "conditions": conditions(State.AWAKE, Reason.SERVING, "one replica serves", 1, [], 10**15)}


@pytest.fixture(scope="module")
def kept(server: Server) -> str:
    """Return the path of an endpoint that exists; suspended, so that an operator leaves it asleep."""
    create(server, endpoint({**MODEL, "suspend": True, "scaling": {"maxReplicas": 3}}, "full"), keep=True)
    return f"{ROOT}/{NAMESPACE}/inferenceendpoints/full"


def test_every_field_of_the_status_is_stored_as_it_was(server: Server, kept: str) -> None:
    status = full_status()
    assert set(status) == {field.alias for field in Status.model_fields.values()}
    body = endpoint(MODEL, "full", NAMESPACE)
    del body["spec"]
    path = f"{kept}/status?fieldManager=api-tests&force=true&fieldValidation=Strict&dryRun=All"
    made = server.call("PATCH", path, {**body, "status": status}, APPLY)
    assert made["status"] == status
    assert InferenceEndpoint.parse(made).status == Status.model_validate(status)


@pytest.mark.parametrize(
    "status", [{"replicas": -1}, {"lastActivityTime": "now"}, {"decisions": [{}]}, {"state": "x" * 254}, {"p": 1}]
)
def test_a_status_that_the_type_refuses_is_refused(server: Server, kept: str, status: dict[str, Any]) -> None:
    path = f"{kept}/status?fieldValidation=Strict&dryRun=All"
    with pytest.raises(Refused, match=r"status|unknown field"):
        server.call("PATCH", path, {"status": status}, MERGE)
    with pytest.raises(ValidationError):
        Status.model_validate(status)


def test_scale_pins_replicas_within_the_maximum(server: Server, kept: str) -> None:
    def scale(replicas: int) -> dict[str, Any]:
        body = {"spec": {"replicas": replicas}}
        made: dict[str, Any] = server.call("PATCH", f"{kept}/scale?dryRun=All", body, MERGE)
        return made

    assert scale(2)["spec"]["replicas"] == 2
    assert scale(0)["spec"].get("replicas", 0) == 0
    with pytest.raises(Refused, match=r"scaling\.pinnedReplicas must not be greater than scaling\.maxReplicas"):
        scale(4)


def test_endpoints_are_selected_by_engine(server: Server, kept: str) -> None:
    def found(engine: str) -> list[str]:
        path = f"{ROOT}/{NAMESPACE}/inferenceendpoints?fieldSelector=spec.runtime.engine={engine}"
        return [item["metadata"]["name"] for item in server.call("GET", path)["items"]]

    assert found("zerotide") == ["full"]
    assert found("vllm") == []
