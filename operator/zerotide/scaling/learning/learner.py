"""One endpoint's learner: its silences, how many wait when it is cold, and the timeout that follows."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.scaling.learning.choice import WEIGHT, Choice, choose
from zerotide.scaling.learning.gaps import Gaps
from zerotide.scaling.learning.prior import Prior

SHORTEST_S, LONGEST_S = 1.0, 86_400.0
"""What a timeout of the spec may be, and so a learned one: a person's next request is not to meet a cold start."""
_WAKES = 20
_LEAST_COLD_S = 0.1


@dataclass(slots=True)
class Waiting:
    """The mean over the last wakes of all that waited, as a multiple of the first one's wait."""

    mean: float = 1.0
    wakes: int = 0

    def add(self, multiple: float) -> None:
        """Take in one wake; the first request alone is 1, which also counts as two wakes before the first."""
        self.wakes = min(self.wakes + 1, _WAKES - 2)
        self.mean += (max(multiple, 1.0) - self.mean) / (self.wakes + 2)


class Learner:
    """Learn online, and choose anew when there is enough news; `worth` is idle seconds per second of waiting."""

    def __init__(
        self,
        prior: Prior,
        cold_s: float,
        worth: float,
        *,
        gaps: Gaps | None = None,
        waiting: Waiting | None = None,
        weight: float = WEIGHT,
    ) -> None:
        self.prior, self.cold_s, self.worth, self._weight = prior, max(cold_s, _LEAST_COLD_S), worth, weight
        self.gaps = gaps or Gaps()
        self.waiting = waiting or Waiting()
        self._choice: Choice | None = None
        self._stale_in = 0

    @property
    def break_even_s(self) -> float:
        """Return what a cold start costs: its own GPU-seconds, and the waiting of all that come meanwhile."""
        return self.cold_s * (1 + self.worth * self.waiting.mean)

    @property
    def choice(self) -> Choice:
        """Return the timeout that is best by now; a long history is looked at again after a twentieth more."""
        if self._choice is None or self._stale_in <= 0:
            self._choice = choose(self.gaps, self.prior, self.break_even_s, self._weight)
            self._stale_in = min(int(self.gaps.seen) // 20, 20) + 1
        return self._choice

    @property
    def timeout_s(self) -> float:
        """Return the timeout of the choice, within the bounds that the API sets for any."""
        return min(max(self.choice.timeout_s, SHORTEST_S), LONGEST_S)

    def price(self, prior: Prior, cold_s: float, worth: float) -> None:
        """Take over what is known now of other endpoints, of cold starts and of the worth of waiting."""
        cold_s = max(cold_s, _LEAST_COLD_S)
        if (prior, cold_s, worth) != (self.prior, self.cold_s, self.worth):
            self.prior, self.cold_s, self.worth, self._choice = prior, cold_s, worth, None

    def silence(self, gap_s: float) -> None:
        """Learn of a silence that ended."""
        self.gaps.add(gap_s)
        self._stale_in -= 1

    def woke(self, waited_s: float) -> None:
        """Learn how long all the requests together waited for a cold start."""
        self.waiting.add(waited_s / self.cold_s)
