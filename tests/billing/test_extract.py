"""What a pod object proves, and when the meter's finalizer may go."""

from __future__ import annotations

import pytest

from tests.billing.worlds import T0, at, pod
from zerotide.api.scalars import SECOND
from zerotide.billing.extract import gone_fact, is_over, pod_facts, releasable, seen_facts
from zerotide.billing.facts import Accelerator, Fact, Identity, Kind, decode_accelerator, decode_identity
from zerotide.billing.fold import fold


def times(facts: list[Fact]) -> dict[str, list[float]]:
    """Return the seconds after T0 by kind."""
    found: dict[str, list[float]] = {}
    for fact in facts:
        found.setdefault(fact.kind, []).append((fact.t_us - T0) / SECOND)
    return found


def test_every_stage_of_a_life_is_read_from_the_last_object() -> None:
    corpse = pod(created=0, scheduled=1, started=3, deleted=60, finished=62)
    found = times(pod_facts("c", corpse))
    assert {kind: found[kind] for kind in ("created", "scheduled", "started", "exited", "delete", "finished")} == {
        "created": [0],
        "scheduled": [1],
        "started": [3],
        "exited": [62],
        "delete": [60],
        "finished": [62],
    }


def test_reading_the_same_object_twice_gives_equal_facts() -> None:
    corpse = pod(scheduled=1, started=3, ready=5)
    assert pod_facts("c", corpse) == pod_facts("c", corpse)


def test_identity_names_the_endpoint() -> None:
    facts = {fact.kind: fact for fact in pod_facts("c", pod())}
    assert decode_identity(facts[Kind.POD].key) == Identity("demo", "smollm2", "p1")


def test_a_pod_says_of_which_device_it_has_a_part() -> None:
    """As the operator wrote it there from its class; what else stands there says nothing."""
    given = pod(scheduled=1)
    given["spec"]["containers"][0]["resources"] = {"requests": {"nvidia.com/mig-1g.10gb": "1"}}

    def accelerator(text: str) -> Accelerator:
        given["metadata"]["annotations"] = {"zerotide.dev/accelerator-part": text}
        facts = {fact.kind: fact for fact in pod_facts("c", given, class_name="slice")}
        return decode_accelerator(facts[Kind.ACCELERATOR].key)

    assert accelerator("1/7 h100") == Accelerator(2, "h100", 7)
    assert accelerator("all of it") == Accelerator(2, "slice")


def test_ready_counts_only_while_it_is_true() -> None:
    unready = pod(scheduled=1, started=3, ready=5)
    unready["status"]["conditions"][-1]["status"] = "False"
    assert "ready" not in times(pod_facts("c", unready))
    assert times(pod_facts("c", pod(scheduled=1, started=3, ready=5)))["ready"] == [5]


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "", None])
def test_zero_times_are_absent(zero: str | None) -> None:
    unknown = pod(scheduled=1, started=3, finished=9)
    unknown["status"]["containerStatuses"][0]["state"]["terminated"] |= {"startedAt": zero, "finishedAt": zero}
    unknown["status"]["conditions"].append({"type": "Ready", "status": "False", "lastTransitionTime": at(20)})
    found = times(pod_facts("c", unknown))
    assert "finished" not in found
    assert "started" not in found
    assert found["terminal"] == [20], "the API server's own stamp stands in for the container's"


def test_an_earlier_run_of_a_restarted_container_is_kept() -> None:
    restarted = pod(scheduled=1, started=30)
    restarted["status"]["containerStatuses"][0]["lastState"] = {
        "terminated": {"startedAt": at(3), "finishedAt": at(20)}
    }
    found = times(pod_facts("c", restarted))
    assert found["started"] == [3, 30]
    assert found["exited"] == [20]


def container(state: dict[str, object], restarts: int, last: tuple[float, float] | None = None) -> dict[str, object]:
    """Return the status of a model's container."""
    ended = {"terminated": {"startedAt": at(last[0]), "finishedAt": at(last[1])}} if last else {}
    return {"name": "model", "restartCount": restarts, "state": state, "lastState": ended}


@pytest.mark.parametrize(
    ("state", "restarts", "last"),
    [
        ({"running": {"startedAt": at(30)}}, 3, (3, 20)),
        ({"terminated": {"startedAt": at(30), "finishedAt": at(31)}}, 3, (3, 20)),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, 2, (3, 20)),
    ],
    ids=["runs again", "has exited again", "waits to be started again"],
)
def test_a_run_has_one_number_however_it_is_seen(
    state: dict[str, object], restarts: int, last: tuple[float, float]
) -> None:
    """The third run, from second 3 to 20: the kubelet counts restarts, and one that waits has no new run yet."""
    seen = pod(scheduled=1, started=3)
    seen["status"]["containerStatuses"] = [container(state, restarts, last)]
    facts = pod_facts("c", seen)
    assert {Fact("c", "uid-p1", Kind.STARTED, "model#2", T0 + 3 * SECOND)} <= set(facts)
    assert {Fact("c", "uid-p1", Kind.EXITED, "model#2", T0 + 20 * SECOND)} <= set(facts)
    others = {fact.key for fact in facts if fact.kind in (Kind.STARTED, Kind.EXITED)} - {"model#2"}
    assert others == ({"model#3"} if restarts == 3 else set())


