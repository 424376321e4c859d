"""This activator's part of a bound that all activators keep together."""

from __future__ import annotations

from collections.abc import Iterable


def share(total: int, me: str, members: Iterable[str]) -> int:
    """Return my part of `total`: the parts of all members sum to it, and differ by at most one.

    One who is not yet among the members counts himself in.
    """
    names = sorted({*members, me})
    parts, rest = divmod(total, len(names))
    return parts + (1 if names.index(me) < rest else 0)


def share_of_limit(limit: int, me: str, members: Iterable[str]) -> int:
    """Return my part of a limit of concurrency, at least one: a part of zero would never let anything through.

    Limits below the number of activators are exceeded by that.
    """
    return max(share(limit, me, members), 1)
