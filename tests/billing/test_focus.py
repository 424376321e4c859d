"""FOCUS exports keep the rules of each version, and add up to the invoices."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import PRICES, ledger, whole_life
from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt, life
from zerotide.api.scalars import SECOND
from zerotide.billing.bills import line_report
from zerotide.billing.errors import BillingError, UnknownFocusVersion
from zerotide.billing.facts import Allocation
from zerotide.billing.focus import FocusReport, focus_report
from zerotide.billing.focus_columns import VERSIONS, violations
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY

MONTH = Period(T0 // DAY * DAY, T0 // DAY * DAY + 30 * DAY)
MANDATORY = {
    "BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory"
    " ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName"
    " ListCost PricingQuantity PricingUnit ServiceCategory ServiceName"
}


def month(uid: str = "u1") -> Ledger:
    """Return a month in which a replica lived over several days and served two consumers."""
    lived = life(uid, scheduled=0, started=100, ready=160, delete=200_000, finished=200_010)
    served = (
        attempt(200, 260, "demo/a", uid, tokens=(50, 10, 700)),
        attempt(230, 100_000, "demo/b", uid, tokens=(7, 0, 11)),
    )
    return ledger(lived, attempts=served, as_of=MONTH.end_us)


def exported(made: Ledger, version: str = "1.2", prices: PriceIndex = PRICES) -> list[dict[str, Any]]:
    """Return the rows by column."""
    report = focus_report([made], prices, MONTH, MONTH.end_us, version)
    assert list(violations(version, report.columns, report.rows)) == []
    assert FocusReport.model_validate_json(report.model_dump_json(by_alias=True)) == report
    return [dict(zip(report.columns, row, strict=True)) for row in report.rows]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_its_columns(version: str) -> None:
    rows = exported(month(), version)
    (mandatory,) = MANDATORY
    assert set(mandatory.split()) <= rows[0].keys()
    assert ("ProviderName" in rows[0], "ServiceProviderName" in rows[0]) == (version != "1.3", version == "1.3")
    assert ("SkuMeter" in rows[0]) == (version != "1.0")
    assert {row["ChargeCategory"] for row in rows} <= {"Usage", "Adjustment"}


def test_rows_are_days_of_lines_with_exact_products() -> None:
    rows = exported(month())
    loading = [row for row in rows if row["x_Phase"] == "loading"]
    assert [row["ConsumedQuantity"] for row in loading] == ["60.0"]
    assert (loading[0]["ConsumedUnit"], loading[0]["SkuId"]) == (
        "GPU-Seconds",
        "AcceleratorTime/nvidia-a100-80gb/loading",
    )
    assert len({row["ChargePeriodStart"] for row in rows if row["x_Phase"] == "active"}) == 2
    for row in rows:
        if row["PricingQuantity"] is not None:
            assert Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"])
            assert abs(Decimal(row["ContractedCost"]) - Decimal(row["BilledCost"])) < Decimal("0.000002")


def sums(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    """Return what each consumer is billed."""
    found: dict[str, Decimal] = {}
    for row in rows:
        found[row["SubAccountId"]] = found.get(row["SubAccountId"], Decimal(0)) + Decimal(row["BilledCost"])
    return found


def invoiced(made: Ledger, prices: PriceIndex) -> dict[str, Decimal]:
    """Return what each consumer's invoice sums up to."""
    found: dict[str, Decimal] = {}
    for line in line_report([made], prices, MONTH, MONTH.end_us).lines:
        found[line.consumer] = found.get(line.consumer, Decimal(0)) + Decimal(line.amount)
    return found


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200_000), st.integers(1, 90_000)), max_size=5),
    st.sampled_from(["", "1ms", "1m", "1h"]),
)
def test_rows_add_up_to_the_invoices(flown: list[tuple[str, int, int]], increment: str) -> None:
    attempts = tuple(
        attempt(start, start + length, f"demo/{who}", request_id=str(number), tokens=(9, 0, 7))
        for number, (who, start, length) in enumerate(flown)
    )
    made = ledger(life(scheduled=0, started=7, ready=11, finished=250_001), attempts=attempts, as_of=MONTH.end_us)
    prices = index(gpu("0.000333333"), **({"increment": increment} if increment else {}))
    rows = exported(made, "1.2", prices)
    assert sums(rows) == invoiced(made, prices)
    if not increment:
        assert all(abs(Decimal(row["BilledCost"])) < Decimal("0.00001") for row in rows if row["PricingUnit"] is None)


def test_what_has_no_price_is_a_row_without_one() -> None:
    cpu = ledger(life(scheduled=0, finished=60, allocation=Allocation("", 0, 500, 2**30), class_name=""))
    rows = exported(replace(cpu), "1.0", index())
    assert [(row["BilledCost"], row["PricingQuantity"], row["SkuPriceId"]) for row in rows] == [
        ("0.000000", None, "unpriced")
    ] * 2
    assert {row["ConsumedUnit"] for row in rows} == {"Core-Seconds", "GiB-Seconds"}


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnknownFocusVersion, match=r"there are 1\.0, 1\.2, 1\.3"):
        focus_report([], PRICES, MONTH, MONTH.end_us, "2.0")
    assert issubclass(UnknownFocusVersion, BillingError)


def test_broken_rows_are_noticed() -> None:
    report = focus_report([ledger(whole_life())], PRICES, MONTH, T0 + 3600 * SECOND, "1.0")
    place = {name: number for number, name in enumerate(report.columns)}
    for name, value, words in (
        ("BilledCost", None, "must not be empty"),
        ("BilledCost", "1e3", "is no decimal"),
        ("ChargeCategory", "Standard", "is none of Usage"),
        ("RegionId", "", "is no null"),
        ("BillingPeriodEnd", "2026-11-25T00:00:00.5Z", "is no time"),
        ("Tags", "[]", "is no json"),
        ("BillingCurrency", "usd", "is no currency"),
    ):
        row = list(report.rows[0])
        row[place[name]] = value
        (said,) = violations("1.0", report.columns, [row])
        assert words in said and said.startswith(f"row 1, {name}")
    assert list(violations("1.0", report.columns[1:], [])) == ["no column BilledCost"]
