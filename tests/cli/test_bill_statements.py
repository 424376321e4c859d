"""Invoices, explanations and CSV as people and spreadsheets read them."""

from __future__ import annotations

import argparse
import csv
import io
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from zerotide.api.scalars import format_time, parse_time
from zerotide.billing.archives import ArchivedDay
from zerotide.billing.reports import SegmentView
from zerotide.billing.statements import (
    BilledLine,
    Check,
    Contribution,
    CorrectionLine,
    CorrectionView,
    Evidence,
    Explanation,
    FactView,
    InvoiceReport,
    LineReport,
    OtherCurrency,
    TermLine,
    UnrecordedLine,
)
from zerotide.billing.times import TimeRow
from zerotide.cli.bill_archive import day_lines
from zerotide.cli.bill_csv import COLUMNS, invoice_rows, line_rows
from zerotide.cli.bill_invoice import invoice_lines, invoice_of
from zerotide.cli.bill_period import add_period, period_of
from zerotide.cli.bill_statements import corrected, explained, print_checks
from zerotide.cli.bill_time import time_lines
from zerotide.cli.errors import UsageError
from zerotide.cli.output import Printer

NOW = parse_time("2026-11-25T12:00:00Z")


def line(consumer: str = "demo/a", amount: str = "0.021000", endpoint: str = "smollm2") -> BilledLine:
    """Return a line of fifteen seconds."""
    return BilledLine(
        namespace="demo",
        endpoint=endpoint,
        consumer=consumer,
        meter="AcceleratorTime",
        class_name="nvidia-l4",
        phase="loading",
        price="l4",
        unit_price="0.0014",
        per="Second",
        multiplier="1",
        quantity="15.000000",
        unit="device-seconds",
        amount=amount,
    )


def report(*lines: BilledLine) -> LineReport:
    """Return a report of October."""
    total = sum((Decimal(each.amount) for each in lines), Decimal(0))
    start, end = parse_time("2026-10-01T00:00:00Z"), parse_time("2026-11-01T00:00:00Z")
    return LineReport(currency="USD", from_us=start, to_us=end, as_of_us=NOW, lines=lines, total=f"{total:f}")


def correction(consumer: str = "demo/a", amount: str = "-0.001000") -> CorrectionLine:
    """Return a correction of September."""
    start, end = parse_time("2026-08-31T22:00:00Z"), parse_time("2026-09-30T22:00:00Z")
    made = line(consumer, amount).model_copy(update={"quantity": "-1.500000"})
    return CorrectionLine(**dict(made), of_from_us=start, of_to_us=end)


def invoiced(*lines: BilledLine, corrections: tuple[CorrectionLine, ...] = (), sealed: str = "") -> InvoiceReport:
    """Return the invoices of October."""
    made = report(*lines)
    return InvoiceReport(
        **dict(made), corrections=corrections, sealed_until_us=parse_time(sealed) if sealed else made.to_us
    )


def test_an_invoice_is_one_consumers_and_rounds_once() -> None:
    made = invoiced(line(), line(amount="0.004999"), line("demo/b", "9.000000"))
    found = invoice_of(made, "demo/a")
    assert (found["sum"], found["payable"], found["rounding"]) == ("0.025999", "0.03", "0.004001")
    text = invoice_lines(made, "demo/a")
    assert text[0] == "Invoice for demo/a, 2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z"
    assert text[-1] == "Payable: USD 0.03 (rounded by 0.004001)."
    assert sum("nvidia-l4" in each for each in text) == 2
    assert "0.0014 per Second" in text[3]
    assert "CORRECTS" not in text[2]


def test_corrections_of_earlier_months_are_lines_of_their_own() -> None:
    made = invoiced(line(), corrections=(correction(), correction("demo/b")), sealed="2026-10-31T12:00:00Z")
    found = invoice_of(made, "demo/a")
    assert (found["sum"], found["payable"], found["sealedUntil"]) == ("0.020000", "0.02", "2026-10-31T12:00:00Z")
    assert found["corrections"] == [correction().dump()]
    text = invoice_lines(made, "demo/a", ZoneInfo("Europe/Rome"))
    assert text[2].endswith("CORRECTS")
    assert text[4].split()[-2:] == ["-0.001", "2026-09"]
    assert text[-1] == "Not sealed since 2026-10-31T12:00:00Z: what came after it may still change."
    cells = list(csv.DictReader(io.StringIO("\n".join(invoice_rows(made, [line(), correction()])))))
    assert [cell["corrects"] for cell in cells] == ["", "2026-08-31T22:00:00Z"]
    assert [cell["amount"] for cell in cells] == ["0.021000", "-0.001000"], "a number is no formula"


