"""`status` of an InferenceEndpoint: what the operator saw and decided; `wakeRequest` is the activators'.

States and reasons are open sets here, so that an older reader parses what a newer operator wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from zerotide.api.base import Model, Time, Unique
from zerotide.api.cost import Cost
from zerotide.api.scalars import MILLISECOND, PATTERN_DURATION, format_duration, parse_duration

Length = Annotated[str, Field(max_length=28, pattern=PATTERN_DURATION)]
Count = Annotated[int, Field(ge=0, le=2_147_483_647)]
Label = Annotated[str, Field(max_length=253)]
Id = Annotated[str, Field(max_length=64)]
Prose = Annotated[str, Field(max_length=1024)]


class Condition(Model):
    """One condition, as `metav1.Condition`."""

    type: Annotated[Label, Field(description="What the condition is about.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[
        str,
        Field(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="Why, as one word."),
    ]
    message: Annotated[str, Field(max_length=4096, description="Why, in a sentence.")]
    last_transition_time: Annotated[Time, Field(description="When the status changed last.")]
    observed_generation: Annotated[
        int | None, Field(ge=0, description="Generation of the spec that was looked at.")
    ] = None


class ModelStatus(Model):
    """The model as clients call it."""

    name: Annotated[str, Field(max_length=128, description="Name by which clients ask for the model.")]
    uri: Annotated[str | None, Field(max_length=1024, description="Where the weights are that the rest is about.")] = (
        None
    )
    revision: Annotated[
        str | None, Field(max_length=128, description="Commit of the Hub that they are of, where that is known.")
    ] = None
    digest: Annotated[
        str | None, Field(max_length=71, description="Digest of a model that the runtime published, as it was told.")
    ] = None
    bytes: Annotated[
        int | None, Field(ge=0, le=2**53, description="Bytes of the weights, as the runtime told with the newest wake.")
    ] = None


class AcceleratorStatus(Model):
    """What a replica runs on, or would now."""

    class_name: Annotated[str | None, Field(max_length=63, description="Class of the accelerators.")] = None
    count: Annotated[int, Field(ge=1, le=64, description="Accelerators per replica.")]
    summary: Annotated[str, Field(max_length=80, description="Both, for people.")]


class WakeRequest(Model):
    """The newest request of an activator that the endpoint wake."""

    id: Annotated[Id, Field(description="Identity of the request; one id is one wake.")]
    time: Annotated[Time, Field(description="When it was made.")]
    by: Annotated[Label, Field(description="The activator's pod.")]


class WakeStage(Model):
    """One stage of a wake."""

    name: Annotated[
        Label,
        Field(description="provision, pull, load, init or firstByte; one that took no time may be absent."),
    ]
    duration: Annotated[Length, Field(description="How long it took.")]


class LastWake(Model):
    """The newest finished wake; its stages sum to its total."""

    id: Annotated[Id, Field(description="Identity of the wake request.")]
    time: Annotated[Time, Field(description="When the first request was held.")]
    cause: Annotated[Label, Field(description="What asked for the wake: Request, Annotation, MinReplicas, Pinned.")]
    total: Annotated[Length, Field(description="From the first request to the first byte of its answer.")]
    stages: Annotated[
        tuple[WakeStage, ...], Field(max_length=8, description="Where the time went."), Unique("name")
    ] = ()

    @classmethod
    def of(cls, id: str, time: str, cause: str, stages: Mapping[str, int]) -> Self:
        """Build the record from stages in microseconds, each rounded to milliseconds before they are summed."""
        rounded = {name: (max(us, 0) + MILLISECOND // 2) // MILLISECOND * MILLISECOND for name, us in stages.items()}
        return cls(
            id=id,
            time=time,
            cause=cause,
            total=format_duration(sum(rounded.values())),
            stages=tuple(WakeStage(name=name, duration=format_duration(us)) for name, us in rounded.items()),
        )

    @property
    def total_us(self) -> int:
        """Return the total in microseconds."""
        return parse_duration(self.total)


class ColdStarts(Model):
    """How long the newest wakes took."""

    window: Annotated[Count, Field(description="How many wakes are looked at, at most.")]
    count: Annotated[Count, Field(description="How many there were.")]
    p50: Annotated[Length | None, Field(description="Half of them took no longer.")] = None
    p90: Annotated[Length | None, Field(description="Nine of ten took no longer.")] = None
    recent: Annotated[
        tuple[Length, ...],
        Field(
            max_length=20,
            description="How long each of them took, newest first.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class LearnedIdle(Model):
    """What was learned of the endpoint's silences, where scaling.idle.policy is Learned."""

    timeout: Annotated[Length, Field(description="Time without a request after which it falls asleep.")]
    message: Annotated[Prose, Field(description="The numbers that it follows from.")] = ""
    silences: Annotated[Count, Field(description="How many silences are remembered.")] = 0
    history: Annotated[
        str,
        Field(
            max_length=2048,
            pattern=r"^[0-9: ]*$",
            description="How many there were by length, `bin:count`: bin 0 is up to 1s, each next one a twelfth longer "
            "(the eighth root of 2).",
        ),
    ] = ""
    history_after_wakes: Annotated[
        str,
        Field(
            max_length=2048,
            pattern=r"^[0-9: ]*$",
            description="The same of those that were the first after a wake, which are in `history` too.",
        ),
    ] = ""
    held_per_wake: Annotated[
        str,
        Field(
            max_length=12,
            pattern=r"^[0-9]{1,9}(\.[0-9]{1,2})?$",
            description="All the time that requests waited for a cold start, over its length: the mean of the last.",
        ),
    ] = "1"
    wakes: Annotated[Count, Field(description="How many cold starts that is the mean of.")] = 0


