"""The rules that are compared: a fixed timeout, Knative's and KubeAI's defaults, and ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from zerotide.scaling.learning.base import OTHERS, WEIGHT
from zerotide.scaling.learning.gaps import Gaps
from zerotide.scaling.learning.learner import Learner
from zerotide.scaling.learning.prior import Prior, fit
from zerotide.scaling.replay.simulate import Prices, Rule, busy, simulate
from zerotide.scaling.replay.trace import Arrivals

FIXED_S = (30, 60, 120, 300, 600, 900, 1200)
"""The timeouts among which somebody would choose one."""
KNATIVE_S = 60.0
"""Knative's default: nothing in a stable window of 60 s (`stable-window`, no `scale-to-zero-pod-retention-period`)."""

Weights = tuple[float, float]
WEIGHTS = (WEIGHT, OTHERS)
"""What the two parts of the base are worth."""


class Fixed:
    """One timeout, always."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return it."""
        return self._timeout

    def silence(self, gap_s: float) -> None:
        """Learn nothing."""

    def woke(self, waited_s: float) -> None:
        """Learn nothing."""


class KubeAI(Fixed):
    """KubeAI's rule by its defaults: every 10 s it looks at what is active, requests that wait for a start included.

    A model goes at the fourth look in a row whose last 60 saw nothing; a request that comes and ends between two
    looks is not seen, but starts a model all the same. As in its source of October 2025 (f442a2c):
    `internal/modelautoscaler/autoscaler.go`, `internal/modelclient/scale.go` (the looks in a row),
    `internal/modelproxy/handler.go` (what counts), `internal/config/system.go`; the defaults are those of
    `charts/kubeai/values.yaml` (`interval`, `timeWindow`) and `api/k8s/v1/model_types.go` (`scaleDownDelaySeconds`).
    """

    INTERVAL_S, WINDOW_S, DELAY_S = 10.0, 600.0, 30.0

    def __init__(self, load_s: float) -> None:
        super().__init__(self.DELAY_S)
        self._load_s, self._woke, self._goes_s = load_s, False, 0.0

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return the time from the end of the busy period until the look that takes the replica away."""
        if self._woke:
            began_s -= self._load_s
            self._goes_s = self._look(began_s) + self.INTERVAL_S + self.DELAY_S
            self._woke = False
        if (seen := self._look(ended_s)) >= began_s:
            self._goes_s = seen + self.WINDOW_S + self.DELAY_S
        return max(self._goes_s - ended_s, 0.0)

    def woke(self, waited_s: float) -> None:
        """Note that the busy period began with a start."""
        self._woke = True

    def _look(self, time_s: float) -> float:
        return math.floor(time_s / self.INTERVAL_S) * self.INTERVAL_S


class Learned:
    """Ours: the operator's own learner."""

    def __init__(self, prior: Prior, load_s: float, prices: Prices, weights: Weights = WEIGHTS) -> None:
        self.learner = Learner(prior, load_s, prices.worth, weights=weights)

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return the timeout of least expected cost."""
        return self.learner.timeout_s

    def silence(self, gap_s: float) -> None:
        """Learn it."""
        self.learner.silence(gap_s)

    def woke(self, waited_s: float) -> None:
        """Learn it."""
        self.learner.woke(waited_s)


MakeRule = Callable[[], Rule]


def silences(arrivals: Arrivals) -> Gaps:
    """Return the silences of an endpoint that never sleeps."""
    gaps, index, times = Gaps(), 0, arrivals.times
    while index < len(times):
        period = busy(arrivals, index, None)
        index = period.following
        if index < len(times):
            gaps.add(times[index] - period.ended_s)
    return gaps


def prior_of(endpoints: Sequence[Arrivals], load_s: float) -> Prior:
    """Return the prior that a trace's endpoints speak for; who waits is heard where silences exceed a cold start."""
    heard = [_Heard(load_s) for _ in endpoints]
    for arrivals, rule in zip(endpoints, heard, strict=True):
        simulate(arrivals, math.inf, load_s, rule)
    waiting = [rule.waited / rule.wakes for rule in heard if rule.wakes]
    return fit([silences(arrivals) for arrivals in endpoints], waiting)


class _Heard(Fixed):
    """Sleep after the length of a cold start, and add up who waited, as multiples of it."""

    def __init__(self, load_s: float) -> None:
        super().__init__(load_s)
        self._load_s, self.waited, self.wakes = load_s, 0.0, 0

    def woke(self, waited_s: float) -> None:
        """Add up."""
        self.waited += waited_s / self._load_s
        self.wakes += 1
