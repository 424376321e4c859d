"""What wakes an endpoint that sleeps, worked out while nobody waits for it.

Whoever is called first is woken by one write, which follows from what the last look saw; to see and compare it all
again takes twenty times as long as to send it. The look after the write comes to the same decision and records it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from zerotide.api.names import ANNOTATION_RENDERED_DIGEST
from zerotide.reconcile.deployment import annotation, replicas_of
from zerotide.reconcile.observed import Object, Observed
from zerotide.reconcile.ownership import Owner, owner
from zerotide.reconcile.rendering import ANNOTATION_SPEC_DIGEST, Rendering
from zerotide.reconcile.steer import Scale, Steering
from zerotide.scaling.decide import Why, decide


@dataclass(frozen=True, slots=True)
class Prepared:
    """The write that wakes an endpoint of which so many requests at most are held or in flight.

    It holds until anything but the demand changes.
    """

    scale: Scale
    most: int


def prepared(
    observed: Observed, rendering: Rendering, steering: Steering, live: Object | None, now_us: int
) -> Prepared | None:
    """Return what wakes an endpoint once a request is held, None where that takes more than to scale.

    `live` is the Deployment of its name once the steering is carried out.
    """
    where = steering.situation
    if steering.decision.replicas or where.facts.replicas or observed.pods or live is None:
        return None
    meta = observed.endpoint.metadata
    if "deletionTimestamp" in live["metadata"] or owner(live, meta.name, meta.uid) is not Owner.OURS:
        return None
    if replicas_of(live) or not _deployed(live, rendering):
        return None
    called = replace(observed.load, held=1, in_flight=0)
    decision = decide(where.policy, called, observed.window, where.facts, now_us)
    if decision.why is not Why.DEMAND:
        return None
    # More requests may ask for more replicas, where there may be more.
    most = where.policy.target if decision.replicas < where.policy.max_replicas else sys.maxsize
    return Prepared(Scale(str(live["metadata"]["uid"]), decision.replicas), most)


def _deployed(live: Object, rendering: Rendering) -> bool:
    """Tell whether a Deployment is as it would be rendered; what drifts from that a steering has put back."""
    spec_digest = annotation(live["spec"]["template"], ANNOTATION_SPEC_DIGEST)
    digests = spec_digest, annotation(live, ANNOTATION_RENDERED_DIGEST)
    return rendering.template is not None and digests == (rendering.spec_digest, rendering.digest)