def test_terms_are_lines_of_the_invoice() -> None:
    credit = TermLine(
        consumer="demo/a",
        name="welcome",
        type="Credit",
        month_us=parse_time("2026-10-01T00:00:00Z"),
        quantity="0.020000",
        unit="money",
        amount="-0.020000",
    )
    made = invoiced(line(), line("demo/b")).model_copy(update={"terms": (credit,)})
    found = invoice_of(made, "demo/a")
    assert (found["terms"], found["sum"], found["payable"]) == ([credit.dump()], "0.001000", "0.00")
    text = invoice_lines(made, "demo/a")
    assert text[4].split() == ["Credit", "welcome", "0.02", "money", "-0.020"]
    assert "welcome" not in "".join(invoice_lines(made, "demo/b"))
    (row,) = csv.DictReader(io.StringIO("\n".join(invoice_rows(made, [credit]))))
    assert (row["meter"], row["price"], row["amount"], row["consumer"]) == ("Credit", "welcome", "-0.020000", "demo/a")


def test_what_was_charged_in_another_currency_is_named() -> None:
    """Also to a consumer who owes nothing else; it is no part of what is payable."""
    euros = OtherCurrency(consumer="demo/a", currency="EUR", amount="1.500000")
    made = invoiced(line(), line("demo/b")).model_copy(update={"elsewhere": (euros,)})
    text = invoice_lines(made, "demo/a")
    assert text[-2:] == [
        "Payable: USD 0.02 (rounded by -0.001000).",
        "Not on it: EUR 1.500000, charged by a price book in that currency.",
    ]
    assert invoice_of(made, "demo/a")["otherCurrencies"] == [euros.dump()]
    assert invoice_of(made, "demo/b")["otherCurrencies"] == []
    assert "EUR" not in "".join(invoice_lines(made, "demo/b"))


def test_an_invoice_names_what_was_not_recorded() -> None:
    """Also to a consumer who owes nothing else."""
    missing = UnrecordedLine(namespace="demo", endpoint="chat", consumer="demo/c", requests=3)
    made = invoiced(line()).model_copy(update={"unrecorded": (missing,)})
    text = "Not on it: 3 requests or more to demo/chat, which could not be recorded."
    assert invoice_lines(made, "demo/c")[-1] == text
    assert invoice_of(made, "demo/c")["unrecorded"] == [missing.dump()]
    assert invoice_of(made, "demo/a")["unrecorded"] == []
    assert text not in invoice_lines(made, "demo/a")


def test_corrections_are_explained() -> None:
    view = CorrectionView(
        posted_us=NOW,
        of_us=NOW - 3_600_000_000,
        namespace="demo",
        endpoint="smollm2",
        consumer="demo/a",
        meter="AcceleratorTime",
        class_name="nvidia-l4",
        phase="active",
        price="l4",
        quantity="-1.500000",
        unit="device-seconds",
        amount="-0.002100",
    )
    whole = Explanation(
        currency="USD", from_us=NOW, to_us=NOW, as_of_us=NOW, contributions=(), pods=(), total="0", corrections=(view,)
    )
    text = corrected(whole)
    assert text[0].split()[:2] == ["POSTED", "CORRECTS"]
    assert text[1].split()[:2] == ["2026-11-25T12:00:00Z", "2026-11-25T11:00:00Z"]
    assert text[1].endswith("-0.0021")
    assert corrected(whole.model_copy(update={"corrections": ()})) == []


def test_csv_is_read_back_as_it_was_and_starts_no_formula() -> None:
    odd = line(endpoint="=cmd", consumer='demo/"x",y')
    rows = list(csv.DictReader(io.StringIO("\n".join(line_rows(report(line(), odd))))))
    assert list(rows[0]) == COLUMNS.split(",")
    assert (rows[0]["amount"], rows[0]["currency"], rows[0]["from"]) == ("0.021000", "USD", "2026-10-01T00:00:00Z")
    assert (rows[1]["endpoint"], rows[1]["consumer"]) == ("'=cmd", 'demo/"x",y')


