"""Tables, durations and ages as people read them; nothing here knows what it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TextIO

from zerotide.api.scalars import HOUR, MINUTE, SECOND, parse_time

DAY = 24 * HOUR
GAP = "  "


@dataclass
class Printer:
    """Write data to `out` and prose to `err`; `as_json` turns every datum into JSON."""

    as_json: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def data(self, text: str) -> None:
        """Write one line of data."""
        print(text, file=self.out, flush=True)

    def prose(self, text: str) -> None:
        """Write one line for people."""
        print(text, file=self.err, flush=True)

    def json(self, value: Any) -> None:
        """Write one JSON document."""
        print(json.dumps(value, indent=2, ensure_ascii=False, default=str), file=self.out, flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
        """Write a table; `right` names the columns that are aligned to the right."""
        for line in format_table(header, rows, right=right.split()):
            self.data(line)


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table whose columns are as wide as their widest cell; absent cells are `-`."""
    lines = [list(header), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def align(line: list[str]) -> str:
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, header, strict=True)
        )
        return GAP.join(cells).rstrip()

    return [align(line) for line in lines]


def format_fields(fields: Iterable[tuple[str, str]]) -> list[str]:
    """Return `Name: value` lines with the values under each other, leaving out empty ones."""
    kept = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in kept), default=0) + 1
    return [f"{name + ':':<{width}}{GAP}{value}" for name, value in kept]


def format_span(us: int) -> str:
    """Return a measured span with three significant digits or so: `340 ms`, `1.24 s`, `2 m 05 s`, `3 h 20 m`."""
    if us < SECOND:
        return f"{us / 1000:.0f} ms"
    if us < 10 * SECOND:
        return f"{us / SECOND:.2f} s"
    if us < MINUTE:
        return f"{us / SECOND:.1f} s"
    seconds = us // SECOND
    if us < HOUR:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} m"


def format_age(since: str | None, now_us: int) -> str:
    """Return the time since an RFC 3339 instant as kubectl does: `45s`, `12m`, `3h20m`, `5d`; empty without one."""
    if not since:
        return ""
    us = max(0, now_us - parse_time(since))
    seconds = us // SECOND
    if us < 2 * MINUTE:
        return f"{seconds}s"
    if us < 3 * HOUR:
        return f"{seconds // 60}m"
    if us < 10 * HOUR:
        minutes = seconds % 3600 // 60
        return f"{seconds // 3600}h{minutes}m" if minutes else f"{seconds // 3600}h"
    if us < 2 * DAY:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def format_bytes(number: int) -> str:
    """Return a size in powers of a thousand with three digits or so, as disks are sold: `538 MB`, `16.1 GB`."""
    size, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 99.95 or units[0] == "B" else f"{size:.1f} {units[0]}"


def format_number(value: Decimal, decimals: int = 3) -> str:
    """Return a number with at most so many decimals and no trailing zeros."""
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it must be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(text: str, width: int = 100) -> str:
    """Return text without line breaks, cut to a width."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
