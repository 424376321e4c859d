"""Choose among the accelerators that an endpoint may run on: the next ones where those before cannot be had.

The Deployment says which choice is taken, so a restart takes the same. An endpoint that sleeps has its first choice.
"""

from __future__ import annotations

from collections.abc import Sequence

from zerotide.reconcile.capacity import obstacle
from zerotide.reconcile.child import Kind
from zerotide.reconcile.config import Config
from zerotide.reconcile.deployment import annotation
from zerotide.reconcile.observed import Object, Observed
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.rendering import ANNOTATION_SPEC_DIGEST, Rendering
from zerotide.scaling.policy import Policy


def choose(choices: Sequence[Rendering], observed: Observed, config: Config, now_us: int) -> Rendering:
    """Return the choice to take now.

    The next one is taken where every replica of the present one has waited `start.capacityTimeout` for room, or no
    node could ever hold it; the last one is kept. A replica that got a node keeps its choice, or a start that is under
    way would be given up. So does one that can take the place of an older replica: a roll-out that finds no room for
    two must not end where there may be room for none.
    """
    live = observed.own(Kind.DEPLOYMENT)
    if len(choices) == 1 or live is None or not observed.decided:
        return choices[0]
    digests = [choice.spec_digest for choice in choices]
    deployed = annotation(live["spec"]["template"], ANNOTATION_SPEC_DIGEST)
    now = digests.index(deployed) if deployed in digests else 0
    mine = [pod for pod in observed.pods if pod.counts and pod.spec_digest == digests[now]]
    rest = [pod for pod in observed.pods if pod.counts and pod.spec_digest != digests[now]]
    if any(pod.stage is not Stage.UNSCHEDULABLE for pod in mine):
        return choices[now]
    able = [at for at, choice in enumerate(choices) if _able(choice, observed.nodes, config.elastic)]
    later = [at for at in able if at > now]
    if now not in able:
        return choices[later[0] if later else able[-1] if able else now]
    device = choices[now].device
    if device and any(pod.stage is Stage.READY and pod.class_name == device.class_name for pod in rest):
        return choices[now]
    since_us = max(min((pod.created_us for pod in mine), default=now_us), observed.unserved_us(now_us))
    waited = now_us >= since_us + Policy.of(observed.endpoint.spec).capacity_us
    return choices[later[0] if waited and later else now]


def _able(choice: Rendering, nodes: tuple[Object, ...], elastic: bool) -> bool:
    """Tell whether some node could ever hold a replica of this choice."""
    if choice.template is None:
        return False
    return elastic or choice.on_demand or not obstacle(choice.template["spec"], nodes)
