"""The PriceBook object: what a unit of each meter costs, from when until when, and how phases weigh.

An amount is kept as it was quoted (`"0.34"` per `Hour`): as a price per microsecond it would often not be a finite
decimal. AcceleratorTime is per device, CPUTime per core, MemoryTime per GiB, the rest per piece. A book only grows, so
that what was billed can be billed again: its prices stay, and may only be given an end.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from zerotide.api.base import Duration, Immutable, Model, Object, Rule, Span, Time, Unique
from zerotide.api.names import API_VERSION, KIND_PRICE_BOOK
from zerotide.api.scalars import HOUR, SECOND, parse_duration, parse_time


class Meter(StrEnum):
    """What is counted."""

    ACCELERATOR_TIME = "AcceleratorTime"
    CPU_TIME = "CPUTime"
    MEMORY_TIME = "MemoryTime"
    INPUT_TOKENS = "InputTokens"
    CACHED_INPUT_TOKENS = "CachedInputTokens"
    OUTPUT_TOKENS = "OutputTokens"
    REQUESTS = "Requests"


class Per(StrEnum):
    """How much of it the amount buys."""

    SECOND = "Second"
    HOUR = "Hour"
    ONE = "One"
    THOUSAND = "Thousand"
    MILLION = "Million"


TIME_METERS = frozenset({Meter.ACCELERATOR_TIME, Meter.CPU_TIME, Meter.MEMORY_TIME})
_UNITS = {Per.SECOND: SECOND, Per.HOUR: HOUR, Per.ONE: 1, Per.THOUSAND: 1_000, Per.MILLION: 1_000_000}
_TIMES = frozenset({Per.SECOND, Per.HOUR})
_KEPT = ("meter", "amount", "per", "validFrom")
_ONCE = "make another book, and name it in the chart value exporter.priceBook"

Percent = Annotated[str, Field(max_length=22, pattern=r"^(100(\.0{1,18})?|[0-9]{1,2}(\.[0-9]{1,18})?)$")]
Money = Annotated[str, Field(max_length=31, pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?$")]


def _same(*fields: str) -> str:
    return " && ".join(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        for field in fields
    )


class Price(Model):
    """One price, valid in [validFrom, validTo)."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.meter in ['AcceleratorTime', 'CPUTime', 'MemoryTime']) == (self.per in ['Second', 'Hour'])",
            "per must be Second or Hour for time, and One, Thousand or Million for anything else",
            lambda price: (price.meter in TIME_METERS) == (price.per in _TIMES),
        ),
        Rule(
            "(self.meter == 'AcceleratorTime') == (has(self.acceleratorClassName) && self.acceleratorClassName != '')",
            "acceleratorClassName must be given for AcceleratorTime and for nothing else",
            lambda price: (price.meter == Meter.ACCELERATOR_TIME) == bool(price.accelerator_class_name),
        ),
        Rule(
            "!has(self.validTo) || self.validTo > self.validFrom",
            "validTo must be later than validFrom",
            lambda price: price.valid_to is None or parse_time(price.valid_to) > parse_time(price.valid_from),
        ),
        Rule(
            " && ".join(f"self.{field} == oldSelf.{field}" for field in _KEPT)
            + f" && {_same('acceleratorClassName')}"
            + " && (!has(oldSelf.validTo) || (has(self.validTo) && self.validTo == oldSelf.validTo))",
            "a price must not change: give it a validTo, and add a new one",
            lambda price: True,
        ),
    )
    name: Annotated[str, Field(min_length=1, max_length=63, description="Its name, which bills refer to.")]
    meter: Annotated[Meter, Field(description="What is priced.")]
    accelerator_class_name: Annotated[
        str, Field(max_length=63, description="Class of the device that AcceleratorTime is of.")
    ] = ""
    amount: Annotated[Money, Field(description='What so much costs, as quoted: a decimal such as "0.34".')]
    per: Annotated[Per, Field(description="How much the amount buys. Time: Second or Hour; else a number.")]
    valid_from: Annotated[Time, Field(description="From when on it holds.")]
    valid_to: Annotated[
        Time | None, Field(description="Until when it holds. Absent: until a newer price of the same thing begins.")
    ] = None
    source: Annotated[str, Field(max_length=512, description="Who asks for it, and since when that is known.")] = ""

    @property
    def rate(self) -> Fraction:
        """Return the exact price of one microsecond, or of one piece."""
        return Fraction(self.amount) / _UNITS[self.per]


