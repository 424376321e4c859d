"""The demand stream: what an activator tells the operator, one JSON message a line.

A stream begins with one `Snapshot`; `Delta` messages follow as demand changes, a `Report` every half second says that
all activity up to its time has been sent, and a `Wake` carries the activator's stamps of a finished wake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from zerotide.api.base import describe
from zerotide.api.failures import InvalidMessage
from zerotide.api.lines import Count, Line, Us


class Demand(Line):
    """What one endpoint is asked for at one activator."""

    endpoint: str
    """`namespace/name`."""
    uid: str
    held: Count
    in_flight: Count
    arrivals: Count
    """Admitted requests since the activator's start; only grows."""
    last_activity_us: Us
    """Newest arrival or end of an admitted request, 0 where there was none."""

    @property
    def active(self) -> bool:
        """Tell whether anything is held or in flight."""
        return self.held > 0 or self.in_flight > 0


class Snapshot(Line):
    """All demand of an activator; the first line of each stream."""

    type: Literal["snapshot"] = "snapshot"
    activator: str
    started_at_us: Us
    at_us: Us
    demands: tuple[Demand, ...] = ()


class Delta(Line):
    """The new demand of one endpoint."""

    type: Literal["delta"] = "delta"
    at_us: Us
    demand: Demand


class Report(Line):
    """All activity up to `at_us` has been sent before this line."""

    type: Literal["report"] = "report"
    at_us: Us


class Stamps(Line):
    """When each step of a wake was seen by the activator; steps that it did not see are absent."""

    demand_us: Us
    address_us: Us | None = None
    connect_us: Us | None = None
    ready_us: Us | None = None
    first_byte_us: Us


class Weights(Line):
    """What a runtime tells of the model that it loaded; absent what it does not know."""

    revision: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    bytes: Count | None = None


class Wake(Line):
    """The activator's part of one finished wake; the newest of an endpoint is told again to who listens anew."""

    type: Literal["wake"] = "wake"
    at_us: Us
    endpoint: str
    uid: str
    id: str
    stamps: Stamps
    runtime: Mapping[str, Annotated[float, Field(ge=0)]] | None = None
    """The runtime's own stages in milliseconds, where it tells them."""
    weights: Weights | None = None


Message = Snapshot | Delta | Report | Wake
TYPES = ("snapshot", "delta", "report", "wake")
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def decode(line: bytes | str) -> Message | None:
    """Read one line of the stream; None for a type of message that this version does not know.

    Raises InvalidMessage, which names the fields that do not fit.
    """
    try:
        return _MESSAGE.validate_json(line)
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None
        raise InvalidMessage(f"no message of the demand stream: {'; '.join(describe(error))}") from error
