"""The Budget object: how much a namespace, its consumers or its endpoints may use up, and what happens then.

A budget binds its own namespace. What is used counts where endpoint and consumer both are in its scope; who pays for
what is the bill's decision (`billing` of the endpoint). Who is bound by a budget must not write it: see the role
zerotide-billing-admin.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Model, Object, Rule, Time, Unique
from zerotide.api.bounds import Zone
from zerotide.api.names import API_VERSION, KIND_BUDGET, PATTERN_ENDPOINT_NAME
from zerotide.api.pricebook import Money
from zerotide.api.scalars import parse_time
from zerotide.api.spec_serving import Consumer
from zerotide.api.webhooks import Delivery, Webhook

MOST_PERCENT = 1_000_000
"""The most that a status tells of what was used of a limit."""


class LimitType(StrEnum):
    """What is limited."""

    COST = "Cost"
    ACCELERATOR_SECONDS = "AcceleratorSeconds"
    TOKENS = "Tokens"


class BudgetAction(StrEnum):
    """What happens at a threshold, from the mildest to the strictest; each does what all milder ones do."""

    NOTIFY = "Notify"
    STOP_PREWARM = "StopPrewarm"
    DENY_WAKE = "DenyWake"
    FALLBACK = "Fallback"
    BLOCK = "Block"

    def includes(self, other: BudgetAction) -> bool:
        """Tell whether it does what another one does."""
        order = tuple(BudgetAction)
        return order.index(self) >= order.index(other)


class InFlight(StrEnum):
    """What becomes of what has begun when the limit is reached."""

    FINISH = "Finish"
    END = "End"


class BudgetScope(Model):
    """What counts towards a budget and is bound by it; both must fit."""

    consumers: Annotated[
        tuple[Consumer, ...] | None,
        Field(min_length=1, max_length=64, description="Consumers of the namespace. Absent: all, others' too."),
        Unique(),
    ] = None
    endpoints: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=46, pattern=PATTERN_ENDPOINT_NAME)], ...] | None,
        Field(min_length=1, max_length=64, description="Endpoints of the namespace. Absent: all."),
        Unique(),
    ] = None

    def holds(self, namespace: str, endpoint: str, consumer: str) -> bool:
        """Tell whether an endpoint of the budget's namespace and who pays, `namespace/name`, are in it."""
        if self.endpoints is not None and endpoint not in self.endpoints:
            return False
        return self.consumers is None or consumer in {f"{namespace}/{name}" for name in self.consumers}


class CostLimit(Model):
    """An amount of money."""

    amount: Annotated[Money, Field(description='Amount that may be used up: a decimal such as "250.00".')]
    currency: Annotated[
        str, Field(max_length=3, pattern=r"^[A-Z]{3}$", description="Currency of the amount, that of the price book.")
    ]


def _belongs(kind: str, field: str, given: Callable[[Any], object]) -> Rule:
    return Rule(
        f"(self.type == '{kind}') == has(self.{field})",
        f"{field} must be given where type is {kind}, and only there",
        lambda limit: (limit.type == kind) == (given(limit) is not None),
    )


