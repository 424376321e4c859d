"""The traces that policies are judged on; each name says what it was made of."""

from __future__ import annotations

import random
from pathlib import Path

from zerotide.cli.arrivals import read_trace
from zerotide.scaling.replay.synthetic import DAY_S, HOUR_S, KINDS, Dice, make, session
from zerotide.scaling.replay.trace import Arrivals, Thinning, Trace, thin, timed

RECORDED = Path(__file__).parent / "azure-llm-2023-code.csv.gz"
THINNINGS = (Thinning(endpoints=10, run=50, seed=1), Thinning(endpoints=30, run=15, seed=2))
FIRST_SEED = 3


def recorded(path: Path = RECORDED) -> list[Trace]:
    """Return the sparse traces that a dense one is thinned to. Raises CliError, InvalidTrace."""
    rows = timed(read_trace(path))
    stem = path.name.partition(".")[0].removesuffix("-llm-2023-code")
    return [thin(f"{stem} {how.endpoints}×{how.run}", rows, how, random.Random(how.seed)) for how in THINNINGS]


def synthetic() -> list[Trace]:
    """Return a made-up trace of each kind."""
    return [make(kind, random.Random(seed)) for seed, kind in enumerate(KINDS, FIRST_SEED)]


def habitual(seed: int = 8, endpoints: int = 12, weeks: int = 6) -> Trace:
    """Return a made-up trace of people who begin at the same hour, nine days of ten, and sometimes at any other."""
    dice, made = Dice(random.Random(seed)), []
    for _ in range(endpoints):
        hours = sorted({dice.one_of(tuple(range(6, 20))) for _ in range(dice.one_of((1, 1, 2)))})
        days, begins = dice.one_of((2, 5, 7)), []
        for day in range(7 * weeks):
            if day % 7 < days:
                begins += [
                    (day * 24 + hour) * HOUR_S + dice.between(-180, 180) for hour in hours if dice.uniform() < 0.9
                ]
            if dice.uniform() < 0.3:
                begins.append(day * DAY_S + dice.uniform() * DAY_S)
        times = sorted(time for begin in begins for time in session(dice, begin, 7 * weeks * DAY_S))
        made.append(Arrivals(tuple(times), tuple(min(60.0, dice.log_normal(1.5, 0.8)) for _ in times)))
    return Trace("habits", 0.0, 7 * weeks * DAY_S, tuple(made))
