"""The cheapest that anybody could do who knows all requests, and starts a replica only when one has come, or before.

Exact: after each busy period the replica either sleeps at once or stays until the next request; what follows
depends only on that request and on whether it finds a replica. So the least cost from each such state is found
backwards, over the states that can be reached.
"""

from __future__ import annotations

from zerotide.scaling.replay.simulate import Prices, busy
from zerotide.scaling.replay.trace import Arrivals

State = tuple[int, bool]
"""The next request, and whether it finds the endpoint asleep."""


def optimum(arrivals: Arrivals, load_s: float, prices: Prices, *, ahead: bool = False) -> float:
    """Return the least cost in dollars; an endpoint begins asleep. With `ahead` a start may precede its request."""
    if not arrivals.times:
        return 0.0
    steps: dict[State, tuple[float, float, int]] = {}
    todo: list[State] = [(0, True), (0, False)]
    while todo:
        state = todo.pop()
        if state in steps:
            continue
        steps[state] = _step(arrivals, state, load_s, prices)
        following = steps[state][2]
        if following < len(arrivals.times):
            todo += [(following, True), (following, False)]
    least: dict[State, float] = {}
    for state in sorted(steps, reverse=True):
        cost, ended, following = steps[state]
        if following < len(arrivals.times):
            silence = arrivals.times[following] - ended
            stay = prices.gpu * (min(silence, load_s) if ahead else silence) + least[following, False]
            cost += min(least[following, True], stay)
        least[state] = cost
    return min(least[0, True], prices.gpu * load_s + least[0, False]) if ahead else least[0, True]


def _step(arrivals: Arrivals, state: State, load_s: float, prices: Prices) -> tuple[float, float, int]:
    index, asleep = state
    period = busy(arrivals, index, load_s if asleep else None)
    gpu = period.ended_s - period.began_s + (load_s if asleep else 0.0)
    return prices.gpu * gpu + prices.waiting * period.waited_s, period.ended_s, period.following
