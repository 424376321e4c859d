"""`spec.scaling`: how many replicas, and when none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Duration, Model, Rule, Span, Unique
from zerotide.api.spec_schedules import Override, Schedule
from zerotide.api.spec_serving import PATH


class Concurrency(Model):
    """How many requests one replica serves at a time."""

    target: Annotated[
        StrictInt, Field(ge=1, le=10_000, description="Requests in flight per replica that scaling aims at.")
    ] = 8
    limit: Annotated[
        StrictInt,
        Field(ge=0, le=10_000, description="Requests in flight per replica that are never exceeded; 0 means no limit."),
    ] = 32


class QueueDelay(Model):
    """How long requests wait for a replica."""

    target: Annotated[
        Duration,
        Span("10ms", "10m"),
        Field(
            description="Time that a request may wait while replicas serve. As long as it is longer, replicas are "
            "added: in proportion, at most as many as serve. A wake is no such wait."
        ),
    ]


class EngineQueue(Model):
    """How many requests wait within the engine."""

    target: Annotated[
        StrictInt,
        Field(ge=1, le=10_000, description="Requests that wait within the engine, per replica, that scaling aims at."),
    ]


class TokensInFlight(Model):
    """How many tokens are in flight."""

    target: Annotated[
        StrictInt,
        Field(ge=1, le=100_000_000, description="Tokens in flight in the engine, per replica, that scaling aims at."),
    ]


class Idle(Model):
    """When an endpoint falls asleep."""

    policy: Annotated[
        Literal["Fixed", "Learned"],
        Field(
            description="Fixed: after `timeout` without a request. Learned: after the time that costs least by what "
            "was seen of this endpoint's silences and cold starts; status.idle explains it. `timeout` holds until "
            "five silences were seen."
        ),
    ] = "Fixed"
    timeout: Annotated[
        Duration,
        Span("5s", "24h"),
        Field(description="Time after the end of the last request until the last replica is given up."),
    ] = Duration("5m")


class Prewarm(Model):
    """Whether a replica is started before requests that come at this hour of the week."""

    mode: Annotated[
        Literal["Disabled", "DryRun", "Enabled"],
        Field(
            description="Enabled: where requests woke it at this hour of earlier weeks, it starts before them. DryRun: "
            "status.prewarm says what that would have done. Disabled: neither, and what was seen is forgotten."
        ),
    ] = "Disabled"
    budget: Annotated[
        Duration,
        Span("1m", "24h"),
        Field(description="Time of a replica within a day (of UTC) that it may cost before requests come, or in vain."),
    ] = Duration("30m")


class Ping(Model):
    """How replicas that nobody asks anything are kept quick."""

    RULES = (
        Rule(
            "has(self.path) || !has(self.body)",
            "must have a path where it has a body",
            lambda ping: ping.path is not None or ping.body is None,
        ),
    )
    interval: Annotated[
        Duration,
        Span("10s", "24h"),
        Field(description="Time without a request or a ping after which a replica that serves gets one."),
    ]
    path: Annotated[
        str | None,
        Field(max_length=256, description="Path of the ping. Absent: one token is asked for, as the engine wants it."),
        PATH,
    ] = None
    body: Annotated[
        str | None,
        Field(min_length=1, max_length=4096, description="JSON that is sent to the path by POST. Absent: a GET."),
    ] = None


class Stabilization(Model):
    """How long a load must last before the number of replicas follows it."""

    scale_up: Annotated[
        Duration, Span("0s", "1h"), Field(description="Time before a replica is added; a wake never waits.")
    ] = Duration("0s")
    scale_down: Annotated[
        Duration, Span("0s", "1h"), Field(description="Time before a replica is removed, the last one aside.")
    ] = Duration("1m")


class Scaling(Model):
    """How many replicas, and when none."""

    min_replicas: Annotated[
        StrictInt, Field(ge=0, le=1000, description="Replicas that are kept without any request; 0 lets it sleep.")
    ] = 0
    max_replicas: Annotated[StrictInt, Field(ge=1, le=1000, description="Replicas that are never exceeded.")] = 1
    pinned_replicas: Annotated[
        StrictInt,
        Field(
            ge=0,
            le=1000,
            description="Exactly so many replicas, whatever the load; 0 lets Zerotide decide. `kubectl scale` and "
            "HorizontalPodAutoscalers write here.",
        ),
    ] = 0
    concurrency: Annotated[Concurrency, Field(description="How many requests one replica serves at a time.")] = (
        Concurrency()
    )
    queue_delay: Annotated[
        QueueDelay | None,
        Field(
            description="How long requests may wait for a replica. The largest number wins, of this and of "
            "`concurrency.target`. Absent: waiting adds no replicas by itself."
        ),
    ] = None
    engine_queue: Annotated[
        EngineQueue | None,
        Field(
            description="How many requests wait within the engine, as its own metrics say: of the engines known here, "
            "and of any other with a metric of the same name. Absent: nobody asks it."
        ),
    ] = None
    tokens_in_flight: Annotated[
        TokensInFlight | None,
        Field(
            description="How many tokens the requests that run in the engine hold, as its own metrics say; a long "
            "prompt counts for what it is. Not for llama.cpp, which does not say. Absent: nobody asks it."
        ),
    ] = None
    idle: Annotated[Idle, Field(description="When the endpoint falls asleep.")] = Idle()
    prewarm: Annotated[
        Prewarm, Field(description="Whether a replica starts before requests that come at this hour of the week.")
    ] = Prewarm()
    ping: Annotated[
        Ping | None,
        Field(
            description="Small requests to replicas that serve and that nobody asks anything, so that caches and "
            "devices do not fall asleep. They are no demand, keep nothing awake and are not billed. Absent: none."
        ),
    ] = None
    stabilization: Annotated[
        Stabilization, Field(description="How long a load must last before the number of replicas follows it.")
    ] = Stabilization()
    schedules: Annotated[
        tuple[Schedule, ...],
        Field(
            max_length=16,
            description="Windows of time within which replicas are kept; the highest wins. Replicas are started "
            "earlier by the time that nine of ten cold starts took.",
        ),
        Unique("name"),
    ] = ()
    override: Annotated[
        Override | None, Field(description="A floor for a while, in place of minReplicas and schedules.")
    ] = None

    @property
    def kept_replicas(self) -> int:
        """Return how many replicas are kept without any request, whatever the time."""
        return self.pinned_replicas or self.min_replicas

    @property
    def asks_engines(self) -> bool:
        """Tell whether engines are to be asked for their load."""
        return self.engine_queue is not None or self.tokens_in_flight is not None

    @property
    def calls_replicas(self) -> bool:
        """Tell whether the operator itself calls replicas."""
        return self.asks_engines or self.ping is not None
