"""Tell the runs of a model's container apart: when each started, could first serve, and exited.

Stamps have whole seconds, and the kubelet restarts a container that exits for the first time at once, so one run often
ends in the second in which the next one starts: an exit belongs to the run of its number, and to one run alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Run(NamedTuple):
    """One run of the model's container; what never happened, or is not known, is None."""

    number: int
    start_us: int
    ready_us: int | None
    exit_us: int | None


UNSEEN = -1
"""The number of a run that nobody saw start."""
Numbered = tuple[int, int]
"""An instant, and the number of the run that it is of."""


def runs_of(
    started: Sequence[Numbered], exited: Sequence[Numbered], ready: Sequence[int], busy: Sequence[int]
) -> list[Run]:
    """Pair starts with exits and with the first proof of service: a Ready condition, or a request that was begun.

    All are in order; `busy` are the instants at which requests were begun.
    """
    served = sorted([*ready, *busy]) if busy else ready
    if not started:
        return [Run(0, served[0], served[0], None)] if served else []
    if len(started) == 1 and not exited and not busy:
        ((start, number),) = started
        return [Run(number, start, max(ready[0], start) if ready else None, None)]
    left, found = list(exited), list[Run]()
    for place, (start, number) in enumerate(started):
        until = started[place + 1][0] if place + 1 < len(started) else None
        exit_us = _exit(left, start, until, number)
        # Proof that is older than the first start comes from another clock: it belongs to the first run.
        proofs = (t for t in served if (not place or t >= start) and _before(t, until))
        first = next((t for t in proofs if exit_us is None or t <= exit_us), None)
        found.append(Run(number, start, None if first is None else max(first, start), exit_us))
        if exit_us is not None:
            # A pod that turned ready after an exit had a run that nobody saw start. A request proves no such thing:
            # its clock is finer, so that one which the exit cut seems to have begun after it.
            again = next((t for t in ready if t > exit_us and _before(t, until)), None)
            found += [] if again is None else [Run(UNSEEN, again, again, None)]
    return found


def missed(runs: Sequence[Run]) -> bool:
    """Tell whether there were runs, or ends of them, that nobody saw, so that phases between are not proved."""
    if len(runs) < 2:
        return bool(runs) and runs[0].number != 0
    numbers = {run.number for run in runs}
    return (
        UNSEEN in numbers
        or len(numbers) <= max(numbers, default=-1)
        or any(one.exit_us is None and one.start_us < other.start_us for one, other in pairwise(runs))
    )


def _exit(left: list[Numbered], start_us: int, until_us: int | None, number: int) -> int | None:
    """Take the exit of a run from those that are left."""
    for place, (t_us, of) in enumerate(left):
        if of == number and t_us >= start_us and (until_us is None or t_us <= until_us):
            return left.pop(place)[0]
    return None


def _before(t_us: int, until_us: int | None) -> bool:
    return until_us is None or t_us < until_us
