"""What prewarming has cost, and whether it may go on: a budget of a replica's time for each day.

The most that an opening can cost is taken off the budget when it begins, and what is left of that given back when a
request comes: so whoever dies in between has spent too much, never too little. Once that is used up the replica must
sleep; while it may not, because somebody says nothing of its demand, the time is spent as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zerotide.api.scalars import HOUR
from zerotide.scaling.prewarm.habits import Expected

DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Account:
    """The day, what of its budget is spent, and how often a replica was there in time, or in vain."""

    day: int = 0
    spent_us: int = 0
    met: int = 0
    missed: int = 0
    saved_us: int = 0
    """Time that the first requests would have waited."""
    opened_us: int = 0
    """When the opening began that is going on, 0 where none is."""
    opening: Expected | None = None
    newest_us: int = 0
    """For when the newest opening expected requests: no opening is made twice."""

    @property
    def over_us(self) -> int | None:
        """Return when the opening is over if nobody comes, None where none is going on."""
        return self.opened_us + self.opening.most_us if self.opening else None

    def keeps(self, now_us: int) -> bool:
        """Tell whether a replica is kept now."""
        return self.opening is not None and now_us < self.opening.end_us


def step(
    account: Account,
    expected: Expected | None,
    budget_us: int,
    last_request_us: int,
    asleep: bool,
    now_us: int,
    *,
    stays: bool = False,
) -> Account:
    """Return the account after a look: an opening ends with a request or its time, and begins where one is due.

    `stays` says that the opening's replica is there yet; what it takes beyond its time is spent.
    """
    account = _new_day(_by_now(account, now_us), now_us)
    opening = account.opening
    if opening is not None and last_request_us >= account.opened_us:
        used_us = min(last_request_us - account.opened_us, opening.most_us)
        saved_us = account.saved_us + min(used_us, opening.start_us - opening.from_us)
        spent_us = max(0, account.spent_us - (opening.most_us - used_us))
        account = replace(account, spent_us=spent_us, met=account.met + 1, saved_us=saved_us, opening=None, opened_us=0)
    elif opening is not None and stays and now_us >= account.opened_us + opening.most_us:
        more = replace(opening, most_us=now_us - account.opened_us)
        return replace(account, spent_us=account.spent_us + more.most_us - opening.most_us, opening=more)
    elif opening is not None and now_us >= account.opened_us + opening.most_us:
        account = replace(account, missed=account.missed + 1, opening=None, opened_us=0)
    if account.opening is not None or expected is None or not asleep or expected.start_us <= account.newest_us:
        return account
    due, spent_us = expected.from_us <= now_us < expected.end_us, account.spent_us + expected.most_us
    if not due or spent_us > budget_us:
        return account
    return replace(account, spent_us=spent_us, opening=expected, opened_us=now_us, newest_us=expected.start_us)


def _by_now(account: Account, now_us: int) -> Account:
    """Return the account without what a clock that fell has left in a time to come: all would be held until then."""
    if account.opening is not None and now_us < account.opened_us - account.opening.most_us:
        account = replace(account, missed=account.missed + 1, opening=None, opened_us=0)
    # What is due begins within its lead, so a day ahead is no opening's; what was spent stays spent.
    newest_us = account.newest_us if account.newest_us <= now_us + DAY else 0
    return replace(account, day=min(account.day, now_us // DAY + 1), newest_us=newest_us)


def _new_day(account: Account, now_us: int) -> Account:
    day = now_us // DAY
    if day <= account.day:
        return account
    kept_us = account.opening.most_us if account.opening is not None else 0
    return replace(account, day=day, spent_us=kept_us)
