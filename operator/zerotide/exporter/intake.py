"""Take a body of usage records apart: every line is either a record or is kept as refused, none is lost."""

from __future__ import annotations

from typing import NamedTuple

from zerotide.api.failures import InvalidRecord
from zerotide.api.usage import AnyRecord, decode
from zerotide.exporter.store import Refused

MAX_BODY = 8 * 2**20
"""Bytes of one delivery; larger ones are answered 413."""


class Delivery(NamedTuple):
    """What a body holds; `lines` are the numbers of the refused lines, from 1."""

    records: list[AnyRecord]
    refused: list[Refused]
    lines: list[int]


def read_delivery(body: bytes) -> Delivery:
    """Read NDJSON; empty lines hold nothing."""
    delivery = Delivery([], [], [])
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            delivery.records.append(decode(line))
        except InvalidRecord as error:
            delivery.refused.append(Refused(line, str(error)))
            delivery.lines.append(number)
    return delivery
