"""Build the status that the operator owns, and tell whether it is worth a write.

What changes with every request (the last activity, what keeps the endpoint awake, what was learned) is written along
with other changes, and alone at most once a minute; but once soon after an endpoint began to serve, since the request
that woke it is over in seconds. Steps of a start that follow each other quickly, the first one included, are written
as one: the API server has enough to do with the pod that somebody waits for. Where many endpoints start at once, all
that a wake changes waits for the others, and that a wish was heard, which whoever waits has felt, for what comes
along with it. What an endpoint costs is written along
with other changes, alone at most every five minutes, and once more when its last replica is over and counted. An
endpoint that sleeps is not rewritten after that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zerotide.api import names
from zerotide.api.conditions import State, Verified, conditions
from zerotide.api.endpoint import Decision as DecisionRecord
from zerotide.api.endpoint import FailedStarts as FailedStartsRecord
from zerotide.api.endpoint import (
    HandledAnnotations,
    LearnedIdle,
    LiveOverride,
    ModelStatus,
    OpenWindow,
    PrewarmOpening,
    PrewarmStatus,
    Status,
    parse_uri,
)
from zerotide.api.scalars import (
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    format_duration,
    format_micro_time,
    format_time,
    parse_time,
)
from zerotide.reconcile import wakes
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.service import url
from zerotide.reconcile.states import Verdict
from zerotide.reconcile.steer import Steering
from zerotide.reconcile.verifying import told
from zerotide.scaling.prewarm.account import DAY, Account

Object = dict[str, Any]

LAZY = {"lastActivityTime", "keptAwakeBy", "idle", "prewarm", "schedule", "override"}
"""Fields that alone are worth a write only once a minute."""
LAZY_US = MINUTE
SPENT = {"cost"}
"""What changes as long as there are replicas."""
SPENT_US = 5 * MINUTE
FRESH_US, SETTLED_US = 3 * SECOND, 5 * SECOND
"""A status that was written so soon after an endpoint began to serve is settled so much later."""
CALM = {State.WAKING.value, State.PULLING.value, State.LOADING.value}
CALM_US = 500 * MILLISECOND
_STEPS = {"state", "conditions", "replicas", "readyReplicas"}
_FIRST_STEP = _STEPS | {"desiredReplicas", "handledWakeRequest", "handledAnnotations", "lastDecision", "decisions"}
_WOKEN = _FIRST_STEP | {"lastWake", "coldStarts"}
"""All that a wake changes, until its replica serves and its length is known."""
_HANDLED = {"handledWakeRequest"}
_STARTED = CALM | {State.AWAKE.value}
_OWNED = {field.alias for field in Status.model_fields.values()} - {"wakeRequest"}
_DECISIONS = 5
_COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that names one content for ever."""
_MESSAGE = 1024


def build(observed: Observed, steering: Steering, verdict: Verdict, now_us: int) -> Object:
    """Return the whole status but for `wakeRequest`, which belongs to the activators."""
    endpoint, decision = observed.endpoint, steering.decision
    before, meta = endpoint.status, endpoint.metadata
    pods = [pod for pod in observed.pods if pod.counts]
    status: Object = {
        "state": verdict.state.value,
        "conditions": conditions(
            verdict.state,
            verdict.reason,
            verdict.message,
            meta.generation,
            observed.status.get("conditions") or [],
            now_us,
            rolling_out=verdict.rolling_out,
            name_taken=verdict.name_taken,
            detail=verdict.detail,
            external_writer=observed.writer.message if observed.writer else "",
            verified=_verified(steering),
        ),
        "replicas": len(pods),
        "readyReplicas": sum(pod.stage is Stage.READY for pod in pods),
        "desiredReplicas": decision.replicas,
        "selector": names.selector_text(meta.name),
        "observedGeneration": meta.generation,
        "url": url(endpoint),
        "model": _model(observed),
        "accelerator": steering.situation.device.status if steering.situation.device else None,
        "keptAwakeBy": decision.kept_by if decision.replicas else None,
        "lastActivityTime": _activity(observed),
        "idle": _learned(observed),
        "prewarm": _prewarm(observed),
        "schedule": _window(steering),
        "override": _override(observed, now_us),
        "handledWakeRequest": before.wake_request.id if before.wake_request else before.handled_wake_request,
        "handledAnnotations": _handled(observed, steering),
        "failedStarts": _failed(steering),
        "verification": steering.verification.dump() if steering.verification else None,
        "cost": _cost(observed),
        **_decisions(before, steering, now_us),
        **_wake(observed),
    }
    return {key: value for key, value in status.items() if value not in (None, [], {})}