class BudgetLimit(Model):
    """How much of what; the field that belongs to the type is given, and no other."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        _belongs("Cost", "cost", lambda limit: limit.cost),
        _belongs("AcceleratorSeconds", "acceleratorSeconds", lambda limit: limit.accelerator_seconds),
        _belongs("Tokens", "tokens", lambda limit: limit.tokens),
    )
    type: Annotated[LimitType, Field(description="What is limited.")]
    cost: Annotated[CostLimit | None, Field(description="Money, at the price book's rates.")] = None
    accelerator_seconds: Annotated[
        StrictInt | None, Field(ge=0, le=2**53, description="Seconds of accelerators; two devices use up two a second.")
    ] = None
    tokens: Annotated[
        StrictInt | None, Field(ge=0, le=2**53, description="Tokens of delivered answers and of their requests.")
    ] = None

    @property
    def value(self) -> Fraction:
        """Return how much it is, in units of the currency, seconds or tokens."""
        if self.cost is not None:
            return Fraction(self.cost.amount)
        return Fraction(self.accelerator_seconds if self.accelerator_seconds is not None else self.tokens or 0)

    @property
    def unit(self) -> str:
        """Return the word that follows an amount."""
        if self.cost is not None:
            return self.cost.currency
        return "tokens" if self.type is LimitType.TOKENS else "accelerator-seconds"


class BudgetWindow(Model):
    """The time in which it may be used up; a new window begins with nothing used."""

    period: Annotated[
        Literal["Day", "Week", "Month", "Total"],
        Field(description="Day, Week (from Monday) or Month of the time zone; Total never begins anew."),
    ] = "Month"
    time_zone: Annotated[
        str, Field(max_length=64, description="Name of an IANA time zone, such as Europe/Rome."), Zone()
    ] = "UTC"


class Threshold(Model):
    """From how much on what happens."""

    percent: Annotated[StrictInt, Field(ge=1, le=100, description="Part of the limit that is used up.")]
    action: Annotated[
        BudgetAction,
        Field(
            description="Each is told by an Event and by the webhooks of `notify`, once in a window, and does what the "
            "milder ones do. Notify: no more than that. StopPrewarm: no replica is kept without requests: minReplicas, "
            "schedules, overrides and prewarming start and keep none. DenyWake: requests that would wake a sleeping "
            "endpoint are refused, what is awake serves. Fallback: requests are served by hold.fallback of their "
            "endpoint, and refused where it has none that can. Block: all requests are refused. What has begun is "
            "finished."
        ),
    ]


class BudgetSpec(Model):
    """What may be used up, when, by whom, and what happens then."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.inFlight != 'End' || self.limit.type != 'AcceleratorSeconds'",
            "limit.type must be Tokens or Cost where inFlight is End: a replica's time goes on without any request",
            lambda spec: spec.in_flight is not InFlight.END or spec.limit.type is not LimitType.ACCELERATOR_SECONDS,
        ),
        Rule(
            "self.inFlight != 'End' || oldSelf.inFlight != 'End' || self.limit.type == oldSelf.limit.type",
            "limit.type must not change where inFlight is End, since what is reserved is counted in it: make another "
            "budget instead",
            lambda spec: True,
        ),
    )
    scope: Annotated[BudgetScope, Field(description="What counts, and is bound. Absent: the namespace.")] = (
        BudgetScope()
    )
    limit: Annotated[BudgetLimit, Field(description="How much may be used up in a window.")]
    window: Annotated[BudgetWindow, Field(description="When it begins anew.")] = BudgetWindow()
    thresholds: Annotated[
        tuple[Threshold, ...],
        Field(
            min_length=1,
            max_length=16,
            description="What happens from how much on; the strictest that is reached holds.",
        ),
        Unique("percent"),
    ] = (
        Threshold(percent=50, action=BudgetAction.NOTIFY),
        Threshold(percent=75, action=BudgetAction.NOTIFY),
        Threshold(percent=90, action=BudgetAction.NOTIFY),
        Threshold(percent=100, action=BudgetAction.BLOCK),
    )
    in_flight: Annotated[
        InFlight,
        Field(
            description="Finish: what has begun when the limit is reached is finished, beyond it. End: tokens, or what "
            "they cost, are reserved before a request is sent, so that no request passes the limit; one that does not "
            "fit is refused, a stream that goes beyond is ended with an error. Not for AcceleratorSeconds. Of a Cost "
            "the time of replicas is no request's, and may pass it."
        ),
    ] = InFlight.FINISH
    on_ledger_failure: Annotated[
        Literal["Serve", "Deny"],
        Field(
            description="What happens while nobody can say how much is used up, because the exporter, its ledger or "
            "the way to them is away. Serve: what was said last holds until the window ends. Deny: after a minute "
            "requests that the budget binds are refused with 503 ledger_unavailable, and wake nothing. With inFlight "
            "End they are refused in any case."
        ),
    ] = "Serve"
    notify: Annotated[
        tuple[Webhook, ...],
        Field(max_length=4, description="Webhooks that are sent for each threshold that is reached."),
        Unique("name"),
    ] = ()


class Reached(Model):
    """A threshold that was reached in the window."""

    percent: Annotated[StrictInt, Field(ge=1, le=100, description="The threshold.")]
    action: Annotated[BudgetAction, Field(description="What begins there.")]
    time: Annotated[Time, Field(description="When it was found to be reached first in this window.")]
    used: Annotated[str, Field(max_length=63, description="What was used up then, with its unit.")]


class BudgetStatus(Model):
    """What the exporter found."""

    observed_generation: Annotated[
        StrictInt | None, Field(ge=0, le=2**53, description="Generation of the spec that this is about.")
    ] = None
    state: Annotated[
        Literal["Ok", "Warning", "Exhausted", "Unusable"] | None,
        Field(
            description="Ok, Warning from the first threshold on, Exhausted at 100 %, Unusable where it cannot hold."
        ),
    ] = None
    action: Annotated[BudgetAction | None, Field(description="What holds now. Absent: nothing.")] = None
    used: Annotated[str | None, Field(max_length=63, description="What is used up in this window, with its unit.")] = (
        None
    )
    limit: Annotated[str | None, Field(max_length=63, description="What may be, with its unit.")] = None
    percent: Annotated[
        StrictInt | None,
        Field(ge=0, le=MOST_PERCENT, description="Part of the limit that is used up, rounded down."),
    ] = None
    window_start: Annotated[Time | None, Field(description="Since when it is counted. Absent: ever.")] = None
    window_end: Annotated[Time | None, Field(description="When it begins anew. Absent: never.")] = None
    message: Annotated[str | None, Field(max_length=1024, description="All of it in a sentence.")] = None
    update_time: Annotated[Time | None, Field(description="When this was found.")] = None
    reached: Annotated[
        tuple[Reached, ...] | None,
        Field(max_length=16, description="Thresholds that were reached in this window, and so are told."),
        Unique("percent"),
    ] = None
    deliveries: Annotated[
        tuple[Delivery, ...] | None,
        Field(max_length=64, description="What became of the webhooks of this window."),
        Unique("id"),
    ] = None

    @property
    def until_us(self) -> int | None:
        """Return when the window ends, None for never."""
        return parse_time(self.window_end) if self.window_end else None


class Budget(Object):
    """How much may be used up, and what happens then."""

    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["Budget"] = KIND_BUDGET
    spec: Annotated[BudgetSpec, Field(description="What may be used up, when, by whom, and what happens then.")]
    status: Annotated[BudgetStatus, Field(description="What the exporter found.")] = BudgetStatus()
