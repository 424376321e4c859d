"""One endpoint's learner: its silences, how many wait when it is cold, and the timeout that follows."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.scaling.learning.base import OTHERS, WEIGHT, base_of
from zerotide.scaling.learning.choice import Belief, Choice, choose
from zerotide.scaling.learning.gaps import Gaps
from zerotide.scaling.learning.prior import Prior

SHORTEST_S, LONGEST_S = 0.25, 86_400.0
"""Between two reports of an activator, on average, and what a timeout of the spec may be."""
_WAKES, _UNSEEN = 18, 8
_LEAST_COLD_S = 0.1


@dataclass(slots=True)
class Waiting:
    """The mean over the last wakes of all that waited, as a multiple of the first one's wait."""

    mean: float = 1.0
    wakes: int = 0

    def add(self, multiple: float) -> None:
        """Take in one wake; what was believed before the first counts as eight."""
        self.wakes = min(self.wakes + 1, _WAKES)
        self.mean += (max(multiple, 1.0) - self.mean) / (self.wakes + _UNSEEN)


class Learner:
    """Learn online, and choose anew when there is enough news; `worth` is idle seconds per second of waiting."""

    def __init__(
        self,
        prior: Prior,
        cold_s: float,
        worth: float,
        *,
        gaps: Gaps | None = None,
        after_wakes: Gaps | None = None,
        waiting: Waiting | None = None,
        weights: tuple[float, float] = (WEIGHT, OTHERS),
    ) -> None:
        self.prior, self.cold_s, self.worth, self._weights = prior, max(cold_s, _LEAST_COLD_S), worth, weights
        self.gaps, self.after_wakes = gaps or Gaps(), after_wakes or Gaps()
        self.waiting = waiting or Waiting(prior.waiting)
        self._rate, self._again = 0.0, 1.0
        self.woken = False
        """Whether the next silence is the first after a wake."""
        self._choices: dict[bool, tuple[Choice, int]] = {}
        self._news = 0

    @property
    def worst_s(self) -> float:
        """Return what a cold start costs at most: its own GPU-seconds, and the waiting of all that come meanwhile."""
        return self.cold_s * (1 + self.worth * self.waiting.mean)

    @property
    def paid(self) -> float:
        """Return which share of a cold start's time would be paid for without it, too.

        While a replica starts no silence is paid for, so each second that passes saves what a second costs in the
        mean (the law of renewals); and where a burst follows the wake, a replica that was awake stays as long.
        """
        return 1.0 - self._again * (1.0 - self._rate)

    @property
    def break_even_s(self) -> float:
        """Return what a cold start costs beyond what the time that it takes costs anyway."""
        return self.worst_s - self.cold_s * self.paid

    @property
    def belief(self) -> Belief:
        """Return what is believed of the next silence."""
        kind = self.after_wakes if self.woken else None
        return Belief(base_of(self.prior, *self._weights), self.gaps, kind)

    @property
    def choice(self) -> Choice:
        """Return the timeout that is best by now; a long history is looked at again after a twentieth more."""
        known = self._choices.get(self.woken)
        if known is None or self._news >= known[1]:
            seen = self.after_wakes.seen if self.woken else self.gaps.seen
            known = (self._chosen(), self._news + min(int(seen) // 20, 20) + 1)
            self._choices[self.woken] = known
        return known[0]

    @property
    def timeout_s(self) -> float:
        """Return the timeout of the choice, within what can be kept."""
        return min(max(self.choice.timeout_s, SHORTEST_S), LONGEST_S)

    def price(self, prior: Prior, cold_s: float, worth: float) -> None:
        """Take over what is known now of other endpoints, of cold starts and of the worth of waiting."""
        cold_s = max(cold_s, _LEAST_COLD_S)
        if (prior, cold_s, worth) != (self.prior, self.cold_s, self.worth):
            self.prior, self.cold_s, self.worth = prior, cold_s, worth
            self._choices.clear()
            if not self.waiting.wakes:
                self.waiting.mean = prior.waiting

    def silence(self, gap_s: float) -> None:
        """Learn of a silence that ended."""
        self.gaps.add(gap_s)
        if self.woken:
            self.after_wakes.add(gap_s)
        self.woken = False
        self._news += 1

    def woke(self, waited_s: float) -> None:
        """Learn how long all the requests together waited for a cold start."""
        self.waiting.add(waited_s / self.cold_s)
        self.woken = True

    def lost(self) -> None:
        """Take in that the silence that is going on, or comes, is not heard to its end."""
        self.woken = False

    def _chosen(self) -> Choice:
        choice = choose(self.belief, self.break_even_s)
        if self.woken:
            self._again = choice.cold_share
        elif self.gaps.seen:
            cost = choice.idle_s + choice.cold_share * self.worst_s
            time = self.gaps.total_s / self.gaps.seen + choice.cold_share * self.cold_s
            self._rate = min(1.0, cost / time) if time else 1.0
        return choice
