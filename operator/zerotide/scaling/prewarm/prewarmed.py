"""What prewarming comes to now: a replica that is kept, when to look again, and the numbers that explain it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zerotide.api.scalars import SECOND, format_duration, format_time
from zerotide.api.wording import counted
from zerotide.scaling.prewarm.account import Account
from zerotide.scaling.prewarm.habits import Expected, Habits
from zerotide.scaling.schedules import By, Floor


@dataclass(frozen=True, slots=True)
class Prewarmed:
    """What is known and done of one endpoint; a dry run keeps no replica."""

    enabled: bool
    budget_us: int
    habits: Habits
    account: Account
    expected: Expected | None

    def beside(self, floor: Floor, now_us: int) -> Floor:
        """Return the floor with what is kept for requests that are expected, where nothing else keeps any."""
        opening, coming = self.account.opening, self.expected
        over_us = self.account.over_us
        times = [floor.until_us, over_us if over_us is not None and now_us < over_us else None]
        times.append(opening.end_us if opening is not None and now_us < opening.end_us else None)
        times.append(coming.from_us if coming is not None and now_us < coming.from_us else None)
        floor = replace(floor, until_us=min((time for time in times if time is not None), default=None))
        if not self.enabled or floor.replicas or floor.by is By.OVERRIDE or not self.account.keeps(now_us):
            return floor
        return replace(floor, replicas=1, by=By.PREWARM, reason="prewarm")

    def exhausted(self, now_us: int) -> bool:
        """Tell whether nobody came in all the time that was set aside, so that the replica must sleep."""
        over_us = self.account.over_us
        return self.enabled and over_us is not None and over_us <= now_us

    @property
    def message(self) -> str:
        """Return what it did, or would have done, and what it foretells."""
        account, would = self.account, "" if self.enabled else "would have "
        done = (
            f"{would}started {counted(account.met + account.missed, 'time')} ahead of requests: {account.met} came, "
            f"which saved {format_duration(account.saved_us)} of waiting, and {account.missed} did not; "
            f"{format_duration(account.spent_us)} of {format_duration(self.budget_us)} spent today"
        )
        coming = self.expected
        if coming is None:
            return f"{done}; no habit is worth a start within a day"
        return (
            f"{done}; next {format_time(coming.from_us // SECOND * SECOND)} for {format_time(coming.start_us)}, as in "
            f"{coming.weeks} of {counted(coming.of, 'week')}"
        )