def due(
    live: Mapping[str, Any],
    new: Mapping[str, Any],
    written_us: int,
    held_us: int | None,
    now_us: int,
    *,
    final: bool = False,
    rush_us: int = 0,
) -> int | None:
    """Return when the new status should be written: now or earlier for at once, later to wait, None for never.

    `held_us` is since when a step waits to be written, None where none does. `final` says that what it cost will stay
    as it is. `rush_us` is how long what nobody waits for should wait for other endpoints' starts.
    """
    changed = _changed(live, new)
    if not changed:
        return None
    if changed <= LAZY | SPENT:
        return _at_leisure(live, new, changed, written_us, now_us if final else None, rush_us)
    patience_us = _patience_us(live, new, changed, rush_us)
    if patience_us is None:
        return now_us
    if held_us is None:
        follows = live.get("state") in CALM and not _only_heard(changed)
        held_us = written_us if follows else now_us
    return held_us + patience_us


def _at_leisure(
    live: Mapping[str, Any],
    new: Mapping[str, Any],
    changed: set[str],
    written_us: int,
    final_us: int | None,
    rush_us: int,
) -> int | None:
    """Return when what nobody waits for should be written; `final_us` is now where what it cost is final."""
    times = []
    if changed & LAZY and new.get("state") in (State.AWAKE.value, State.DRAINING.value):
        fresh = written_us < _serving_since(live) + FRESH_US
        settled_us = written_us + SETTLED_US + rush_us
        times.append(settled_us if fresh and written_us else max(_last(live), written_us) + LAZY_US)
    if changed & SPENT and final_us is not None:
        times.append(final_us)
    elif changed & SPENT and new.get("replicas"):
        times.append(written_us + SPENT_US)
    return min(times, default=None)


def step(live: Mapping[str, Any], new: Mapping[str, Any], rush_us: int = 0) -> bool:
    """Tell whether all that changed is a step of a start, which nobody needs to know within half a second."""
    return _patience_us(live, new, _changed(live, new), rush_us) is not None


def _patience_us(live: Mapping[str, Any], new: Mapping[str, Any], changed: set[str], rush_us: int) -> int | None:
    """Return how long what changed may wait; None where it may not."""
    before, after, what = live.get("state"), new.get("state"), changed - LAZY - SPENT
    if _only_heard(changed) and after in _STARTED:
        return (SETTLED_US if after in CALM else CALM_US) + rush_us
    if rush_us and before in _STARTED | {State.ASLEEP.value} and after in _STARTED:
        return CALM_US + rush_us if what <= _WOKEN else None
    if after not in CALM:
        return None
    steps = {State.ASLEEP.value: _FIRST_STEP}.get(str(before), _STEPS if before in CALM else set())
    return CALM_US if what <= steps else None


def _only_heard(changed: set[str]) -> bool:
    """Tell whether nothing is new but that a wish was heard."""
    return changed - LAZY - SPENT == _HANDLED


