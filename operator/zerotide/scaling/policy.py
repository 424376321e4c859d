"""What an endpoint's spec says about scaling, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from zerotide.api.endpoint import Spec
from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.schedules import By, Floor


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds, targets and delays (microseconds) of one endpoint."""

    min_replicas: int = 0
    min_by: By = By.MIN_REPLICAS
    min_reason: str = "minReplicas"
    max_replicas: int = 1
    pinned: int = 0
    target: int = 8
    queue_delay_us: int = 0
    """How long a request may wait for a replica that serves; 0 asks nothing of it."""
    engine_queue: int = 0
    """Requests that may wait within the engine for each replica; 0 asks nothing of it."""
    tokens: int = 0
    """Tokens that may be in flight within the engine for each replica; 0 asks nothing of it."""
    idle_us: int = 5 * MINUTE
    scale_up_us: int = 0
    scale_down_us: int = MINUTE
    suspended: bool = False
    max_failures: int = 3
    failure_window_us: int = HOUR
    capacity_us: int = 5 * MINUTE
    deadline_us: int = 900 * SECOND
    withheld: str = ""
    """Why no replica is kept without requests, where some would be; empty where they are."""
    withheld_replicas: int = 0
    """How many would be."""

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Read the policy of a spec."""
        scaling = spec.scaling
        return cls(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            pinned=scaling.pinned_replicas,
            target=scaling.concurrency.target,
            queue_delay_us=scaling.queue_delay.target.us if scaling.queue_delay else 0,
            engine_queue=scaling.engine_queue.target if scaling.engine_queue else 0,
            tokens=scaling.tokens_in_flight.target if scaling.tokens_in_flight else 0,
            idle_us=scaling.idle.timeout.us,
            scale_up_us=scaling.stabilization.scale_up.us,
            scale_down_us=scaling.stabilization.scale_down.us,
            suspended=spec.suspend,
            max_failures=spec.start.max_failures,
            failure_window_us=spec.start.failure_window.us,
            capacity_us=spec.start.capacity_timeout.us,
            deadline_us=spec.start.deadline.us,
        )

    @property
    def panic_us(self) -> int:
        """Return how long more than twice the replicas must be wanted: a tenth of the time for others."""
        return self.scale_up_us // 10

    @property
    def pace_us(self) -> int:
        """Return the time within which no more than half of the replicas leave: half of the time before one does."""
        return self.scale_down_us // 2

    @property
    def keep_us(self) -> int:
        """Return how long a window must reach back."""
        return max(self.scale_up_us, self.scale_down_us)

    def withholding(self, why: str) -> Self:
        """Return the policy without a floor, for a reason that is told where it takes replicas away."""
        if not self.min_replicas:
            return self
        told = f"{self.min_reason} keeps none: {why}"
        return replace(self, min_replicas=0, withheld=told, withheld_replicas=self.min_replicas)

    def at_least(self, floor: Floor) -> Self:
        """Return the policy with the floor that holds by the clock, within its bounds."""
        replicas = min(floor.replicas, self.max_replicas)
        return replace(self, min_replicas=replicas, min_by=floor.by, min_reason=floor.reason)