@pytest.mark.parametrize(
    ("change", "end"),
    [({}, 60), ({"reason": "Evicted"}, 20)],
    ids=["deleted while it backed off", "evicted, and deleted later"],
)
def test_a_pod_that_backs_off_holds_its_devices_until_it_is_deleted(change: dict[str, str], end: float) -> None:
    corpse = pod(scheduled=1, started=3, deleted=60, finished=20, phase="Failed")
    corpse["status"] |= change
    assert times(pod_facts("c", corpse))["finished"] == [end]
    corpse["spec"]["restartPolicy"] = "Never"
    assert times(pod_facts("c", corpse))["finished"] == [20], "nothing would have started it again"


def test_the_kubelets_last_word_does_not_lengthen_a_pod() -> None:
    """It shortens the grace to nothing, and the API server then gives the deletion the time of that word."""
    seen = pod(scheduled=1, started=2, deleted=8, grace=2, finished=8)
    last = pod(scheduled=1, started=2, deleted=9, grace=0, finished=8)
    for corpse in (seen, last):
        assert times(pod_facts("c", corpse))["finished"] == [8]


def test_a_pod_that_backed_off_ends_with_its_deletion_also_if_the_last_word_is_read_too() -> None:
    """That word comes while the finalizer still stands, if the exporter does not take it off within the moment."""
    seen = pod(scheduled=1, started=3, deleted=60, finished=20, phase="Failed")
    last = pod(scheduled=1, started=3, deleted=61, grace=0, finished=20, phase="Failed")
    both = fold([*pod_facts("c", seen), *pod_facts("c", last)], as_of_us=T0 + 100 * SECOND)
    assert both is not None
    assert (both.end_us - T0) / SECOND == 60, "until then its devices were nobody else's"


def test_back_off_carries_the_time_at_which_it_was_seen() -> None:
    stuck = pod(scheduled=1)
    stuck["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
    assert seen_facts("c", stuck, T0 + 7) == [Fact("c", "uid-p1", Kind.BACKOFF, "ImagePullBackOff", T0 + 7)]
    assert seen_facts("c", pod(scheduled=1), T0 + 7) == []


def test_a_pod_that_nobody_saw_end_is_gone_when_it_was_missed() -> None:
    assert gone_fact("c", "u1", T0) == Fact("c", "u1", Kind.GONE, "", T0)


@pytest.mark.parametrize(
    ("given", "over"),
    [
        (pod(), False),
        (pod(scheduled=1, started=3, ready=5), False),
        (pod(scheduled=1, started=3, deleted=9), False),
        (pod(scheduled=1, deleted=9), False),
        (pod(deleted=9), True),
        (pod(scheduled=1, started=3, deleted=9, finished=11, phase="Running"), True),
        (pod(scheduled=1, started=3, finished=11, phase="Running"), False),
        (pod(scheduled=1, started=3, finished=11), True),
        (pod(scheduled=1, phase="Failed"), True),
    ],
    ids=[
        "new",
        "serving",
        "deleted, container runs",
        "deleted, container about to be made",
        "deleted before it was scheduled",
        "deleted, container terminated",
        "container terminated, will be restarted",
        "terminal",
        "refused by the kubelet",
    ],
)
def test_only_pods_that_hold_nothing_are_released(given: dict[str, object], over: bool) -> None:
    assert is_over(given) is over
    assert releasable(given) is over


def test_a_sidecar_that_still_runs_keeps_the_pod() -> None:
    given = pod(scheduled=1, started=3, deleted=9, finished=11, phase="Running")
    given["status"]["initContainerStatuses"] = [{"name": "proxy", "state": {"running": {"startedAt": at(2)}}}]
    assert not is_over(given)


def test_without_our_finalizer_there_is_nothing_to_release() -> None:
    assert not releasable(pod(scheduled=1, started=3, finished=11, finalizer=False))


def test_a_pod_whose_containers_never_ran_ends_at_its_deletion() -> None:
    """Its conditions still carry the stamps of its beginning; only the deletion tells when it ended."""
    stuck = pod(scheduled=1, deleted=60, grace=0, phase="Failed")
    stuck["status"]["conditions"].append({"type": "Ready", "status": "False", "lastTransitionTime": at(1)})
    assert times(pod_facts("c", stuck))["terminal"] == [60]
    refused = pod(scheduled=1, phase="Failed")
    refused["status"]["conditions"].append({"type": "Ready", "status": "False", "lastTransitionTime": at(1)})
    assert "terminal" not in times(pod_facts("c", refused)), "nothing stamps the end: the meter's own clock has to"
    evicted = pod(scheduled=1, started=2, phase="Failed")
    evicted["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at(9)})
    assert times(pod_facts("c", evicted))["terminal"] == [9]