def _changed(live: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    have = _ours(live, new)
    return {key for key in (*have, *new) if have.get(key) != new.get(key)}


def _ours(live: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """Return the part of a live status that we own; conditions of other types are not ours."""
    have = {key: value for key, value in live.items() if key in _OWNED}
    types = [condition["type"] for condition in new["conditions"]]
    by_type = {condition["type"]: condition for condition in live.get("conditions") or []}
    if have.get("conditions"):
        have["conditions"] = [by_type[type_] for type_ in types if type_ in by_type]
    return have


def _last(live: Mapping[str, Any]) -> int:
    written = live.get("lastActivityTime")
    return parse_time(written) if written else 0


def _serving_since(live: Mapping[str, Any]) -> int:
    serving = next((item for item in live.get("conditions") or [] if item["type"] == "Serving"), None)
    return parse_time(serving["lastTransitionTime"]) if serving and serving["status"] == "True" else 0


def _model(observed: Observed) -> Object:
    endpoint, told, before = observed.endpoint, observed.told, observed.endpoint.status.model
    uri, known = endpoint.spec.model.uri, ModelStatus(name=endpoint.model_name)
    if told is not None and told.uri == uri:
        weights = told.weights
        known = known.model_copy(
            update={"uri": uri, "revision": weights.revision, "digest": weights.digest, "bytes": weights.bytes}
        )
    elif before is not None and before.uri == uri:
        known = before.model_copy(update={"name": endpoint.model_name})
    pinned = parse_uri(uri).revision
    if known.revision is None and _COMMIT.fullmatch(pinned):
        known = known.model_copy(update={"uri": uri, "revision": pinned})
    return known.dump()


def _activity(observed: Observed) -> str | None:
    newest = observed.load.last_request_us
    before = observed.endpoint.status.last_activity_time
    known = parse_time(before) if before else 0
    return format_time(newest) if newest // 1_000_000 > known // 1_000_000 else before


def _learned(observed: Observed) -> Object | None:
    known = observed.learned
    if known is None:
        return None
    return LearnedIdle(
        timeout=format_duration(known.timeout_us),
        message=known.message[:_MESSAGE],
        silences=known.silences,
        history=known.history,
        history_after_wakes=known.after_wakes,
        held_per_wake=f"{known.waiting:.2f}",
        wakes=known.wakes,
    ).dump()


def _prewarm(observed: Observed) -> Object | None:
    known = observed.prewarmed
    if known is None:
        return None
    account = known.account
    return PrewarmStatus(
        message=known.message[:_MESSAGE],
        next_time=format_time(known.expected.start_us) if known.expected else None,
        met=account.met,
        missed=account.missed,
        saved=format_duration(account.saved_us),
        spent=format_duration(account.spent_us),
        spent_day=format_time(account.day * DAY),
        opening=_opening(account),
        opened_for=format_time(account.newest_us) if account.newest_us else None,
        since=format_time(known.habits.since_us),
        history=known.habits.written(),
        newest=format_time(known.habits.newest * HOUR) if known.habits.newest else None,
    ).dump()


def _opening(account: Account) -> PrewarmOpening | None:
    expected = account.opening
    if expected is None:
        return None
    return PrewarmOpening(
        opened_time=format_micro_time(account.opened_us),
        start_time=format_time(expected.start_us),
        end_time=format_time(expected.end_us),
        lead=format_duration(expected.start_us - expected.from_us),
        set_aside=format_duration(expected.most_us),
    )


def _window(steering: Steering) -> Object | None:
    window = steering.situation.floor.window
    if window is None:
        return None
    return OpenWindow(
        name=window.name,
        min_replicas=window.replicas,
        start_time=format_time(window.start_us),
        end_time=format_time(window.end_us),
        lead_time=format_duration(window.lead_us),
    ).dump()


def _override(observed: Observed, now_us: int) -> Object | None:
    override = observed.endpoint.spec.scaling.override
    if override is None or now_us >= parse_time(override.until):
        return None
    return LiveOverride(min_replicas=override.min_replicas, until=override.until).dump()


def _handled(observed: Observed, steering: Steering) -> Object | None:
    annotations = observed.endpoint.metadata.annotations
    before = observed.endpoint.status.handled_annotations
    sleep = annotations.get(names.ANNOTATION_SLEEP)
    policy, facts = steering.situation.policy, steering.situation.facts
    pending = facts.sleep and steering.decision.replicas and not policy.pinned
    if pending:
        sleep = before.sleep_requested_at if before else None
    record = HandledAnnotations(wake_requested_at=annotations.get(names.ANNOTATION_WAKE), sleep_requested_at=sleep)
    return record.dump() or None


def _verified(steering: Steering) -> Verified | None:
    known, where = steering.verification, steering.situation
    return told(known, where.obstacle, where.policy.suspended) if known is not None else None


def _failed(steering: Steering) -> Object | None:
    starts = steering.situation.starts
    if not starts.count:
        return None
    return FailedStartsRecord(
        count=starts.count,
        since=format_time(starts.since_us),
        times=tuple(format_time(time) for time in starts.times_us),
        reason=starts.reason,
        message=starts.message[:_MESSAGE],
        retry_time=format_time(starts.retry_us) if starts.retry_us else None,
    ).dump()


def _cost(observed: Observed) -> Object | None:
    cost = observed.spent.cost if observed.spent else observed.endpoint.status.cost
    return cost.dump() if cost else None


def _decisions(before: Status, steering: Steering, now_us: int) -> Object:
    decision, replicas = steering.decision, steering.situation.facts.replicas
    known = [record.dump() for record in before.decisions]
    if decision.replicas != replicas:
        record = DecisionRecord(
            time=format_micro_time(now_us),
            from_replicas=replicas,
            to_replicas=decision.replicas,
            reason=decision.why.value,
            message=decision.message[:_MESSAGE],
        )
        known = [record.dump(), *known][:_DECISIONS]
    return {"decisions": known, "lastDecision": known[0] if known else None}


def _wake(observed: Observed) -> Object:
    before, finished = observed.endpoint.status, observed.finished
    wake, starts = before.last_wake, before.cold_starts
    if finished is not None and (wake is None or wake.id != finished.id):
        wake, starts = finished, wakes.add(starts, finished)
    return {
        "lastWake": wake.dump() if wake else None,
        "coldStarts": starts.dump() if starts else None,
    }
