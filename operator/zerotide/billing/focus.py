"""Export bills as FOCUS, the FinOps Open Cost and Usage Specification: a row for each line and day of UTC.

A consumer is a sub-account, an endpoint a resource, a meter in one phase a SKU, a price its SKU price. Rows of a
consumer add up to what its invoice says: where rounding days, or rounding time up, leaves a difference, a row of
category Adjustment holds it. Columns of our own begin with `x_`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain

from zerotide.api.base import format_time
from zerotide.api.pricebook import TIME_METERS, TermType
from zerotide.api.scalars import HOUR, SECOND
from zerotide.billing.bills import UNITS
from zerotide.billing.errors import UnknownFocusVersion
from zerotide.billing.focus_columns import COLUMNS, VERSIONS
from zerotide.billing.invoices import NOTHING, SealedPart, Statement, billed_lines, statements, term_lines
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import Meter, Per, Price, PriceIndex
from zerotide.billing.rating import Line, LineKey, Period, add_line, round_lines
from zerotide.billing.reports import Report, Us
from zerotide.billing.rollups import DAY
from zerotide.billing.statements import TermLine

Row = Mapping[str, str | None]
ISSUER = "Zerotide"
_NAMES = {
    Meter.ACCELERATOR_TIME: "Accelerator time",
    Meter.CPU_TIME: "CPU time",
    Meter.MEMORY_TIME: "Memory time",
    Meter.INPUT_TOKENS: "Input tokens",
    Meter.CACHED_INPUT_TOKENS: "Cached input tokens",
    Meter.OUTPUT_TOKENS: "Output tokens",
    Meter.REQUESTS: "Requests",
}
_STEMS = {Meter.ACCELERATOR_TIME: "GPU", Meter.CPU_TIME: "Core", Meter.MEMORY_TIME: "GiB"}
_SIZES = {Per.SECOND: SECOND, Per.HOUR: HOUR, Per.ONE: 1, Per.THOUSAND: 1_000, Per.MILLION: 1_000_000}


class FocusReport(Report):
    """Rows of one version, in the order of its columns; a missing value is None."""

    version: str
    from_us: Us
    to_us: Us
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def focus_report(
    ledgers: Sequence[Ledger],
    index: PriceIndex,
    period: Period,
    as_of_us: int,
    version: str,
    part: SealedPart = NOTHING,
) -> FocusReport:
    """Return a billing period as FOCUS; raise UnknownFocusVersion and InvalidPeriod."""
    if version not in VERSIONS:
        raise UnknownFocusVersion(f"no FOCUS version {version!r}: there are {', '.join(VERSIONS)}")
    period = period.checked()
    columns = tuple(column.name for column in COLUMNS if version in column.versions)
    made = statements(ledgers, index, period, part, as_of_us)
    agreed = term_lines(ledgers, index, period, part, as_of_us)
    rows = chain(
        (row for statement in made for row in _rows(statement, index, period, as_of_us)),
        (_term(line, index, period) for line in agreed),
    )
    return FocusReport(
        version=version,
        from_us=period.start_us,
        to_us=period.end_us,
        columns=columns,
        rows=tuple(tuple(row.get(name) for name in columns) for row in rows),
    )


def _rows(statement: Statement, index: PriceIndex, period: Period, as_of_us: int) -> Iterator[Row]:
    exact: dict[tuple[int, bool, LineKey], Line] = {}
    for corrects, charges in ((False, statement.charges), (True, statement.corrections)):
        for key, line in charges.items():
            add_line(exact, (key.of_us // DAY * DAY, corrects, key.line), line)
    exact = {place: exact[place] for place in sorted(exact) if exact[place].quantity}
    amounts = round_lines({place: line.amount for place, line in exact.items()})
    missing: dict[str, Decimal] = {}
    for billed in chain.from_iterable(billed_lines(statement, index)):
        missing[billed.consumer] = missing.get(billed.consumer, Decimal(0)) + Decimal(billed.amount)
    for (day, corrects, key_), line in exact.items():
        amount = amounts[day, corrects, key_]
        missing[key_.consumer] = missing.get(key_.consumer, Decimal(0)) - amount
        low, high = (
            (day, day + DAY) if corrects else (max(day, period.start_us), min(day + DAY, period.end_us, as_of_us))
        )
        yield {
            **_common(statement, index, period, key_.consumer, amount),
            **_usage(index, key_, line, amount),
            "ChargeClass": "Correction" if corrects else None,
            "ChargePeriodStart": format_time(low),
            "ChargePeriodEnd": format_time(-(-high // SECOND) * SECOND),
        }
    for consumer, rest in sorted(missing.items()):
        if rest:
            yield {
                **_common(statement, index, period, consumer, rest),
                "ChargeCategory": "Adjustment",
                "ChargeType": "Adjustment",
                "ChargeDescription": "Difference of rounding",
                "ChargePeriodStart": format_time(period.start_us),
                "ChargePeriodEnd": format_time(period.end_us),
                "ListCost": f"{rest:f}",
                "ContractedCost": f"{rest:f}",
            }


def _term(line: TermLine, index: PriceIndex, period: Period) -> Row:
    """Return a commitment's fee as a purchase, a credit as such, and what else terms take off as an adjustment."""
    fee = line.type == TermType.COMMITMENT and not line.amount.startswith("-")
    category = "Purchase" if fee else "Credit" if line.type == TermType.CREDIT else "Adjustment"
    common = _common(Statement("", "", line.consumer, {}, {}), index, period, line.consumer, Decimal(line.amount))
    return {
        **{name: value for name, value in common.items() if not name.startswith("Resource")},
        "Tags": "{}",
        "ChargeCategory": category,
        "ChargeType": category,
        "ChargeFrequency": "Recurring" if fee else "One-Time",
        "ChargeDescription": f"{line.type} {line.name}",
        "ChargePeriodStart": format_time(line.month_us),
        "ChargePeriodEnd": format_time(min(month_of(line.month_us).end_us, period.end_us)),
        "ListCost": line.amount,
        "ContractedCost": line.amount,
        **(_purchase(line) if fee else {}),
    }


