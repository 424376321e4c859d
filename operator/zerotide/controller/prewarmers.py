"""The habits of endpoints with `prewarm.mode` DryRun or Enabled: fed by demand, kept in the status over a restart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zerotide.api.endpoint import InferenceEndpoint, PrewarmOpening, Status
from zerotide.api.scalars import HOUR, SECOND, parse_duration, parse_time
from zerotide.controller.learners import cold_s
from zerotide.scaling.demand import Load
from zerotide.scaling.prewarm.account import DAY, Account, step
from zerotide.scaling.prewarm.habits import Expected, Habits, Prices, expected, read
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.schedules import LONGEST_LEAD_US, floor_of


@dataclass(slots=True)
class Keeper:
    """What is remembered of one endpoint, known by its uid; `quiet_us` is since when nothing was asked."""

    uid: str
    habits: Habits
    account: Account = field(default_factory=Account)
    quiet_us: int | None = None


class Prewarmers:
    """Per endpoint its habits; `worth` is how many idle seconds of a replica one second of a request's waiting is."""

    def __init__(self, worth: float) -> None:
        self._worth = worth
        self._keepers: dict[str, Keeper] = {}

    def observe(self, endpoint: InferenceEndpoint, load: Load, now_us: int) -> None:
        """Take in the load as it is now; a silence during which a report was missing teaches nothing."""
        keeper = self._keeper(endpoint, now_us)
        if keeper is None:
            return
        if load.missing:
            keeper.quiet_us = None
            return
        came_us = load.last_request_us
        timeout_us = endpoint.spec.scaling.idle.timeout.us
        if keeper.quiet_us is not None and came_us - keeper.quiet_us >= timeout_us:
            keeper.habits = keeper.habits.woken(came_us)
        keeper.quiet_us = None if load.active else came_us or None

    def look(self, endpoint: InferenceEndpoint, load: Load, now_us: int, idle_us: int = 0) -> Prewarmed | None:
        """Return what is to be done now, None where it is disabled; `idle_us` is a timeout in place of the spec's."""
        keeper = self._keeper(endpoint, now_us)
        if keeper is None:
            return None
        status, scaling = endpoint.status, endpoint.spec.scaling
        prices = Prices(
            _lead_us(status), int(cold_s(status) * self._worth * SECOND), idle_us or scaling.idle.timeout.us
        )
        coming = expected(keeper.habits, prices, now_us)
        asleep = not status.desired_replicas and not load.active and not endpoint.spec.suspend
        budget_us, enabled = scaling.prewarm.budget.us, scaling.prewarm.mode == "Enabled"
        stays = enabled and keeper.account.opening is not None and _kept_by_it(endpoint, now_us)
        last_us = load.last_request_us
        keeper.account = step(keeper.account, coming, budget_us, last_us, asleep, now_us, stays=stays)
        return Prewarmed(enabled, budget_us, keeper.habits, keeper.account, coming)

    def stepped(self, step_us: int) -> None:
        """Move the silences along with a clock that was set: nobody was quiet for as long."""
        for keeper in self._keepers.values():
            keeper.quiet_us = None if keeper.quiet_us is None else keeper.quiet_us + step_us

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        self._keepers.pop(key, None)

    def _keeper(self, endpoint: InferenceEndpoint, now_us: int) -> Keeper | None:
        key, uid = endpoint.key, endpoint.metadata.uid
        if endpoint.spec.scaling.prewarm.mode == "Disabled":
            self._keepers.pop(key, None)
            return None
        keeper = self._keepers.get(key)
        if keeper is None or keeper.uid != uid:
            keeper = self._keepers[key] = _remembered(uid, endpoint.status, now_us)
        return keeper


def _kept_by_it(endpoint: InferenceEndpoint, now_us: int) -> bool:
    """Tell whether the replicas that are there have nothing else that keeps them."""
    scaling = endpoint.spec.scaling
    kept = scaling.pinned_replicas or floor_of(scaling, _lead_us(endpoint.status), now_us).replicas
    return bool(endpoint.status.desired_replicas) and not kept


def _lead_us(status: Status) -> int:
    known = status.cold_starts.p90 if status.cold_starts else None
    lead_us = parse_duration(known) if known else int(cold_s(status) * SECOND)
    return min(lead_us, LONGEST_LEAD_US)


def _remembered(uid: str, status: Status, now_us: int) -> Keeper:
    known = status.prewarm
    if known is None:
        return Keeper(uid, Habits(now_us))
    account = Account(
        day=parse_time(known.spent_day) // DAY,
        spent_us=parse_duration(known.spent),
        met=known.met,
        missed=known.missed,
        saved_us=parse_duration(known.saved),
        opened_us=parse_time(known.opening.opened_time) if known.opening else 0,
        opening=_expected(known.opening) if known.opening else None,
        newest_us=parse_time(known.opened_for) if known.opened_for else 0,
    )
    newest = parse_time(known.newest) // HOUR if known.newest else 0
    return Keeper(uid, replace(read(known.history, parse_time(known.since)), newest=newest), account)


def _expected(opening: PrewarmOpening) -> Expected:
    """Return what an opening that goes on was made for; how likely that was matters no more."""
    start_us, most_us = parse_time(opening.start_time), parse_duration(opening.set_aside)
    from_us = start_us - parse_duration(opening.lead)
    return Expected(from_us, start_us, parse_time(opening.end_time), 0, 0, most_us)
