"""The answers that the exporter gives and the command line reads: what was used, what it cost, how wakes went.

Times are integer microseconds since the epoch, amounts decimal strings in the report's currency. Every list adds up
to what stands above it: phases and tokens to the endpoint's total, consumers to the same total, endpoints to the
report's total. What a wake cost is part of the phases, not beside them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Us = int
Amount = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]


class Report(BaseModel):
    """The base of all answers: frozen, camelCase on the wire, tolerant of fields that a newer exporter adds."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_alias=True, validate_by_name=True
    )

    def dump(self) -> dict[str, Any]:
        """Return the report as JSON says it: camelCase, absent fields as null."""
        return self.model_dump(mode="json", by_alias=True)


class PhaseCost(Report):
    """What an endpoint's replicas used in one phase.

    `replica_us` is time summed over replicas; the seconds are decimals of device-, core- and GiB-seconds.
    """

    phase: str
    replica_us: Us
    accelerator_seconds: str
    cpu_seconds: str
    memory_gib_seconds: str
    amount: Amount


class TokenCost(Report):
    """Requests that were finished in the period, and their tokens; `cached_input` is part of `input`.

    `estimated_output` is the part of `output` that was counted event by event, since its streams were cut;
    `unrecorded` requests were served beside them, and are not billed, since activators could record nothing.
    """

    requests: int
    input: int
    cached_input: int
    output: int
    estimated_output: int = 0
    unrecorded: int = 0
    amount: Amount


class ConsumerCost(Report):
    """What one consumer pays; `active_us` is its share of the replicas' active time, rounded to sum to the whole."""

    consumer: str
    active_us: Us
    requests: int
    input_tokens: int
    output_tokens: int
    amount: Amount


class AdapterCost(Report):
    """What the requests to one adapter of the model cost, or to the model itself (empty), which has what is left."""

    adapter: str
    active_us: Us
    requests: int
    input_tokens: int
    output_tokens: int
    amount: Amount


class Stage(Report):
    """One stage of a wake."""

    name: str
    us: Us


class WakeCost(Report):
    """One wake: from the first held request to the first byte of its answer, and the cost of starting the replica.

    `amount` is None where no metered pod can be told to be the wake's.
    """

    namespace: str
    endpoint: str
    id: str
    time_us: Us
    cause: str
    total_us: Us
    stages: tuple[Stage, ...]
    amount: Amount | None


class EndpointCost(Report):
    """What one endpoint cost in the period, and what one replica that never sleeps would have cost in it.

    `adapters` tell the same total apart once more, where any adapter was asked for.
    `accelerator` is the price class of the newest replica's devices (empty: CPU), `units` their number. `notes` say in
    sentences what is estimated or unpriced.
    """

    namespace: str
    endpoint: str
    accelerator: str
    units: int
    replicas: int
    phases: tuple[PhaseCost, ...]
    tokens: TokenCost
    consumers: tuple[ConsumerCost, ...]
    adapters: tuple[AdapterCost, ...] = ()
    wakes: tuple[WakeCost, ...]
    total: Amount
    always_on: Amount
    per_million_tokens: Amount | None
    notes: tuple[str, ...] = ()


class CostReport(Report):
    """The cost of endpoints over [from, to), as the ledger knew it at `as_of_us`."""

    currency: str
    from_us: Us
    to_us: Us
    as_of_us: Us
    endpoints: tuple[EndpointCost, ...]
    total: Amount
    always_on: Amount


class StageSummary(Report):
    """Half of the wakes spent no longer than `p50_us` in the stage, nine of ten no longer than `p90_us`."""

    name: str
    p50_us: Us
    p90_us: Us


class ColdStartReport(Report):
    """Wakes, newest first, and how their stages were spread; the last stage of the summary is `total`.

    `requests` are those that went to a replica in the period, `cold_requests` those that had waited for a wake.
    """

    currency: str
    as_of_us: Us
    wakes: tuple[WakeCost, ...]
    summary: tuple[StageSummary, ...]
    amount: Amount
    requests: int = 0
    cold_requests: int = 0


class SegmentView(Report):
    """A half-open span in one phase."""

    from_us: Us
    to_us: Us
    phase: str


class PodSegments(Report):
    """One replica's life. All segments but `queued` partition the allocation [allocated_from_us, allocated_to_us).

    `ended` names the witness of its end (finished, terminal, gone) and is empty while it lives.
    """

    namespace: str
    endpoint: str
    pod: str
    pod_uid: str
    node: str
    accelerator: str
    units: int
    cpu_milli: int
    memory_bytes: int
    created_us: Us
    allocated_from_us: Us
    allocated_to_us: Us
    ended: str
    flags: tuple[str, ...]
    segments: tuple[SegmentView, ...]


class SegmentReport(Report):
    """The segments of replicas that were allocated or queued within [from, to), uncut, as known at `as_of_us`."""

    from_us: Us
    to_us: Us
    as_of_us: Us
    pods: tuple[PodSegments, ...]


class ArrivalReport(Report):
    """When the requests of [from, to) came, oldest first, each with the time that replicas served it."""

    from_us: Us
    to_us: Us
    requests: tuple[tuple[Us, Us], ...]
