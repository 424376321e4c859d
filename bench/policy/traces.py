"""The traces that policies are judged on; each name says what it was made of."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from zerotide.scaling.replay.synthetic import KINDS, make
from zerotide.scaling.replay.trace import Thinning, Trace, read, thin

RECORDED = Path(__file__).parent / "azure-llm-2023-code.csv.gz"
THINNINGS = (Thinning(endpoints=10, run=50, seed=1), Thinning(endpoints=30, run=15, seed=2))
FIRST_SEED = 3


def recorded(path: Path = RECORDED) -> list[Trace]:
    """Return the sparse traces that a dense one is thinned to. Raises InvalidTrace."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    rows = read(text.splitlines())
    stem = path.name.partition(".")[0].removesuffix("-llm-2023-code")
    return [thin(f"{stem} {how.endpoints}×{how.run}", rows, how, random.Random(how.seed)) for how in THINNINGS]


def synthetic() -> list[Trace]:
    """Return a made-up trace of each kind."""
    return [make(kind, random.Random(seed)) for seed, kind in enumerate(KINDS, FIRST_SEED)]
