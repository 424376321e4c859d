"""Prewarming replayed: the operator's own habits and budget, beside a fixed idle timeout.

Times of a trace begin on a Thursday at midnight, as the epoch does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zerotide.api.scalars import SECOND
from zerotide.scaling.prewarm.account import Account, step
from zerotide.scaling.prewarm.habits import Habits, expected
from zerotide.scaling.prewarm.habits import Prices as Weighed
from zerotide.scaling.replay.simulate import Outcome, Prices, busy
from zerotide.scaling.replay.trace import Arrivals


@dataclass(slots=True)
class Start:
    """How a silence ended: seconds of a replica before the request, and what of the load it still waits for."""

    load_s: float
    idle_s: float
    waits_s: float


@dataclass(slots=True)
class Ahead:
    """One endpoint under a fixed timeout that prewarms within a budget for each day; 0 never does."""

    load_s: float
    timeout_s: float
    prices: Prices
    budget_s: float
    habits: Habits = field(default_factory=lambda: Habits(0))
    account: Account = field(default_factory=Account)

    def run(self, arrivals: Arrivals, judged_s: float) -> Outcome:
        """Return what it comes to, from the first silence that ends after `judged_s` on."""
        times, index, asleep_s = arrivals.times, 0, 0.0
        sums, quiet_s = Outcome(), 0.0
        while index < len(times):
            came_s = times[index]
            asleep = not index or came_s > asleep_s
            start = self._until(asleep_s, came_s) if asleep else Start(0.0, came_s - quiet_s, 0.0)
            if asleep and index:
                start.idle_s += self.timeout_s
            if came_s - quiet_s >= self.timeout_s:
                self.habits = self.habits.woken(int(came_s * SECOND))
            period = busy(arrivals, index, start.waits_s if start.waits_s else None)
            if came_s >= judged_s:
                sums = Outcome(
                    sums.load_s + start.load_s,
                    sums.active_s + period.ended_s - period.began_s,
                    sums.idle_s + start.idle_s,
                    sums.waited_s + period.waited_s,
                    sums.cold_starts + (start.waits_s > 0),
                )
            index, quiet_s, asleep_s = period.following, period.ended_s, period.ended_s + self.timeout_s
        return sums

    def _until(self, asleep_s: float, came_s: float) -> Start:
        """Return what is spent on replicas that start between falling asleep and the next request."""
        start, now_us, came_us = Start(self.load_s, 0.0, self.load_s), int(asleep_s * SECOND), int(came_s * SECOND)
        worth_us = int(self.load_s * self.prices.worth * SECOND)
        weighed = Weighed(int(self.load_s * SECOND), worth_us, int(self.timeout_s * SECOND))
        budget_us = int(self.budget_s * SECOND)
        while (coming := expected(self.habits, weighed, now_us)) is None or max(coming.from_us, now_us) < came_us:
            if coming is None:
                if (now_us := now_us + 12 * 3_600 * SECOND) >= came_us:
                    break
                continue
            now_us = max(coming.from_us, now_us)
            self.account = step(self.account, coming, budget_us, 0, True, now_us)
            over_us = self.account.over_us
            if over_us is None:
                now_us = coming.end_us
            elif came_us < over_us:
                self.account = step(self.account, None, budget_us, came_us, False, came_us)
                early_s = (came_us - now_us) / SECOND
                return _made(start, self.load_s, early_s)
            else:
                start.load_s += self.load_s
                start.idle_s += (over_us - now_us) / SECOND - self.load_s
                self.account = step(self.account, None, budget_us, 0, False, over_us)
                now_us = over_us
        return start


def _made(start: Start, load_s: float, early_s: float) -> Start:
    """Return a start that was made so much before the request: what is left of it is waited for."""
    return replace(start, idle_s=start.idle_s + max(0.0, early_s - load_s), waits_s=max(0.0, load_s - early_s))
