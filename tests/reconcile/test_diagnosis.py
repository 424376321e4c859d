"""Each reason is found in what Kubernetes says, hopeless only where waiting cannot help."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.reconcile.helpers import NOW, pod_object
from zerotide.api.conditions import Reason
from zerotide.api.names import CONDITION_TOKEN
from zerotide.api.scalars import SECOND
from zerotide.reconcile.capacity import obstacle, requests_of
from zerotide.reconcile.diagnosis import Evidence, Finding, diagnose
from zerotide.reconcile.pods import Stage, read
from zerotide.reconcile.pulls import PullWatch

NODE = {"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "4"}}}
ENDED = {"startedAt": "2026-09-21T14:12:30Z", "exitCode": 3, "reason": "Error", "message": "boom\nlast words"}


def find(evidence: Evidence | None = None, **fields: Any) -> Finding | None:
    """Diagnose one pod."""
    spec = fields.pop("spec", {"containers": []})
    obj = {**pod_object(**fields), "spec": spec}
    return diagnose([read(obj)], evidence or Evidence(nodes=(NODE,)), NOW)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def asks(**amounts: str) -> dict[str, Any]:
    """Return a pod spec that requests so much."""
    return {"containers": [{"name": "model", "resources": {"requests": amounts}}]}


def test_a_start_in_progress_is_no_finding() -> None:
    """Nor is a pod that is ready, or none at all."""
    assert find(state=waiting("ContainerCreating")) is None
    assert find(state={"running": {}}) is None
    assert find(state={"running": {}}, ready=True) is None
    assert find(scheduled=False) is None
    assert diagnose([], Evidence(), NOW) is None


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"state": waiting("InvalidImageName", "bad name")}, Reason.IMAGE_PULL_FAILED, "bad name"),
        ({"state": waiting("ErrImageNeverPull", "not present")}, Reason.IMAGE_PULL_FAILED, "not present"),
        (
            {"state": waiting("CrashLoopBackOff", "back-off"), "last": {"terminated": ENDED}, "restarts": 2},
            Reason.CRASH_LOOPING,
            "exit code 3 (Error): last words",
        ),
        ({"state": {"running": {}}, "last": {"terminated": ENDED}, "restarts": 3}, Reason.CRASH_LOOPING, "last words"),
        (
            {"state": waiting("CrashLoopBackOff"), "last": {"terminated": {**ENDED, "reason": "OOMKilled"}}},
            Reason.OUT_OF_MEMORY,
            "limits.memory",
        ),
        (
            {"state": {"running": {}}, "last": {"terminated": {**ENDED, "reason": "OOMKilled"}}, "restarts": 1},
            Reason.OUT_OF_MEMORY,
            "limits.memory",
        ),
        (
            {"state": waiting("CreateContainerConfigError", 'secret "token" not found')},
            Reason.CREDENTIALS_MISSING,
            'secret "token" not found',
        ),
        (
            {"state": waiting("CreateContainerConfigError", 'configmap "c" not found')},
            Reason.INVALID_POD_TEMPLATE,
            "configmap",
        ),
        ({"state": waiting("CreateContainerError", "no such file")}, Reason.CRASH_LOOPING, "no such file"),
        (
            {
                "state": {
                    "terminated": {**ENDED, "message": json.dumps({"reason": "ModelDownloadFailed", "message": "404"})}
                }
            },
            Reason.MODEL_DOWNLOAD_FAILED,
            "404",
        ),
        (
            {"scheduled": False, "unschedulable": 'persistentvolumeclaim "w" not found'},
            Reason.VOLUME_FAILED,
            '"w" not found',
        ),
        (
            {"scheduled": False, "unschedulable": "Insufficient memory", "spec": asks(memory="9Gi")},
            Reason.NEVER_SCHEDULABLE,
            "9.0Gi of memory, and the largest node has 8.0Gi",
        ),
        (
            {"scheduled": False, "unschedulable": "Insufficient", "spec": asks(**{"nvidia.com/gpu": "8"})},
            Reason.NEVER_SCHEDULABLE,
            "8 of nvidia.com/gpu, and the largest node has 4",
        ),
    ],
)
def test_hopeless(fields: dict[str, Any], reason: Reason, words: str) -> None:
    """Found at once, with words that say what is wrong."""
    finding = find(**fields)
    assert finding is not None and finding.hopeless
    assert finding.reason is reason
    assert words in finding.message


@pytest.mark.parametrize(
    "fields",
    [
        {"state": waiting("CrashLoopBackOff"), "last": {"terminated": ENDED}, "restarts": 1},
        {"state": waiting("ImagePullBackOff")},
        {"state": waiting("ErrImagePull")},
        {"state": {"terminated": {**ENDED, "message": '{"reason": "SomethingElse"}'}}},
        {"state": {"terminated": {**ENDED, "message": "[1]"}}},
    ],
)
def test_a_first_failure_is_not_hopeless(fields: dict[str, Any]) -> None:
    """Many of them pass."""
    assert find(**fields) is None


def test_a_pull_counts_from_its_second_backoff_on() -> None:
    """By the changes of the pod's status, or by the time that has passed."""
    watch, names = (
        PullWatch(),
        ("ErrImagePull", "ImagePullBackOff", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"),
    )
    counts = []
    for index, reason in enumerate(names):
        pod = read(pod_object(state=waiting(reason, "no such tag")))
        watch.observe(pod, NOW + index * SECOND)
        counts.append(watch.count(pod.uid, NOW + index * SECOND))
    assert counts == [0, 1, 1, 1, 2]
    pods = [read(pod_object(state=waiting("ImagePullBackOff", "no such tag")))]
    finding = diagnose(pods, Evidence(pulls={pods[0].uid: 2}), NOW)
    assert finding is not None and finding.reason is Reason.IMAGE_PULL_FAILED and "no such tag" in finding.message
    missed = PullWatch()
    missed.observe(pods[0], NOW)
    assert missed.count(pods[0].uid, NOW) == 1 and missed.due_us(pods[0].uid, NOW) == NOW + 25 * SECOND
    assert missed.due_us(pods[0].uid, NOW + 25 * SECOND) is None, "a time that has passed is no time to look again"
    assert missed.count(pods[0].uid, NOW + 25 * SECOND) == 2
    missed.observe(read(pod_object(state={"running": {}})), NOW)
    assert missed.count(pods[0].uid, NOW + 99 * SECOND) == 0 and missed.due_us(pods[0].uid, NOW) is None


def test_taken_capacity_is_waited_for_and_told_after_its_timeout() -> None:
    """A node that is full now is no node that is too small; with nodes on demand nothing is too large."""
    fields: dict[str, Any] = {"scheduled": False, "unschedulable": "Insufficient cpu", "spec": asks(cpu="4")}
    finding = find(Evidence(nodes=(NODE,)), **fields)
    assert finding is not None and (finding.reason, finding.hopeless) == (Reason.WAKING, False)
    finding = find(Evidence(nodes=(NODE,), capacity_us=60 * SECOND), **fields)
    assert finding is not None and (finding.reason, finding.hopeless) == (Reason.UNSCHEDULABLE, False)
    large = {**fields, "spec": asks(cpu="400")}
    finding = find(Evidence(nodes=(NODE,), elastic=True), **large)
    assert finding is not None and finding.reason is Reason.WAKING
    finding = find(Evidence(), **large)
    assert finding is not None and finding.reason is Reason.WAKING, "no node is known yet"


def test_the_deadline_runs_from_the_node_to_readiness() -> None:
    """And ends for a pod that has been ready once."""
    finding = find(Evidence(deadline_us=60 * SECOND), state={"running": {}})
    assert finding is not None and finding.reason is Reason.START_DEADLINE_EXCEEDED and finding.at_once
    assert find(Evidence(deadline_us=61 * SECOND), state={"running": {}}) is None
    served = read(pod_object(state={"running": {}}))
    again = type(served)(**{**{name: getattr(served, name) for name in served.__slots__}, "ready_us": NOW})
    assert again.served and diagnose([again], Evidence(deadline_us=1), NOW) is None


def test_what_an_engine_answered_instead_of_a_token_is_told() -> None:
    """As far as it is about the container that runs."""
    gated = pod_object(state={"running": {}})
    gated["spec"]["readinessGates"] = [{"conditionType": CONDITION_TOKEN}]
    gated["status"]["containerStatuses"][0]["containerID"] = "containerd://c1"
    token = {"type": CONDITION_TOKEN, "status": "False", "message": "container c1 generated no token: 404: none"}
    gated["status"]["conditions"] += [{"type": "ContainersReady", "status": "True"}, token]

    def said() -> str:
        finding = diagnose([read(gated)], Evidence(deadline_us=60 * SECOND), NOW)
        assert finding is not None and finding.reason is Reason.START_DEADLINE_EXCEEDED
        return finding.message

    assert "had generated no token 1m after its pod got a node (container c1 generated no token: 404: none)" in said()
    gated["status"]["containerStatuses"][0]["containerID"] = "containerd://c2"
    assert "had generated no token 1m after its pod got a node: raise" in said()
    gated["status"]["conditions"][-2]["status"] = "False"
    assert "was loading 1m after" in said()


def test_volumes_that_do_not_mount() -> None:
    """Told only while the container waits for them."""
    mounts = {"uid-a-1": "MountVolume.SetUp failed"}
    finding = find(Evidence(mounts=mounts), state=waiting("ContainerCreating"))
    assert finding is not None and finding.reason is Reason.VOLUME_FAILED
    assert find(Evidence(mounts=mounts), state={"running": {}}) is None


def test_refused_pods() -> None:
    """The Deployment's own condition tells it, as long as there is no pod."""
    finding = diagnose([], Evidence(refused="exceeded quota"), NOW)
    assert finding is not None and finding.reason is Reason.POD_REFUSED and "quota" in finding.message


def test_an_endpoint_is_as_well_as_its_best_pod() -> None:
    """One pod that may still come up keeps clients waiting."""
    bad = read(pod_object("a-1", state=waiting("InvalidImageName", "x")))
    good = read(pod_object("a-2", state={"running": {}}))
    assert diagnose([bad, good], Evidence(), NOW) is None
    assert diagnose([bad, bad], Evidence(), NOW) is not None


def test_messages_are_one_bounded_line() -> None:
    """Users' text goes into conditions and logs."""
    finding = find(state=waiting("InvalidImageName", "x\n" * 5000))
    assert finding is not None and "\n" not in finding.message and len(finding.message) <= 800


def test_requests_add_up_and_init_containers_count_by_the_largest() -> None:
    """As the scheduler counts; a limit alone is a request too."""
    spec = {
        "containers": [
            {"resources": {"requests": {"cpu": "500m"}}},
            {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ],
        "initContainers": [{"resources": {"requests": {"memory": "3Gi", "cpu": "1"}}}],
    }
    total = requests_of(spec)
    assert total["cpu"] == 1.5 and total["memory"] == 3 * 2**30
    assert obstacle(spec, [NODE]) == ""
    small = {"status": {"allocatable": {"cpu": "64", "memory": "1Gi"}}}
    large = {"status": {"allocatable": {"cpu": "1", "memory": "64Gi"}}}
    assert obstacle(spec, [small, large]) == "no single node has all that it requests"


def test_stages() -> None:
    """How far a pod has come."""
    assert read(pod_object(scheduled=False)).stage is Stage.PENDING
    assert read(pod_object(scheduled=False, unschedulable="x")).stage is Stage.UNSCHEDULABLE
    assert read(pod_object(state=waiting("ContainerCreating"))).stage is Stage.SCHEDULED
    assert read(pod_object(state={"running": {}})).stage is Stage.RUNNING
    assert read(pod_object(state={"running": {}}, ready=True)).stage is Stage.READY
    assert not read(pod_object(deletionTimestamp="2026-09-21T14:12:30Z")).counts
