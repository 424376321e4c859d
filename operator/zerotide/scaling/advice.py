"""What an endpoint's own requests say about how it should scale: other settings replayed on them, and priced.

Pure. Nothing is held out here: whoever is advised has no other history, so the advice says how much of it there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from zerotide.api.scalars import SECOND, format_duration
from zerotide.scaling.hours import History, Hours, find
from zerotide.scaling.learning.explain import learned as explain
from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.rules import Fixed, Learned, silences
from zerotide.scaling.replay.simulate import Outcome, Prices, simulate
from zerotide.scaling.windows import Windows, replay

TIMEOUTS_S = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900, 1_200, 1_800, 3_600, 7_200, 21_600, 86_400)
DAY_S = 86_400.0
ENOUGH_SILENCES, ENOUGH_S, ENOUGH_FOR_WINDOW_S = 20, DAY_S, 7 * DAY_S
"""Below these, chance would advise: silences and time in all, and time before a window is looked for."""
WORTH_IT = 0.95
"""A window must cost at most this share of what the best timeout alone costs, for it was chosen among hundreds."""
NOTICEABLE = 0.995
"""What costs more than this share of what the present setting costs is not worth a change."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to scale, and what it would have come to; `kept` replicas never sleep."""

    name: str
    outcome: Outcome
    timeout_s: float = 0.0
    learned: bool = False
    hours: Hours | None = None
    windows: Windows | None = None
    """Those of the spec."""
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """All options and the cheapest; `too_little` says why there is no advice, empty where there is.

    `explained` is what the learned policy takes at the end of the history, and the numbers that it follows from.
    """

    present: Option
    always_on: Option
    options: tuple[Option, ...]
    best: Option
    too_little: str = ""
    explained: str = ""

    def price_of_avoided(self, prices: Prices) -> float | None:
        """Return the dollars of replicas for each cold start that the best avoids, None where it avoids none."""
        avoided = self.present.outcome.cold_starts - self.best.outcome.cold_starts
        if avoided <= 0:
            return None
        return prices.gpu * (self.best.outcome.gpu_s - self.present.outcome.gpu_s) / avoided


def advise(history: History, cold_s: float, prices: Prices, present: Option, zone: str = "UTC") -> Advice:
    """Return what other settings would have come to on an endpoint's history."""
    arrivals, span_s = history.arrivals, history.span_s
    fixed = [Option(f"timeout {span(t)}", simulate(arrivals, span_s, cold_s, Fixed(t)), float(t)) for t in TIMEOUTS_S]
    rule = Learned(Prior(), cold_s, prices)
    learned = Option("learned", simulate(arrivals, span_s, cold_s, rule), learned=True)
    always = Option("always on", simulate(arrivals, span_s, cold_s, Fixed(math.inf)), math.inf, kept=1)
    best_fixed = min(fixed, key=lambda option: option.outcome.cost(prices))
    now = _replayed(present, history, cold_s, prices, (learned, always))
    options = [now, best_fixed, learned]
    too_little = _too_little(history)
    if not too_little and span_s >= ENOUGH_FOR_WINDOW_S:
        hours, beside_s = find(history, cold_s, prices, best_fixed.timeout_s, zone)
        outcome = replay(history, cold_s, hours, Fixed(beside_s))
        window = Option(f"{hours}, else timeout {span(beside_s)}", outcome, beside_s, hours=hours)
        if window.outcome.cost(prices) <= WORTH_IT * best_fixed.outcome.cost(prices):
            options.append(window)
    best = min((*options, always), key=lambda option: option.outcome.cost(prices))
    if best.outcome.cost(prices) > NOTICEABLE * now.outcome.cost(prices):
        best = now
    return Advice(now, always, tuple(options), best, too_little, _explained(rule, present.timeout_s))


def _explained(rule: Learned, given_s: float) -> str:
    """Return what a rule learned, in the words of the status."""
    found = explain(rule.learner, int(given_s * SECOND))
    return f"{format_duration(found.timeout_us)}, {found.message}"


def _replayed(present: Option, history: History, cold_s: float, prices: Prices, tried: tuple[Option, Option]) -> Option:
    """Return what the present setting would have come to; `tried` are the learned policy and never to sleep."""
    learned, always = tried
    if present.kept:
        return replace(present, name=f"now: {always.name}", outcome=always.outcome)
    beside = learned.name if present.learned else f"timeout {span(present.timeout_s)}"
    if present.windows is not None:
        rule = Learned(Prior(), cold_s, prices) if present.learned else Fixed(present.timeout_s)
        outcome = replay(history, cold_s, present.windows, rule)
        return replace(present, name=f"now: schedules, else {beside}", outcome=outcome)
    if present.learned:
        return replace(present, name=f"now: {beside}", outcome=learned.outcome)
    outcome = simulate(history.arrivals, history.span_s, cold_s, Fixed(present.timeout_s))
    return replace(present, name=f"now: {beside}", outcome=outcome)


def _too_little(history: History) -> str:
    seen = int(silences(history.arrivals).seen)
    if seen >= ENOUGH_SILENCES and history.span_s >= ENOUGH_S:
        return ""
    since = datetime.fromtimestamp(history.begin_s, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        f"{len(history.arrivals.times)} requests with {seen} silences between them since {since} UTC are too little "
        f"for advice: it takes {ENOUGH_SILENCES} silences and a day"
    )


def span(seconds: float) -> str:
    """Return a length of time as the API writes it, in its largest whole unit."""
    whole = round(seconds)
    for unit, size in (("h", 3_600), ("m", 60)):
        if whole % size == 0 and whole:
            return f"{whole // size}{unit}"
    return f"{whole}s"
