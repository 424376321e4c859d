"""Whether the present spec was proven to start, where start.verify asks for that, and what becomes of it.

It is about the part of the spec that pods are made of. Any start proves it, whoever asked for it; where nobody did, one
is asked for, and as often again as start.maxFailures allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from zerotide.api.conditions import Reason, Verified
from zerotide.api.endpoint import InferenceEndpoint, VerificationStatus
from zerotide.api.scalars import SECOND, format_duration, parse_time
from zerotide.reconcile.diagnosis import Finding
from zerotide.reconcile.pods import Pod, Stage
from zerotide.scaling.decide import Decision, Why

_MESSAGE = 1024


class Outcome(StrEnum):
    """What is known of the present spec."""

    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Verification:
    """What is known of a spec; `failures` are starts that ended without a replica that was ready."""

    spec_digest: str
    outcome: Outcome = Outcome.PENDING
    failures: int = 0
    reason: str = ""
    message: str = ""

    def dump(self) -> dict[str, object]:
        """Return it as the status has it."""
        return VerificationStatus(
            spec_digest=self.spec_digest,
            outcome=self.outcome.value,
            failures=self.failures,
            reason=self.reason,
            message=self.message[:_MESSAGE],
        ).dump()


def verification(endpoint: InferenceEndpoint, digest: str, current: Iterable[Pod]) -> Verification | None:
    """Return what is known of the spec of that digest, whose replicas are `current`; None where nobody asks."""
    if endpoint.spec.start.verify == "Never":
        return None
    before = _known(endpoint.status.verification, digest)
    ready = [pod for pod in current if pod.stage is Stage.READY]
    if before.outcome is Outcome.SUCCEEDED or not ready:
        return before
    # The API's times are whole seconds.
    took = min((pod.ready_us or pod.created_us) - pod.created_us for pod in ready) + SECOND
    message = f"a replica was ready within {format_duration(took)}"
    return replace(before, outcome=Outcome.SUCCEEDED, reason="Started", message=message)


def _known(known: VerificationStatus | None, digest: str) -> Verification:
    if known is None or known.spec_digest != digest:
        return Verification(digest)
    outcome = Outcome(known.outcome) if known.outcome in list(Outcome) else Outcome.PENDING
    return Verification(digest, outcome, known.failures, known.reason, known.message)


def since_us(endpoint: InferenceEndpoint, replicas: int) -> int | None:
    """Return when the present replicas were asked for only to verify the spec, None where others asked."""
    last = endpoint.status.last_decision
    if not replicas or last is None or last.reason != Why.VERIFY.value:
        return None
    return parse_time(last.time)


def ended(before: Verification, decision: Decision, finding: Finding | None, most: int) -> Verification:
    """Return what is known once the last replica was taken away; `finding` is why none was ready.

    A roll-out that an idle endpoint did not wait for says nothing of the new spec.
    """
    if before.outcome is not Outcome.PENDING or decision.why is Why.SUSPENDED:
        return before
    if decision.why is Why.IDLE and finding is None:
        return before
    reason = finding.reason.value if finding is not None else decision.why.value
    message = finding.message if finding is not None else decision.message
    if decision.why is Why.SLEEP_REQUESTED:
        return replace(before, outcome=Outcome.FAILED, reason=decision.why.value, message=decision.message)
    failures = before.failures + 1
    outcome = Outcome.FAILED if failures >= most else Outcome.PENDING
    return replace(before, outcome=outcome, failures=failures, reason=reason, message=message)


def told(known: Verification, obstacle: Finding | None, suspended: bool) -> Verified:
    """Return the condition by which it is told; an obstacle keeps any start from being tried."""
    if known.outcome is Outcome.SUCCEEDED:
        return Verified("True", known.reason, known.message)
    if known.outcome is Outcome.FAILED:
        return Verified("False", known.reason, known.message)
    if suspended:
        return Verified("Unknown", Reason.SUSPENDED.value, "not while it is suspended")
    if obstacle is not None:
        return Verified("False", obstacle.reason.value, obstacle.message)
    if known.failures:
        return Verified("Unknown", "Verifying", f"start {known.failures} failed: {known.message}")
    return Verified("Unknown", "Verifying", "whether the spec can start is not known yet")
