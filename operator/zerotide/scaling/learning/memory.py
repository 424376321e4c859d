"""What is kept of what was learned, as text: `bin:count` pairs, bounded because there are so many bins and no more."""

from __future__ import annotations

import re

from zerotide.scaling.learning.gaps import Gaps

LONGEST = 2_048
_PAIR = re.compile(r"([0-9]{1,3}):([0-9]{1,4})", re.ASCII)


def written(gaps: Gaps) -> str:
    """Return the silences as text."""
    return " ".join(f"{index}:{count:.0f}" for index, count in gaps.filled())


def read(text: str) -> Gaps:
    """Return the silences of a text; what is no pair was not written by us and counts as nothing."""
    pairs = (_PAIR.fullmatch(word) for word in text.split())
    return Gaps((int(pair[1]), float(pair[2])) for pair in pairs if pair is not None)