def _purchase(line: TermLine) -> Row:
    """Return what a purchase has beyond what an adjustment has: a SKU and a price, here those of a whole month."""
    return {
        "PricingCategory": "Standard",
        "PricingQuantity": "1.0",
        "PricingUnit": "Months",
        "ListUnitPrice": line.amount,
        "ContractedUnitPrice": line.amount,
        "SkuId": f"{line.type}/{line.name}",
        "SkuMeter": line.type,
        "SkuPriceId": line.name,
    }


def _common(
    statement: Statement, index: PriceIndex, period: Period, consumer: str, amount: Decimal
) -> dict[str, str | None]:
    where = f"{statement.namespace}/{statement.endpoint}"
    return {
        "BilledCost": f"{amount:f}",
        "EffectiveCost": f"{amount:f}",
        "BillingAccountId": statement.owner,
        "BillingAccountName": statement.owner,
        "BillingAccountType": "Owner",
        "BillingCurrency": index.book.currency,
        "BillingPeriodStart": format_time(period.start_us),
        "BillingPeriodEnd": format_time(period.end_us),
        "ChargeFrequency": "Usage-Based",
        "InvoiceId": f"{consumer}@{format_time(period.start_us)}",
        "InvoiceIssuerName": ISSUER,
        "InvoiceIssuer": ISSUER,
        "Provider": ISSUER,
        "Publisher": ISSUER,
        "ResourceID": where,
        "ProviderName": ISSUER,
        "PublisherName": ISSUER,
        "ServiceProviderName": ISSUER,
        "HostProviderName": ISSUER,
        "ResourceId": where,
        "ResourceName": statement.endpoint,
        "ResourceType": "InferenceEndpoint",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "Model inference",
        "SubAccountId": consumer,
        "SubAccountName": consumer,
        "SubAccountType": "Consumer",
        "Tags": json.dumps({"namespace": statement.namespace, "endpoint": statement.endpoint}),
    }


def _usage(index: PriceIndex, key: LineKey, line: Line, amount: Decimal) -> dict[str, str | None]:
    price = index.named(key.price)
    phase = f", {key.phase.replace('_', ' ')}" if key.phase else ""
    consumed = _decimal(line.quantity / SECOND if key.meter in TIME_METERS else line.quantity)
    name = f"{_NAMES[key.meter]}{phase}"
    row = {
        "ChargeCategory": "Usage",
        "ChargeType": "Usage",
        "ChargeDescription": f"{name}{f' of {key.class_name}' if key.class_name else ''}",
        "ConsumedQuantity": consumed,
        "ConsumedUnit": _unit(key.meter, Per.SECOND),
        "PricingCategory": "Standard" if price else None,
        "SkuId": "/".join(part for part in (key.meter.value, key.class_name, key.phase) if part),
        "SkuMeter": name,
        "SkuPriceId": key.price or "unpriced",
        "SkuPriceDetails": json.dumps({"x_Phase": key.phase, "x_AcceleratorClass": key.class_name}),
        "x_Phase": key.phase or None,
        "ListCost": f"{amount:f}",
        "ContractedCost": f"{amount:f}",
    }
    return {**row, **_priced(index, key, line, price)} if price else row


def _priced(index: PriceIndex, key: LineKey, line: Line, price: Price) -> dict[str, str | None]:
    quantity = Decimal(_decimal(line.quantity / _SIZES[price.per]))
    weight = Decimal(_decimal(index.multiplier_of(key.phase)))
    unit = Decimal(price.amount)
    return {
        "PricingQuantity": _text(quantity),
        "PricingUnit": _unit(key.meter, price.per),
        "ListUnitPrice": _text(unit),
        "ContractedUnitPrice": _text(unit * weight),
        # Products to the last digit: validators multiply and compare.
        "ListCost": _text(unit * quantity),
        "ContractedCost": _text(unit * weight * quantity),
    }


def _unit(meter: Meter, per: Per) -> str:
    if meter in TIME_METERS:
        return f"{_STEMS[meter]}-{'Hours' if per is Per.HOUR else 'Seconds'}"
    number = {Per.THOUSAND: "1000 ", Per.MILLION: "1000000 "}.get(per, "")
    return f"{number}{UNITS[meter].capitalize()}"


def _decimal(value: Fraction) -> str:
    return _text(Decimal(round(value * 10**9)).scaleb(-9).normalize())


def _text(value: Decimal) -> str:
    """Return a decimal that always has a point, or readers take a column of whole numbers for integers."""
    text = f"{value:f}"
    return text if "." in text else f"{text}.0"
