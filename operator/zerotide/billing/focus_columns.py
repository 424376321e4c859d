"""The columns of FOCUS that the export has: in which versions, of which type, whether they may be empty.

Taken from the specification, focus.finops.org/focus-specification, versions 1.0, 1.2 and 1.3: all columns that a
version calls mandatory, and those conditional ones that an export of this kind has values for. 1.3 renames
ProviderName to ServiceProviderName and adds HostProviderName.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from zerotide.api.failures import ApiError
from zerotide.api.scalars import parse_time

VERSIONS = ("1.0", "1.2", "1.3")
_ALL = frozenset(VERSIONS)
_LATER = frozenset({"1.2", "1.3"})
Type = Literal["text", "decimal", "time", "json", "currency"]


class Column(NamedTuple):
    """One column; `values` are all that it may have, where the specification lists them."""

    name: str
    type: Type = "text"
    nullable: bool = False
    values: tuple[str, ...] = ()
    versions: frozenset[str] = _ALL


def _null(name: str, type_: Type = "text", values: tuple[str, ...] = (), versions: frozenset[str] = _ALL) -> Column:
    return Column(name, type_, True, values, versions)


COLUMNS: tuple[Column, ...] = (
    Column("BilledCost", "decimal"),
    Column("BillingAccountId"),
    _null("BillingAccountName"),
    Column("BillingAccountType", versions=_LATER),
    Column("BillingCurrency", "currency"),
    Column("BillingPeriodEnd", "time"),
    Column("BillingPeriodStart", "time"),
    Column("ChargeCategory", values=("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    _null("ChargeClass", values=("Correction",)),
    _null("ChargeDescription"),
    Column("ChargeFrequency", values=("One-Time", "Recurring", "Usage-Based")),
    Column("ChargePeriodEnd", "time"),
    Column("ChargePeriodStart", "time"),
    _null("CommitmentDiscountCategory", values=("Spend", "Usage")),
    _null("CommitmentDiscountId"),
    _null("CommitmentDiscountName"),
    _null("CommitmentDiscountStatus", values=("Used", "Unused")),
    _null("CommitmentDiscountType"),
    _null("ConsumedQuantity", "decimal"),
    _null("ConsumedUnit"),
    Column("ContractedCost", "decimal"),
    _null("ContractedUnitPrice", "decimal"),
    Column("EffectiveCost", "decimal"),
    Column("HostProviderName", versions=frozenset({"1.3"})),
    _null("InvoiceId", versions=_LATER),
    Column("InvoiceIssuerName"),
    Column("ListCost", "decimal"),
    _null("ListUnitPrice", "decimal"),
    _null("PricingCategory", values=("Standard", "Dynamic", "Committed", "Other")),
    _null("PricingQuantity", "decimal"),
    _null("PricingUnit"),
    Column("ProviderName", versions=frozenset({"1.0", "1.2"})),
    Column("PublisherName", versions=frozenset({"1.0", "1.2"})),
    _null("RegionId"),
    _null("RegionName"),
    _null("ResourceId"),
    _null("ResourceName"),
    _null("ResourceType"),
    Column("ServiceCategory", values=("AI and Machine Learning",)),
    Column("ServiceName"),
    Column("ServiceProviderName", versions=frozenset({"1.3"})),
    Column("ServiceSubcategory", values=("Generative AI",), versions=_LATER),
    _null("SkuId"),
    _null("SkuMeter", versions=_LATER),
    _null("SkuPriceDetails", "json", versions=_LATER),
    _null("SkuPriceId"),
    _null("SubAccountId"),
    _null("SubAccountName"),
    _null("SubAccountType", versions=_LATER),
    _null("Tags", "json"),
    _null("x_Phase"),
    # The official validator's rules for 1.0 ask for these as well: names of the preview, beside those of 1.0.
    Column("ChargeType", values=("Usage", "Adjustment"), versions=frozenset({"1.0"})),
    Column("InvoiceIssuer", versions=frozenset({"1.0"})),
    Column("Provider", versions=frozenset({"1.0"})),
    Column("Publisher", versions=frozenset({"1.0"})),
    Column("ResourceID", versions=frozenset({"1.0"})),
)


def violations(version: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Iterator[str]:
    """Yield what breaks the rules of a version, by row and column."""
    expected = {column.name: column for column in COLUMNS if version in column.versions}
    yield from (f"no column {name}" for name in expected if name not in columns)
    for number, row in enumerate(rows, 1):
        for name, value in zip(columns, row, strict=True):
            if name in expected and (problem := _problem(expected[name], value)):
                yield f"row {number}, {name}: {problem}"


def _problem(column: Column, value: str | None) -> str:
    if value is None:
        return "" if column.nullable else "must not be empty"
    if value == "":
        return "is an empty text, which is no null"
    if column.values and value not in column.values:
        return f"{value!r} is none of {', '.join(column.values)}"
    return "" if _fits(column.type, value) else f"{value!r} is no {column.type}"


def _fits(type_: Type, value: str) -> bool:
    if type_ == "decimal":
        return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) is not None
    if type_ == "currency":
        return re.fullmatch(r"[A-Z]{3}", value) is not None
    try:
        if type_ == "time":
            return re.fullmatch(r".{10}T.{8}Z", value) is not None and parse_time(value) >= 0
        return type_ != "json" or isinstance(json.loads(value), dict)
    except (ApiError, ValueError):
        return False