class PrewarmOpening(Model):
    """A replica that was started ahead of requests, or would have been, and for which none came yet."""

    opened_time: Annotated[Time, Field(description="When it was started.")]
    start_time: Annotated[Time, Field(description="From when on requests are expected.")]
    end_time: Annotated[Time, Field(description="Until when it is kept for them.")]
    lead: Annotated[Length, Field(description="How long before the requests it was to be started.")]
    set_aside: Annotated[Length, Field(description="What of the budget it costs if nobody comes; part of `spent`.")]


class PrewarmStatus(Model):
    """What prewarming foretells and did, or would have done where scaling.prewarm.mode is DryRun."""

    message: Annotated[Prose, Field(description="What it did, or would have done, in numbers.")] = ""
    next_time: Annotated[
        Time | None, Field(description="When requests are expected next; a replica starts before by coldStarts.p90.")
    ] = None
    met: Annotated[Count, Field(description="How often a request came to a replica that was started for it.")] = 0
    missed: Annotated[Count, Field(description="How often none came.")] = 0
    saved: Annotated[Length, Field(description="Time that the first of these requests would have waited.")] = "0s"
    spent: Annotated[Length, Field(description="What of the budget is spent, or set aside.")] = "0s"
    spent_day: Annotated[Time, Field(description="The day on which it is.")]
    opening: Annotated[PrewarmOpening | None, Field(description="What is going on; absent where nothing is.")] = None
    opened_for: Annotated[
        Time | None, Field(description="For when the newest replica was started, so that none is started twice.")
    ] = None
    since: Annotated[Time, Field(description="Since when hours are counted.")]
    history: Annotated[
        str,
        Field(
            max_length=2048,
            pattern=r"^[0-9: ]*$",
            description="When requests woke it, `hour:weeks:first:last`: the hour of the week (0 is Thursday 0:00 of "
            "UTC, give or take half an hour), in how many weeks, and the first and last minute since that half hour.",
        ),
    ] = ""
    newest: Annotated[Time | None, Field(description="The newest hour in it, so that none is counted twice.")] = None


class OpenWindow(Model):
    """The window of scaling.schedules that decides, or the one that opens next."""

    name: Annotated[Label, Field(description="Its name.")]
    min_replicas: Annotated[Count, Field(description="Replicas that are kept meanwhile.")]
    start_time: Annotated[Time, Field(description="When it opens, or did.")]
    end_time: Annotated[Time, Field(description="When it closes.")]
    lead_time: Annotated[
        Length, Field(description="So much earlier replicas are started: coldStarts.p90 at that time.")
    ] = "0s"


class LiveOverride(Model):
    """The scaling.override that holds."""

    min_replicas: Annotated[Count, Field(description="Replicas that it keeps in place of minReplicas and schedules.")]
    until: Annotated[Time, Field(description="When it ends; from then on it is nothing, even where it is still shown.")]


