"""`spec.scaling.schedules` and `override`: replicas that are kept by the clock."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt

from zerotide.api.base import Duration, Matches, Model, Span, Time
from zerotide.api.bounds import Zone
from zerotide.api.cron import PATTERN_CRON

CRON = Matches(
    PATTERN_CRON,
    "be five cron fields of numbers, such as 0 8 * * 1-5: minute, hour, day of the month, month, day of the week",
)
Replicas = Annotated[StrictInt, Field(ge=0, le=1000)]


class Schedule(Model):
    """A window that opens again and again, within which replicas are kept without any request."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Its name."),
    ]
    start: Annotated[
        str,
        Field(
            max_length=128,
            description="When it opens, as five cron fields in its time zone. A time that the clock leaves out is "
            "taken an hour later, one that comes twice is taken once.",
        ),
        CRON,
    ]
    duration: Annotated[
        Duration, Span("1m", "168h"), Field(description="How long it stays open; it may end on another day.")
    ]
    time_zone: Annotated[
        str, Field(max_length=64, description="Name of an IANA time zone, such as Europe/Rome."), Zone()
    ] = "UTC"
    min_replicas: Annotated[Replicas, Field(description="Replicas that are kept meanwhile.")] = 1


class Override(Model):
    """A floor for a while; after `until` it is ignored."""

    min_replicas: Annotated[
        Replicas,
        Field(description="Replicas that are kept in place of minReplicas and schedules; 0 lets it sleep."),
    ]
    until: Annotated[Time, Field(description="When it ends.")]
