"""What the FinOps Foundation's own validator says of exports: of usage, of corrections and of each kind of term.

It has rules for 1.0 alone, and needs pandas of its time: an environment of its own, 400 MB.
"""

from __future__ import annotations

import subprocess
import venv
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.billing.test_focus import MONTH, month
from tests.billing.test_invoices import END, NOON, lived, posted
from tests.billing.test_rating import gpu, index
from zerotide.billing.focus import FocusReport, focus_report
from zerotide.billing.invoices import SealedPart
from zerotide.billing.periods import month_of
from zerotide.billing.rollups import QUARTER
from zerotide.cli.bill_csv import focus_rows

ROOT = Path(__file__).parents[2]
SINCE = {"validFrom": "2025-01-01T00:00:00Z"}
A100 = {"meter": "AcceleratorTime", "acceleratorClassName": "nvidia-a100-80gb"}
RESERVED = {"amount": "0.1", "quantity": "1", "per": "Hour", **A100}
TERMS: list[dict[str, Any]] = [
    {"name": "reserved", "type": "Commitment", "consumers": ["demo/0"], **RESERVED, **SINCE},
    {"name": "free", "type": "FreeTier", "quantity": "100", **A100, **SINCE},
    {"name": "off", "type": "Discount", "percent": "10", **SINCE},
    {"name": "gift", "type": "Credit", "amount": "60", "consumers": ["demo/smollm2"], **SINCE},
]


def usage() -> FocusReport:
    """Return a month of two replicas whose time is rounded up."""
    return focus_report([month(), month("u2")], index(gpu("0.0014"), increment="1m"), MONTH, MONTH.end_us, "1.0")


def corrected() -> FocusReport:
    """Return a July in which a request of June becomes known, so that its time was another one's, and all terms."""
    prices = index(gpu("0.001"), terms=TERMS)
    first, later = lived(90_000, (50_000, 52_000)), lived(90_000, (50_000, 52_000), (700, 5_000))
    part = SealedPart(NOON + 8 * QUARTER, posted((first, NOON), (later, NOON + 8 * QUARTER), prices=prices))
    return focus_report([later], prices, month_of(NOON), END, "1.0", part)


def test_the_validator_gets_every_kind_of_row_to_see() -> None:
    report = corrected()
    place = {name: number for number, name in enumerate(report.columns)}
    kinds = {(row[place["ChargeCategory"]], row[place["ChargeClass"]]) for row in report.rows}
    assert {
        ("Usage", None),
        ("Usage", "Correction"),
        ("Purchase", None),
        ("Credit", None),
        ("Adjustment", None),
    } <= kinds
    described = {row[place["ChargeDescription"]] for row in report.rows if row[place["ResourceId"]] is None}
    assert {f"{term['type']} {term['name']}" for term in TERMS} <= described


def test_what_is_purchased_has_a_sku_and_a_price() -> None:
    """As what is used has: FOCUS lets neither be empty for either."""
    report = corrected()
    rows = [dict(zip(report.columns, row, strict=True)) for row in report.rows]
    bought = [row for row in rows if row["ChargeCategory"] == "Purchase"]
    assert bought
    for row in bought:
        assert (row["SkuId"], row["SkuPriceId"]) == ("Commitment/reserved", "reserved")
        assert Decimal(row["ListUnitPrice"] or 0) * Decimal(row["PricingQuantity"] or 0) == Decimal(
            row["ListCost"] or 0
        )


@pytest.mark.soak
@pytest.mark.parametrize("made", [usage, corrected])
def test_the_finops_foundation_s_validator_finds_nothing(made: Any, tmp_path: Path) -> None:
    folder = ROOT / ".build" / "focus"
    if not (folder / "bin" / "focus-validator").exists():
        venv.create(folder, with_pip=True)
        wanted = ["focus-validator==1.0.0", "multimethod<1.12"]
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *wanted], check=True)
    data = tmp_path / "focus.csv"
    data.write_text("\n".join(focus_rows(made())) + "\n")
    (packages,) = folder.glob("lib/python3*/site-packages")
    done = subprocess.run(
        [
            folder / "bin" / "focus-validator",
            "--data-file",
            data,
            "--validate-version",
            "1.0",
            "--column-namespace",
            "x_",
        ],
        cwd=packages,  # where it looks for its table of currencies
        capture_output=True,
        text=True,
    )
    assert "failed" not in done.stdout.lower() and done.returncode == 0, done.stdout + done.stderr
    assert "Validation succeeded" in done.stdout
