"""Bills as spreadsheets read them: one row for each line, amounts that add up to the total."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from zerotide.api.base import format_time
from zerotide.billing.focus import FocusReport
from zerotide.billing.statements import BilledLine, CorrectionLine, InvoiceReport, LineReport, TermLine

COLUMNS = (
    "from,to,namespace,endpoint,consumer,meter,class,phase,price,"
    "unit_price,per,multiplier,quantity,unit,amount,currency"
)
_RISKY = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def line_rows(report: LineReport) -> Iterator[str]:
    """Yield the header and each line, without line ends."""
    yield COLUMNS
    for line in report.lines:
        yield _row(*_cells(report, line))


def invoice_rows(report: InvoiceReport, lines: Iterable[BilledLine | TermLine]) -> Iterator[str]:
    """Yield the header and some of an invoice's lines; corrections say since when the month is that they correct.

    A term stands where others have a price, and its type where they have a meter.
    """
    yield f"{COLUMNS},corrects"
    for line in lines:
        if isinstance(line, TermLine):
            bounds = (format_time(line.month_us), format_time(report.to_us))
            told = (line.quantity, line.unit, line.amount, report.currency, "")
            yield _row(*bounds, "", "", line.consumer, line.type, "", "", line.name, "", "", "", *told)
            continue
        corrects = format_time(line.of_from_us) if isinstance(line, CorrectionLine) else ""
        yield _row(*_cells(report, line), corrects)


def _cells(report: LineReport | InvoiceReport, line: BilledLine) -> tuple[str, ...]:
    return (
        format_time(report.from_us),
        format_time(report.to_us),
        line.namespace,
        line.endpoint,
        line.consumer,
        line.meter,
        line.class_name,
        line.phase,
        line.price,
        line.unit_price,
        line.per,
        line.multiplier,
        line.quantity,
        line.unit,
        line.amount,
        report.currency,
    )


def focus_rows(report: FocusReport) -> Iterator[str]:
    """Yield the header and each row of a FOCUS export; a null is an empty cell."""
    yield ",".join(report.columns)
    for row in report.rows:
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow("" if cell is None else cell for cell in row)
        yield out.getvalue()


def _row(*cells: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(map(_safe, cells))
    return out.getvalue()


def _safe(cell: str) -> str:
    """Mark what a spreadsheet would take for a formula as text; a number below nought is none."""
    return f"'{cell}" if cell.startswith(_RISKY) and not _NUMBER.fullmatch(cell) else cell
