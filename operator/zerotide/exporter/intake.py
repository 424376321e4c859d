"""Take a body of usage records apart: every line is either a record or is kept as refused, none is lost.

What an activator of a newer version sent may be readable once this process is of that version, too.
"""

from __future__ import annotations

from typing import NamedTuple

from zerotide.api.failures import InvalidRecord
from zerotide.api.usage import AnyRecord, decode
from zerotide.exporter.errors import RecordUnfit
from zerotide.exporter.store import Refused, Store

MAX_BODY = 8 * 2**20
"""Bytes of one delivery; larger ones are answered 413."""


AT_ONCE = 500
"""Refused lines that are looked at together."""


class Delivery(NamedTuple):
    """What a body holds; `places` are the numbers of the lines that are records, `lines` those of the refused ones."""

    records: list[AnyRecord]
    refused: list[Refused]
    lines: list[int]
    places: list[int]


def read_delivery(body: bytes) -> Delivery:
    """Read NDJSON, whose lines count from 1; empty ones hold nothing."""
    delivery = Delivery([], [], [], [])
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            delivery.records.append(decode(line))
            delivery.places.append(number)
        except InvalidRecord as error:
            delivery.refused.append(Refused(line, str(error)))
            delivery.lines.append(number)
    return delivery


def read_again(store: Store, now_us: int) -> int:
    """Record what lines that were refused say, where they can be read by now; return how many. Raises StoreError."""
    taken, after = 0, ""
    while kept := store.refused_lines(after, AT_ONCE):
        after = kept[-1].digest
        for line in kept:
            try:
                store.add_usage([decode(line.line)], [], now_us)
            except (InvalidRecord, RecordUnfit):
                continue
            # Should the process die before this, the same record is added once more, which changes nothing.
            store.forget_refused(line.digest)
            taken += 1
    return taken