class FailedStarts(Model):
    """Starts that failed one after another; a start that succeeds, or a new spec, clears them."""

    count: Annotated[
        Count, Field(description="How many failed within the start.failureWindow that ends with the newest of them.")
    ]
    since: Annotated[Time, Field(description="When the first of them failed.")]
    times: Annotated[
        tuple[Time, ...],
        Field(
            max_length=100,
            description="When each of them failed, newest first; no more than 100 are counted.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    reason: Annotated[Label, Field(description="Why the newest failed, as one word.")]
    message: Annotated[Prose, Field(description="Why the newest failed, in a sentence.")] = ""
    retry_time: Annotated[
        Time | None, Field(description="Until when no further start is tried; absent while one is under way.")
    ] = None


class VerificationStatus(Model):
    """Whether the present spec was proven to start, where start.verify is OnChange."""

    spec_digest: Annotated[Id, Field(description="Of the part of the spec that pods are made of.")]
    outcome: Annotated[Label, Field(description="Pending, Succeeded or Failed.")]
    failures: Annotated[Count, Field(description="Starts of it that failed.")] = 0
    reason: Annotated[Label, Field(description="How the newest start ended, as one word.")] = ""
    message: Annotated[Prose, Field(description="How the newest start ended, in a sentence.")] = ""


class HandledAnnotations(Model):
    """The newest values of the annotations that ask for a wake or a sleep, as far as they were acted upon."""

    wake_requested_at: Annotated[Prose | None, Field(description="Of zerotide.dev/wake-requested-at.")] = None
    sleep_requested_at: Annotated[Prose | None, Field(description="Of zerotide.dev/sleep-requested-at.")] = None


class Decision(Model):
    """One change of the wanted number of replicas."""

    time: Annotated[Time, Field(description="When it was taken.")]
    from_replicas: Annotated[Count, Field(alias="from", description="Replicas before.")]
    to_replicas: Annotated[Count, Field(alias="to", description="Replicas after.")]
    reason: Annotated[Label, Field(description="Why, as one word.")]
    message: Annotated[Prose, Field(description="Why, in a sentence.")] = ""


class Status(Model):
    """What the operator saw and decided."""

    state: Annotated[
        Label | None,
        Field(
            description="For people: Asleep, Waking, WaitingForCapacity, Pulling, Loading, Awake, Draining, Failed "
            "or Suspended; more may come. Machines read the conditions."
        ),
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            description="Ready, Accepting, Serving, Reconciling and Stalled; Verified where start.verify is OnChange.",
        ),
        Unique("type"),
    ] = ()
    replicas: Annotated[Count | None, Field(description="Pods that exist.")] = None
    ready_replicas: Annotated[Count | None, Field(description="Pods that can serve.")] = None
    desired_replicas: Annotated[Count | None, Field(description="Replicas that were decided last.")] = None
    selector: Annotated[
        str | None, Field(max_length=512, description="Label selector of the pods, for autoscalers.")
    ] = None
    observed_generation: Annotated[
        int | None, Field(ge=0, description="Generation of the spec that this status is about.")
    ] = None
    url: Annotated[str | None, Field(max_length=512, description="Address of the endpoint within the cluster.")] = None
    last_activity_time: Annotated[
        Time | None, Field(description="Arrival or end of the newest request, at most a minute late.")
    ] = None
    kept_awake_by: Annotated[Prose | None, Field(description="What keeps it from sleeping, if anything.")] = None
    model: Annotated[ModelStatus | None, Field(description="The model as clients call it.")] = None
    accelerator: Annotated[
        AcceleratorStatus | None, Field(description="What a replica runs on, or would now. Absent: the CPU.")
    ] = None
    wake_request: Annotated[
        WakeRequest | None, Field(description="The newest wish to wake; written by activators only.")
    ] = None
    handled_wake_request: Annotated[Id | None, Field(description="Id of the newest wish that was acted upon.")] = None
    handled_annotations: Annotated[
        HandledAnnotations | None, Field(description="Wishes by annotation that were acted upon.")
    ] = None
    failed_starts: Annotated[FailedStarts | None, Field(description="Starts that failed, if any did lately.")] = None
    verification: Annotated[
        VerificationStatus | None,
        Field(description="Whether the spec was proven to start, where start.verify is OnChange."),
    ] = None
    last_wake: Annotated[LastWake | None, Field(description="The newest finished wake.")] = None
    cold_starts: Annotated[ColdStarts | None, Field(description="How long the newest wakes took.")] = None
    idle: Annotated[
        LearnedIdle | None, Field(description="The learned idle timeout, where scaling.idle.policy is Learned.")
    ] = None
    prewarm: Annotated[PrewarmStatus | None, Field(description="What prewarming did, or would have done.")] = None
    schedule: Annotated[
        OpenWindow | None, Field(description="The window of scaling.schedules that decides, or opens next.")
    ] = None
    override: Annotated[LiveOverride | None, Field(description="The scaling.override that holds.")] = None
    cost: Annotated[Cost | None, Field(description="What it cost, as far as its time is counted.")] = None
    last_decision: Annotated[Decision | None, Field(description="The newest change of replicas.")] = None
    decisions: Annotated[
        tuple[Decision, ...],
        Field(
            max_length=5,
            description="The newest changes of replicas, newest first.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of a type, or None."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def explanation(self, condition: Condition) -> str:
        """Return a condition's message, in full where Ready tells the same reason, else what it says itself."""
        ready = self.condition("Ready")
        whole = ready.message if ready is not None and ready.reason == condition.reason else ""
        return whole or condition.message or condition.reason

    @classmethod
    def read(cls, status: Mapping[str, Any] | None) -> Self:
        """Read a status of the API server, ignoring fields that this version does not know."""
        return cls.model_validate(status or {}, extra="ignore")
