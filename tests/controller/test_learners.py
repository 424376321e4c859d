"""Learners of endpoints: who has one, what it is told, and what survives the operator."""

from __future__ import annotations

from typing import Any

from tests.reconcile.helpers import NOW, raw
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.controller.learners import PRIOR_US, UNKNOWN_COLD_S, Learners, cold_s
from zerotide.scaling.demand import Load


def endpoint(policy: str = "Learned", status: dict[str, Any] | None = None, uid: str = "u-1") -> InferenceEndpoint:
    """Return an endpoint."""
    obj = raw()
    obj["metadata"]["uid"] = uid
    obj["spec"]["scaling"] = {"idle": {"policy": policy, "timeout": "7m"}}
    return InferenceEndpoint.parse({**obj, "status": status or {}})


def teach(learners: Learners, pupil: InferenceEndpoint, silences: int, length_us: int = MINUTE) -> int:
    """Let requests come with silences between them; return the time."""
    now = NOW
    for _ in range(silences + 1):
        learners.observe(pupil, Load(0, 1, now, now, now), now)
        learners.observe(pupil, Load(0, 0, now + SECOND, now + SECOND, now + SECOND), now + SECOND)
        now += SECOND + length_us
    return now


def test_only_where_the_spec_asks_for_it() -> None:
    """Fixed endpoints have none, and one that becomes Fixed forgets."""
    learners = Learners(7.0)
    teach(learners, endpoint("Fixed"), 9)
    assert learners.idle(endpoint("Fixed"), NOW) is None
    now = teach(learners, endpoint(), 9)
    told = learners.idle(endpoint(), now)
    assert told is not None and told.silences == 9 and told.timeout_us >= MINUTE
    assert learners.idle(endpoint("Fixed"), now) is None
    again = learners.idle(endpoint(), now)
    assert again is not None and again.silences == 0 and again.timeout_us == 7 * MINUTE


def test_a_new_operator_goes_on_where_the_last_one_stopped() -> None:
    """From the status; a namesake with another uid begins anew."""
    first = Learners(7.0)
    now = teach(first, endpoint(), 40)
    first.woke(endpoint())
    before = first.idle(endpoint(), now)
    assert before is not None
    assert before.after_wakes == ""
    kept = {"timeout": "1m", "history": before.history, "historyAfterWakes": "3:4", "silences": before.silences}
    kept |= {"heldPerWake": "2.50", "wakes": 4}
    second = Learners(7.0)
    after = second.idle(endpoint(status={"idle": kept}), now)
    assert after is not None and after.silences == 40 and (after.history, after.after_wakes) == (before.history, "3:4")
    assert (after.waiting, after.wakes) == (2.5, 4)
    other = second.idle(endpoint(uid="u-2"), now)
    assert other is not None and other.silences == 0
    second.forget(endpoint().key)
    gone = second.idle(endpoint(), now)
    assert gone is not None and gone.silences == 0


def test_cold_starts_are_taken_from_what_was_measured() -> None:
    """Half a minute before the first."""
    assert cold_s(endpoint().status) == UNKNOWN_COLD_S
    measured = endpoint(status={"coldStarts": {"window": 20, "count": 3, "p50": "2s", "p90": "9s"}})
    assert cold_s(measured.status) == 2.0


def test_other_endpoints_say_what_a_new_one_may_be_like() -> None:
    """Asked for again every ten minutes; the choice follows once there are two with a history."""
    learners = Learners(7.0)
    names = [f"m{index}" for index in range(3)]
    pupils = [endpoint(uid=name).model_copy() for name in names]
    for pupil, length in zip(pupils, (2, 3, 4), strict=True):
        object.__setattr__(pupil, "metadata", pupil.metadata.model_copy(update={"name": pupil.metadata.uid}))
        teach(learners, pupil, 20, length * MINUTE)
        learners.idle(pupil, NOW)
    early = learners.idle(pupils[0], NOW)
    later = learners.idle(pupils[0], NOW + PRIOR_US)
    assert early is not None and later is not None and early.message != later.message
