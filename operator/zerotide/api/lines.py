"""The base of records that processes send each other, one JSON object a line.

Strict about what it knows and silent about what it does not: a newer sender may add fields, and a rolling upgrade
must not break the reader. Times are integer microseconds since the epoch and end in `Us`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Line(BaseModel):
    """A frozen record that fits on one line of JSON."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        ser_json_inf_nan="null",
        allow_inf_nan=False,
    )

    def encode(self) -> bytes:
        """Return the record as one line of JSON, newline included."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


Us = Annotated[int, Field(ge=0)]
"""Microseconds since the epoch."""

Count = Annotated[int, Field(ge=0)]
"""A number of things."""
