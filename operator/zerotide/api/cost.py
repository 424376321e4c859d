"""What endpoints cost: `status.cost`, and how the exporter tells the operator of it.

The operator asks `GET /internal/costs?epoch=…&after=…` and is told what has changed since the version that it has
seen; an epoch that is not the exporter's own, as after a restart of either, means everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from zerotide.api.base import Model
from zerotide.api.lines import Count, Line

PATH = "/internal/costs"

Money = Annotated[str, Field(max_length=40, pattern=r"^[0-9]{1,24}(\.[0-9]{1,12})?$")]


class FailedStartsCost(Model):
    """What starts that failed one after another have used up so far, for nothing."""

    accelerator_seconds: Annotated[
        int, Field(ge=0, le=2**53, description="Seconds for which they held accelerators, each one counted.")
    ]
    amount: Annotated[Money, Field(description="What they cost; time in which a pod was backed off has weight 0.")]


class Cost(Model):
    """What the endpoint cost, as far as its time is counted, in days of UTC.

    Of an endpoint without replicas these are the month and the day that it ran last.
    """

    currency: Annotated[str, Field(max_length=3, pattern=r"^[A-Z]{3}$", description="Currency of all amounts.")]
    month: Annotated[
        str, Field(max_length=7, pattern=r"^[0-9]{4}-[0-9]{2}$", description="The newest month in which it ran.")
    ]
    month_to_date: Annotated[Money, Field(description="Cost of that month so far.")]
    day: Annotated[
        str,
        Field(
            max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="The newest day of it on which it ran."
        ),
    ]
    day_to_date: Annotated[Money, Field(description="Cost of that day so far.")]
    last_cold_start: Annotated[
        Money | None, Field(description="Cost of starting the replica that lastWake waited for.")
    ] = None
    per_million_tokens: Annotated[
        Money | None,
        Field(description="The month's cost, starts and idle time included, for a million of its tokens in and out."),
    ] = None
    failed_starts: Annotated[
        FailedStartsCost | None, Field(description="What the starts of status.failedStarts have used up.")
    ] = None


class Spending(Line):
    """What one endpoint cost; `final` says that all its pods are over and counted, so that it stays like that."""

    endpoint: str
    """`namespace/name`."""
    final: bool
    cost: Mapping[str, Any]
    """A `Cost` as JSON; read it leniently, since a newer exporter may have added to it."""


class Spendings(Line):
    """What has changed since a version."""

    epoch: str
    version: Count
    endpoints: tuple[Spending, ...] = ()
