"""Bills as spreadsheets read them: one row for each line, amounts that add up to the total."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from zerotide.api.base import format_time
from zerotide.billing.focus import FocusReport
from zerotide.billing.statements import BilledLine, LineReport

COLUMNS = (
    "from,to,namespace,endpoint,consumer,meter,class,phase,price,"
    "unit_price,per,multiplier,quantity,unit,amount,currency"
)
_RISKY = ("=", "+", "-", "@", "\t", "\r")


def line_rows(report: LineReport) -> Iterator[str]:
    """Yield the header and each line, without line ends."""
    return rows(report, report.lines)


def rows(report: LineReport, lines: Iterable[BilledLine]) -> Iterator[str]:
    """Yield the header and some of a report's lines."""
    yield COLUMNS
    for line in lines:
        yield _row(
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
    # A spreadsheet would take such a text for a formula.
    csv.writer(out, lineterminator="").writerow(f"'{cell}" if cell.startswith(_RISKY) else cell for cell in cells)
    return out.getvalue()
