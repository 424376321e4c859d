"""The learned timeout of an endpoint, with the numbers that it follows from."""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.scalars import SECOND, format_duration
from zerotide.api.wording import counted
from zerotide.scaling.learning.choice import expect
from zerotide.scaling.learning.learner import Learner
from zerotide.scaling.learning.memory import written

ENOUGH = 5
"""Silences before what was learned holds; until then the timeout of the spec does."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A timeout in microseconds, why, and what must be kept over a restart."""

    timeout_us: int
    message: str
    silences: int
    history: str
    after_wakes: str
    waiting: float
    wakes: int


def learned(learner: Learner, given_us: int) -> Learned:
    """Return the timeout that holds now; `given_us` is that of the spec."""
    gaps, waiting = learner.gaps, learner.waiting
    silences, given = int(gaps.seen), format_duration(given_us)
    kept = written(gaps), written(learner.after_wakes)
    if silences < ENOUGH:
        message = f"{counted(silences, 'silence')} seen; {given} holds until there are {ENOUGH}"
        return Learned(given_us, message, silences, *kept, waiting.mean, waiting.wakes)
    choice = learner.choice
    timeout_us = int(learner.timeout_s * SECOND)
    ours = expect(learner.belief, choice.break_even_s, timeout_us / SECOND)
    theirs = expect(learner.belief, choice.break_even_s, given_us / SECOND)
    message = (
        f"after {counted(silences, 'silence')}: a cold start counts as {_seconds(choice.break_even_s)} of an idle "
        f"replica ({_seconds(learner.cold_s)}, {learner.paid:.0%} of it paid in any case, in which {waiting.mean:.1f} "
        f"requests wait); {ours.cold_share:.0%} of silences{' after a wake' if learner.woken else ''} end in one and "
        f"{_seconds(ours.idle_s)} are idle, together "
        f"{_seconds(ours.cost_s)} for each silence; under {given} it would be {_seconds(theirs.cost_s)}"
    )
    if choice.timeout_s > choice.break_even_s:
        longer = int(learner.belief.longer_than(choice.break_even_s))
        message += f"; it is longer than a cold start counts as, since {counted(longer, 'silence')} tell how such end"
    return Learned(timeout_us, message, silences, *kept, waiting.mean, waiting.wakes)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
