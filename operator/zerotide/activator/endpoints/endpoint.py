"""One endpoint: its gate, its replicas, and how long its starts took."""

from __future__ import annotations

import asyncio

from zerotide.activator.admission.ejection import Health, did_well
from zerotide.activator.admission.estimate import History
from zerotide.activator.admission.gate import Bounds, Gate
from zerotide.activator.admission.hall import Hall
from zerotide.activator.admission.profile import Profile
from zerotide.activator.endpoints.pods import Candidate
from zerotide.activator.usage.lines import quoted
from zerotide.activator.wire import Pool
from zerotide.activator.wire.h2.lines import Lines
from zerotide.api.demand import Stamps
from zerotide.api.errors import Rejection, RetryAfter


class Replica:
    """A pod that is dialled, and used once it answered; times in microseconds since the epoch."""

    def __init__(self, candidate: Candidate, pool: Pool, address_us: int, lines: Lines | None = None) -> None:
        self.candidate = candidate
        self.pool = pool
        self.quoted_uid = quoted(candidate.uid)
        self.lines = lines
        """Its connections where it speaks gRPC, and nothing else."""
        self.address_us = address_us
        self.connect_us: int | None = None
        self.ready_us: int | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.health = Health()
        self.recalled = asyncio.Event()
        """Set when an ejected replica is to be dialled at once, since no other is left."""

    @property
    def uid(self) -> str:
        """Return the pod's uid."""
        return self.candidate.uid

    def did_well(self) -> None:
        """Note a good answer."""
        if self.health.failures:
            self.health = did_well(self.health)

    def close(self) -> None:
        """Dial and use the pod no more; requests that it serves go on."""
        if self.dialling is not None:
            self.dialling.cancel()
        self.pool.close()
        if self.lines is not None:
            self.lines.close()

    def trim(self) -> None:
        """Close connections that have been idle for long."""
        self.pool.trim()
        if self.lines is not None:
            self.lines.trim()


class Endpoint:
    """An endpoint as this activator serves it."""

    def __init__(self, profile: Profile, bounds: Bounds, hall: Hall | None = None) -> None:
        self.profile = profile
        self.gate: Gate[Replica] = Gate(bounds, hall, profile.namespace)
        self.replicas: dict[str, Replica] = {}
        self.starts = History()
        self.services = History(64)
        self.demand_us: int | None = None
        """Since when somebody waits for a start, None where nobody does."""
        self.patients = 0
        """How many wait until somebody else wakes the endpoint."""
        self.quiet = profile.asleep
        """Whether these are no demand now."""

    @property
    def awaited(self) -> bool:
        """Tell whether somebody waits for whom the endpoint is to be awake."""
        gate = self.gate
        return gate.held > (0 if self.profile.wakes_for_batch else gate.held_batches)

    def wanted(self, now_us: int) -> None:
        """Note that a request came while no replica could serve."""
        if self.demand_us is None and self.gate.cold:
            self.demand_us = now_us

    def started(self, replica: Replica) -> None:
        """Note how long a start took, where somebody waited for it."""
        if self.demand_us is not None and replica.ready_us is not None and self.gate.cold:
            self.starts.add(replica.ready_us - self.demand_us)
        self.settled()

    def settled(self) -> None:
        """Forget since when a start is waited for, where nobody waits any more, the first byte included."""
        if not self.gate.busy:
            self.demand_us = None

    def stamps(self, replica: Replica, first_byte_us: int) -> Stamps | None:
        """Return the stamps of the wake that ends with a first byte, once; None where none was going on."""
        demand_us, self.demand_us = self.demand_us, None
        if demand_us is None:
            return None
        return Stamps(
            demand_us=demand_us,
            address_us=replica.address_us,
            connect_us=replica.connect_us,
            ready_us=replica.ready_us,
            first_byte_us=first_byte_us,
        )

    def ready_in_us(self, now_us: int) -> int | None:
        """Return the measured time until a retry can succeed, None without history."""
        if self.gate.cold:
            elapsed = now_us - self.demand_us if self.demand_us is not None else 0
            return self.starts.remaining_us(elapsed, self.profile.starts_us)
        return self.services.remaining_us(0)

    def explain(self, rejection: Rejection, now_us: int) -> Rejection:
        """Return a rejection with the measured time until a retry can succeed, where its row tells one."""
        if rejection.row.retry_after is not RetryAfter.ESTIMATE or rejection.ready_in_us is not None:
            return rejection
        ready_in = self.ready_in_us(now_us)
        if ready_in is None:
            return rejection
        return Rejection(rejection.code, rejection.message, ready_in_us=ready_in, param=rejection.param)