class TermType(StrEnum):
    """What is agreed on beside prices."""

    COMMITMENT = "Commitment"
    FREE_TIER = "FreeTier"
    DISCOUNT = "Discount"
    CREDIT = "Credit"


_NEEDS = {
    "meter": ("FreeTier", "Commitment"),
    "quantity": ("FreeTier", "Commitment"),
    "amount": ("Commitment", "Credit"),
    "per": ("Commitment",),
    "percent": ("Discount",),
}


def _needed(field: str, types: tuple[str, ...]) -> Rule:
    named = " or ".join(types)
    return Rule(
        f"(self.type in {list(types)}) == has(self.{field})",
        f"{field} must be given for {named} and for nothing else",
        lambda term: (term.type in types) == (getattr(term, field) is not None),
    )


class Term(Model):
    """What is agreed on beside prices, for some consumers or for all; it holds for months that begin within
    [validFrom, validTo), a commitment for each instant of it, a credit for what is used within it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *(_needed(field, types) for field, types in _NEEDS.items()),
        Rule(
            "(has(self.meter) && self.meter == 'AcceleratorTime')"
            " == (has(self.acceleratorClassName) && self.acceleratorClassName != '')",
            "acceleratorClassName must be given for AcceleratorTime and for nothing else",
            lambda term: (term.meter == Meter.ACCELERATOR_TIME) == bool(term.accelerator_class_name),
        ),
        Rule(
            "self.type != 'Commitment'"
            " || (self.per in ['Second', 'Hour'] && self.meter in ['AcceleratorTime', 'CPUTime', 'MemoryTime'])",
            "a Commitment must be for time: per Second or Hour",
            lambda term: term.type is not TermType.COMMITMENT or (term.per in _TIMES and term.meter in TIME_METERS),
        ),
        Rule(
            "!has(self.above) || self.type == 'Discount'",
            "above must be given for a Discount only",
            lambda term: term.above is None or term.type is TermType.DISCOUNT,
        ),
        Rule(
            "!has(self.validTo) || self.validTo > self.validFrom",
            "validTo must be later than validFrom",
            lambda term: term.valid_to is None or parse_time(term.valid_to) > parse_time(term.valid_from),
        ),
        Rule(
            "self.type == oldSelf.type && self.validFrom == oldSelf.validFrom && "
            + _same("meter", "acceleratorClassName", "quantity", "amount", "per", "percent", "above", "consumers")
            + " && (!has(oldSelf.validTo) || (has(self.validTo) && self.validTo == oldSelf.validTo))",
            "a term must not change: give it a validTo, and add a new one",
            lambda term: True,
        ),
    )
    name: Annotated[str, Field(min_length=1, max_length=63, description="Its name, which invoices refer to.")]
    type: Annotated[
        TermType,
        Field(
            description="Commitment: so many devices, cores or GiB are paid for at all times; use up to that is free. "
            "FreeTier: so much of a meter is free each month. Discount: percent off what a month costs above an "
            "amount. Credit: an amount that pays what is left until it is used up."
        ),
    ]
    consumers: Annotated[
        tuple[Annotated[str, Field(max_length=317)], ...],
        Field(max_length=16, description="Each of these has it, as NAMESPACE/NAME. Absent: each consumer."),
        Unique(),
    ] = ()
    meter: Annotated[Meter | None, Field(description="What a FreeTier or a Commitment is of.")] = None
    accelerator_class_name: Annotated[
        str, Field(max_length=63, description="Class of the device that AcceleratorTime is of.")
    ] = ""
    quantity: Annotated[
        Money | None,
        Field(description="FreeTier: seconds, tokens or requests in a month. Commitment: devices, cores or GiB."),
    ] = None
    amount: Annotated[
        Money | None, Field(description="Commitment: what one of them costs per Second or Hour. Credit: what it pays.")
    ] = None
    per: Annotated[Per | None, Field(description="How much time the amount of a Commitment buys: Second or Hour.")] = (
        None
    )
    percent: Annotated[
        Percent | None, Field(description='Discount: how much less, a decimal from 0 to 100 such as "12.5".')
    ] = None
    above: Annotated[
        Money | None,
        Field(description="Discount: only on what a month costs beyond this. The largest that is reached holds there."),
    ] = None
    valid_from: Annotated[Time, Field(description="From when on it holds.")]
    valid_to: Annotated[Time | None, Field(description="Until when it holds.")] = None

    def holds_for(self, consumer: str) -> bool:
        """Tell whether a consumer has it."""
        return not self.consumers or consumer in self.consumers

    def covers(self, t_us: int) -> bool:
        """Tell whether it holds at an instant."""
        return parse_time(self.valid_from) <= t_us and (self.valid_to is None or t_us < parse_time(self.valid_to))


class PhaseMultiplier(Model):
    """How much of the price a phase costs; `Idle` stands for both kinds of idle time."""

    phase: Annotated[
        Literal["Provisioning", "Loading", "Active", "Idle", "KeepWarm", "Cooldown", "Draining", "Blocked", "Lost"],
        Field(description="The phase. Idle stands for KeepWarm and Cooldown."),
    ]
    multiplier: Annotated[Money, Field(description='What the price is multiplied by: a decimal such as "0.5".')]


class PriceBookSpec(Model):
    """All prices in one currency."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            _same("phaseMultipliers", "increment", "defaultAcceleratorClassName"),
            f"phaseMultipliers, increment and defaultAcceleratorClassName must not change: {_ONCE}",
            lambda spec: True,
        ),
        Rule(
            "!has(oldSelf.prices) || (has(self.prices) &&"
            " oldSelf.prices.all(old, self.prices.exists(price, price.name == old.name)))",
            "prices must not be removed: give them a validTo",
            lambda spec: True,
        ),
        Rule(
            "!has(oldSelf.terms) || (has(self.terms) &&"
            " oldSelf.terms.all(old, self.terms.exists(term, term.name == old.name)))",
            "terms must not be removed: give them a validTo",
            lambda spec: True,
        ),
    )
    currency: Annotated[
        str,
        Field(max_length=3, pattern=r"^[A-Z]{3}$", description="Currency of all amounts, such as USD. Immutable."),
        Immutable(_ONCE),
    ]
    increment: Annotated[
        Duration | None,
        Field(
            description="Time is rounded up to a multiple of this, once in each line of a bill. Absent: not at all. "
            "Immutable."
        ),
        Span("1ms", "1h"),
    ] = None
    default_accelerator_class_name: Annotated[
        str, Field(max_length=63, description="Class under which devices are billed that nobody named. Immutable.")
    ] = ""
    prices: Annotated[
        tuple[Price, ...],
        Field(max_length=256, description="Prices; the newest that has begun and not ended holds."),
        Unique("name"),
    ] = ()
    phase_multipliers: Annotated[
        tuple[PhaseMultiplier, ...],
        Field(max_length=9, description="Weights of phases. Absent: 0 for Blocked and Lost, else 1. Immutable."),
        Unique("phase"),
    ] = ()

    terms: Annotated[
        tuple[Term, ...],
        Field(
            max_length=64,
            description="Commitments, free tiers, discounts and credits, which invoices take into account.",
        ),
        Unique("name"),
    ] = ()

    @property
    def default_class(self) -> str:
        """Return the class under which devices are billed that nobody named, empty where they have no price."""
        return self.default_accelerator_class_name

    @property
    def increment_us(self) -> int:
        """Return what time is rounded up to; 1 where it is not rounded."""
        return parse_duration(self.increment) if self.increment else 1


class PriceBook(Object):
    """What time and tokens cost; a book only grows."""

    api_version: Literal["zerotide.dev/v1alpha1"] = API_VERSION
    kind: Literal["PriceBook"] = KIND_PRICE_BOOK
    spec: Annotated[PriceBookSpec, Field(description="Prices in one currency.")]
