"""Made-up traces, each a kind of endpoint that people have: none of them is measured, all are repeatable."""

from __future__ import annotations

import math
from collections.abc import Callable

from zerotide.scaling.replay.trace import Arrivals, Trace, Uniform

DAY_S = 86_400.0
HOUR_S = 3_600.0
Maker = Callable[["Dice", float], list[float]]


class Dice:
    """The distributions that the traces are made of, drawn from one source."""

    def __init__(self, uniform: Uniform) -> None:
        self.uniform = uniform.random

    def between(self, low: float, high: float) -> float:
        """Draw evenly."""
        return low + (high - low) * self.uniform()

    def magnitude(self, low: float, high: float) -> float:
        """Draw so that each order of magnitude is as likely as the next."""
        return float(low * (high / low) ** self.uniform())

    def exponential(self, mean: float) -> float:
        """Draw the time to the next of events that know nothing of each other."""
        return -math.log(1 - self.uniform()) * mean

    def log_normal(self, median: float, sigma: float) -> float:
        """Draw what is a product of many small things."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return median * math.exp(sigma * radius * math.cos(2 * math.pi * self.uniform()))

    def pareto(self, least: float, shape: float) -> float:
        """Draw from a heavy tail."""
        return float(least * (1 - self.uniform()) ** (-1 / shape))

    def one_of(self, values: tuple[int, ...]) -> int:
        """Draw one."""
        return values[int(self.uniform() * len(values))]


def poisson(dice: Dice, end_s: float) -> list[float]:
    """Come at one rate each, from two a minute to one in two hours."""
    mean, time, times = dice.magnitude(30, 7_200), 0.0, []
    while (time := time + dice.exponential(mean)) < end_s:
        times.append(time)
    return times


def diurnal(dice: Dice, end_s: float) -> list[float]:
    """Come in sessions of people, whose number follows the hour, or office hours of weekdays."""
    office = dice.uniform() < 0.5
    between, time, times = HOUR_S / dice.magnitude(2, 30), 0.0, []
    while (time := time + dice.exponential(between)) < end_s:
        day, hour = divmod(time / HOUR_S, 24)
        if office:
            share = 1.0 if 8 <= hour < 18 and day % 7 < 5 else 0.03
        else:
            share = 0.5 - 0.5 * math.cos(2 * math.pi * (hour - 2) / 24)
        if dice.uniform() < share:
            times += session(dice, time, end_s)
    return sorted(times)


def session(dice: Dice, time: float, end_s: float) -> list[float]:
    """Ask a few times, as one person does who reads the answers."""
    times = []
    for _ in range(1 + int(dice.exponential(8))):
        if time < end_s:
            times.append(time)
        time += dice.log_normal(25, 1.0)
    return times


def on_off(dice: Dice, end_s: float) -> list[float]:
    """Come at one rate while something runs, and not at all while it does not."""
    on, off, between = dice.magnitude(300, 3_600), dice.magnitude(900, 20_000), dice.magnitude(5, 120)
    time, times = 0.0, []
    while time < end_s:
        until = time + dice.exponential(on)
        while (time := time + dice.exponential(between)) < min(until, end_s):
            times.append(time)
        time = until + dice.exponential(off)
    return times


def pareto(dice: Dice, end_s: float) -> list[float]:
    """Come after silences with a heavy tail."""
    shape, least, time, times = dice.between(1.1, 1.8), dice.magnitude(5, 120), 0.0, []
    while (time := time + dice.pareto(least, shape)) < end_s:
        times.append(time)
    return times


def timer(dice: Dice, end_s: float) -> list[float]:
    """Come by the clock, one to three at a time, up to 3 % late."""
    period = dice.one_of((60, 120, 300, 600, 900, 1_800, 3_600))
    time, times = dice.uniform() * period, []
    while time < end_s:
        request = time + dice.between(0, 0.03) * period
        for _ in range(dice.one_of((1, 1, 2, 3))):
            if request < end_s:
                times.append(request)
            request += dice.between(0.5, 3)
        time += period
    return sorted(times)


KINDS: dict[str, tuple[Maker, float]] = {
    "poisson": (poisson, 6),
    "diurnal": (diurnal, 9),
    "on-off": (on_off, 6),
    "pareto": (pareto, 6),
    "timer": (timer, 6),
}
"""How each kind is made, and for how many days."""


def make(kind: str, uniform: Uniform, endpoints: int = 12) -> Trace:
    """Return a trace of one of KINDS."""
    maker, days = KINDS[kind]
    dice, made = Dice(uniform), []
    for _ in range(endpoints):
        times = maker(dice, days * DAY_S)
        made.append(Arrivals(tuple(times), tuple(min(60.0, dice.log_normal(1.5, 0.8)) for _ in times)))
    return Trace(kind, 0.0, days * DAY_S, tuple(made))
