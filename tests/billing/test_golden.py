"""Bills that the field knows by heart, each by formula from its published rates."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.billing.test_rating import EVER, gpu, index, rated, total
from tests.billing.worlds import T0, attempt, life
from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.billing.fold import Phase
from zerotide.billing.prices import Meter
from zerotide.billing.rating import Bill, LineKey, Rate, bill_tokens, round_money
from zerotide.billing.spans import Span

SINCE = "2020-01-01T00:00:00Z"


def priced(meter: Meter, amount: str, per: str, **fields: Any) -> dict[str, Any]:
    """Return a price entry that is named after its meter."""
    name = meter.value.lower()
    return {"name": name, "meter": meter.value, "amount": amount, "per": per, "validFrom": SINCE, **fields}


def test_a_cold_start_of_a_minute_a_hundred_a_day_for_a_month() -> None:
    """60 s at Replicate's $0.0014 for an A100."""
    one = total(rated(life(scheduled=0, started=20, ready=60, finished=60), index(gpu("0.0014"))))
    assert round_money(one, 3) == Decimal("0.084")
    assert round_money(100 * one, 2) == Decimal("8.40")
    assert round_money(30 * 100 * one, 2) == Decimal("252.00")


def test_thirty_seconds_of_inference_are_thirty_device_seconds() -> None:
    flown = [("demo/a", Span(T0 + 10 * SECOND, T0 + 40 * SECOND))]
    bill = rated(life(scheduled=0, started=1, ready=2, finished=100), index(gpu()), flights=flown)
    key = LineKey("demo/a", Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", "active", "a100")
    assert bill.lines()[key].quantity == 30 * SECOND


@pytest.mark.parametrize(
    ("device", "second", "hour"),
    [
        ("A40", "0.000575", "2.07"),
        ("A100", "0.0014", "5.04"),
        ("H100", "0.001525", "5.49"),
        ("H100", "0.002319", "8.3484"),
    ],
)
def test_an_hour_costs_the_same_by_the_second_and_by_the_hour(device: str, second: str, hour: str) -> None:
    lived = life(scheduled=0, started=1, ready=2, finished=3600)
    assert total(rated(lived, index(gpu(second)))) == Fraction(hour), device
    assert total(rated(lived, index(gpu(hour, per="Hour")))) == Fraction(hour), device


def test_three_billion_tokens_of_a_70b() -> None:
    """Together's $0.54 per million."""
    bill = Bill(index(priced(Meter.INPUT_TOKENS, "0.54", "Million")))
    bill_tokens(bill, [attempt(0, 1, tokens=(3_200_000_000, 0, 0))], EVER)
    assert round_money(total(bill), 2) == Decimal("1728.00")


def test_a_dedicated_endpoint_for_a_month_of_730_hours() -> None:
    """Hugging Face at $0.75 per hour."""
    prices = index(gpu("0.75", per="Hour"))
    hour = Bill(prices)
    rate = Rate(Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", Fraction(1))
    hour.add_time("demo/a", Phase.KEEP_WARM, rate, "a100", HOUR)
    assert total(hour) == Fraction("0.75")
    hour.add_time("demo/a", Phase.KEEP_WARM, rate, "a100", 729 * HOUR)
    assert total(hour) == Fraction("547.50")


def test_a_custom_model_is_billed_by_windows_of_five_minutes() -> None:
    """Bedrock: two custom model units at $0.0785 per minute, in windows of 5 minutes from the first call on."""
    prices = index(gpu("4.71", per="Hour"), increment="5m")
    rate = Rate(Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", Fraction(2))
    for used in (SECOND, MINUTE, 5 * MINUTE):
        bill = Bill(prices, prices.book.increment_us)
        for part in range(4):
            bill.add_time("demo/a", Phase.ACTIVE, rate, "a100", used // 4)
            assert total(bill) == Fraction("0.785"), f"rounded once, whatever the {part + 1} parts are"
    bill = Bill(prices, prices.book.increment_us)
    bill.add_time("demo/a", Phase.ACTIVE, rate, "a100", 5 * MINUTE + 1)
    assert total(bill) == 2 * Fraction("0.785")


def test_a_month_of_a_hundred_thousand_inferences() -> None:
    """Cerebrium's own example: an A10 with 2 cores and 20 GB, one build of 2 min, 300 starts of 2 s, 2 s each."""
    prices = index(
        gpu("0.000306"),
        priced(Meter.CPU_TIME, "0.00000655", "Second"),
        priced(Meter.MEMORY_TIME, "0.00000222", "Second"),
    )
    bill = Bill(prices)
    rates = {
        "a100": Rate(Meter.ACCELERATOR_TIME, "nvidia-a100-80gb", Fraction(1)),
        "cputime": Rate(Meter.CPU_TIME, "", Fraction(2)),
        "memorytime": Rate(Meter.MEMORY_TIME, "", Fraction(20)),
    }
    for phase, us in ((Phase.LOADING, 2 * MINUTE + 300 * 2 * SECOND), (Phase.ACTIVE, 100_000 * 2 * SECOND)):
        for price, rate in rates.items():
            bill.add_time("demo/a", phase, rate, price, us)
    assert round_money(total(bill), 2) == Decimal("72.96")
