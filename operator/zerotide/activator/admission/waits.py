"""For how long a request may wait, and in what hurry it is, by what it says of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from zerotide.api.errors import ErrorCode, Rejection

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s?", re.ASCII)

CLIENT_MARGIN = 5.0
"""How much earlier than a client's own timeout an answer is sent."""
SHORTEST = 1.0
"""Below this a client's announced timeout leaves no time to wait at all; it is taken for this long."""


def longest_hold(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Return the seconds that a request may be held: infinity where it does not say.

    Raises invalid_request where it says something that is no time.
    """
    hold = math.inf
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"prefer":
            match = _WAIT.search(text)
            if match is not None:
                hold = min(hold, float(match[1]))
        elif name == b"x-scale-up-timeout":
            hold = min(hold, _seconds("X-Scale-Up-Timeout", text))
        elif name == b"x-request-timeout":
            hold = min(hold, _seconds("X-Request-Timeout", text))
        elif name == b"x-stainless-read-timeout":
            announced = _SECONDS.fullmatch(text)
            if announced is not None and float(announced[1]) > 0:
                hold = min(hold, max(float(announced[1]) - CLIENT_MARGIN, SHORTEST))
    return hold


def is_batch(priority: str) -> bool:
    """Tell whether a request lets those in a hurry go first, by its X-Zerotide-Priority.

    Raises invalid_request where that is neither `interactive`, `batch` nor absent.
    """
    text = priority.strip().lower()
    if text in ("", "interactive"):
        return False
    if text != "batch":
        raise Rejection(ErrorCode.INVALID_REQUEST, "X-Zerotide-Priority must be interactive or batch")
    return True


def _seconds(header: str, text: str) -> float:
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise Rejection(ErrorCode.INVALID_REQUEST, f"{header} must be a number of seconds, such as 30")
    return float(match[1])