def test_an_explanation_shows_charges_segments_and_facts() -> None:
    pod = Evidence(
        namespace="demo",
        endpoint="smollm2",
        pod="p1",
        pod_uid="u1",
        ended="gone",
        flags=("end_estimated",),
        requests=2,
        segments=(SegmentView(from_us=NOW, to_us=NOW + 15_000_000, phase="loading"),),
        facts=(FactView(kind="scheduled", key="node-1", time_us=NOW),),
    )
    charge = Contribution(
        pod_uid="u1",
        consumer="demo/a",
        meter="AcceleratorTime",
        class_name="nvidia-l4",
        phase="loading",
        price="l4",
        quantity="15.000000",
        unit="device-seconds",
        amount="0.021000",
    )
    whole = Explanation(
        currency="USD", from_us=NOW, to_us=NOW, as_of_us=NOW, contributions=(charge,), pods=(pod,), total="0.021000"
    )
    text = "\n".join(explained(whole, pod))
    assert text.startswith("demo/p1 (u1), 2 requests, gone, end estimated")
    for words in ("0.021", "15.000000", "2026-11-25T12:00:15Z", "node-1"):
        assert words in text


def asked(*words: str) -> list[str]:
    """Return the edges of the period that these arguments mean."""
    parser = argparse.ArgumentParser()
    add_period(parser)
    return [format_time(edge) for edge in period_of(parser.parse_args(list(words)), NOW)]


def test_periods_are_the_month_unless_said_otherwise() -> None:
    assert asked() == ["2026-11-01T00:00:00Z", "2026-11-25T12:00:00Z"]
    assert asked("--for", "last month", "--time-zone", "Europe/Rome") == [
        "2026-09-30T22:00:00Z",
        "2026-10-31T23:00:00Z",
    ]
    assert asked("--since", "12h") == ["2026-11-25T00:00:00Z", "2026-11-25T12:00:00Z"]
    assert asked("--from", "2026-11-02", "--to", "2026-11-03") == ["2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "someday"], "no period 'someday'"),
        (["--for", "today", "--to", "2026-11-03"], "leave --to out"),
        (["--from", "2026-11-03", "--to", "2026-11-02"], "swap from and to"),
    ],
)
def test_what_means_no_period_is_a_usage_error(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(*words)


def test_a_day_of_the_archive_is_a_line_and_a_difference_too() -> None:
    day = ArchivedDay(
        day_us=parse_time("2026-11-24T00:00:00Z"),
        revision=2,
        requests=333_333,
        segments=120,
        charges=96,
        bytes=4_000_000,
        seal=960,
        digest="0123456789abcdef",
    )
    assert day_lines([]) == []
    assert day_lines([day]) == [
        "DAY         REVISION  REQUESTS  SEGMENTS  CHARGES    BYTES  SEAL  MANIFEST",
        "2026-11-24         2    333333       120       96  4000000   960  0123456789ab",
    ]
    out, err = io.StringIO(), io.StringIO()
    print_checks(Printer(out=out, err=err), [Check(law="a law", checked=3, differences=("it is broken",))])
    assert out.getvalue().splitlines() == ["LAW    CHECKED  BROKEN", "a law        3       1", "a law: it is broken"]
    assert err.getvalue() == "1 difference.\n"


def test_time_is_a_line_for_each_slice_and_phase_in_the_zone_that_was_asked_for() -> None:
    row = TimeRow(
        from_us=parse_time("2026-11-24T23:00:00Z"),
        to_us=parse_time("2026-11-25T00:00:00Z"),
        namespace="demo",
        endpoint="smollm2",
        meter="AcceleratorTime",
        class_name="nvidia-l4",
        phase="active",
        seconds="12.500000",
    )
    assert time_lines([]) == []
    assert time_lines([row])[1].split() == [
        "2026-11-24T23:00:00Z",
        "demo/smollm2",
        "active",
        "nvidia-l4",
        "12.500000",
        "device-seconds",
    ]
    assert time_lines([row], ZoneInfo("Europe/Rome"))[1].startswith("2026-11-25T00:00:00+01:00  demo/smollm2")
