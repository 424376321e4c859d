"""Habits of endpoints: who has some, what they are told, what a dry run says, and what survives the operator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.controller.test_process import operator
from tests.reconcile.helpers import raw
from tests.reconcile.world import World
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.controller.prewarmers import Prewarmers
from zerotide.scaling.demand import Load
from zerotide.scaling.prewarm.account import DAY
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.schedules import By, Floor

WEEK = 7 * DAY
MONDAY = int(datetime(2026, 11, 2, 9, 0, tzinfo=UTC).timestamp()) * SECOND
COLD = {"window": 20, "count": 9, "p50": "4m", "p90": "5m"}


def endpoint(mode: str = "Enabled", uid: str = "u-1", **status: Any) -> InferenceEndpoint:
    """Return a sleeping endpoint, whose cold starts take four to five minutes."""
    obj = raw()
    obj["metadata"]["uid"] = uid
    obj["spec"]["scaling"] = {"idle": {"timeout": "5m"}, "prewarm": {"mode": mode}}
    known = {"desiredReplicas": 0, "coldStarts": COLD, **status}
    return InferenceEndpoint.parse({**obj, "status": known})


def quiet(last_us: int, now_us: int) -> Load:
    """Return a load without requests."""
    return Load(0, 0, last_us, last_us, now_us)


def work(prewarmers: Prewarmers, pupil: InferenceEndpoint, weeks: int) -> int:
    """Let requests come at nine on Mondays; return when the last one ended."""
    prewarmers.observe(pupil, quiet(MONDAY - WEEK, MONDAY - HOUR), MONDAY - HOUR)
    last = 0
    for week in range(weeks):
        came = MONDAY + week * WEEK
        prewarmers.observe(pupil, Load(1, 0, came, came, came), came)
        prewarmers.observe(pupil, Load(0, 1, came, came, came), came + SECOND)
        last = came + MINUTE
        prewarmers.observe(pupil, quiet(last, last), last)
    return last


def test_up_at_five_to_nine() -> None:
    """On the fourth Monday, until the request comes."""
    prewarmers, pupil = Prewarmers(7.0), endpoint()
    last, nine = work(prewarmers, pupil, 3), MONDAY + 3 * WEEK
    early = prewarmers.look(pupil, quiet(last, nine - HOUR), nine - HOUR)
    assert early is not None
    floor = early.beside(Floor(0), nine - HOUR)
    assert (floor.replicas, floor.until_us) == (0, nine - 5 * MINUTE)
    due = prewarmers.look(pupil, quiet(last, nine), nine - 5 * MINUTE)
    assert due is not None and due.beside(Floor(0), nine - 5 * MINUTE).by is By.PREWARM
    awake = endpoint(desiredReplicas=1)
    met = prewarmers.look(awake, Load(0, 1, nine, nine, nine), nine + SECOND)
    assert met is not None and met.beside(Floor(0), nine + SECOND).replicas == 0
    assert (met.account.met, met.account.spent_us, met.account.saved_us) == (1, 5 * MINUTE, 5 * MINUTE)


def test_a_dry_run_says_what_would_have_been() -> None:
    """In the same numbers, without a replica."""
    prewarmers, pupil = Prewarmers(7.0), endpoint("DryRun")
    last, nine = work(prewarmers, pupil, 3), MONDAY + 3 * WEEK
    dry = prewarmers.look(pupil, quiet(last, nine), nine - 5 * MINUTE)
    assert dry is not None and dry.beside(Floor(0), nine - 5 * MINUTE).replicas == 0
    missed = prewarmers.look(pupil, quiet(last, nine), nine + 5 * MINUTE)
    assert missed is not None
    assert missed.message == (
        "would have started 1 time ahead of requests: 0 came, which saved 0s of waiting, and 1 did not; "
        "10m of 30m spent today; no habit is worth a start within a day"
    )


def test_only_long_silences_that_were_heard_are_a_habit() -> None:
    """Not requests one after another, nor one after a report was missing."""
    prewarmers, pupil = Prewarmers(7.0), endpoint()
    prewarmers.observe(pupil, quiet(MONDAY, MONDAY), MONDAY)
    for later in (MINUTE, 2 * MINUTE):
        came = MONDAY + later
        prewarmers.observe(pupil, Load(0, 1, came, came, came), came)
        prewarmers.observe(pupil, quiet(came, came), came)
    prewarmers.observe(pupil, Load(missing=("act-0",)), MONDAY + HOUR)
    came = MONDAY + 2 * HOUR
    prewarmers.observe(pupil, Load(0, 1, came, came, came), came)
    told = prewarmers.look(pupil, quiet(came, came), came)
    assert told is not None and not told.habits.hours


def test_who_has_habits_and_who_forgets_them() -> None:
    """A disabled one has none; a namesake begins anew; the next operator goes on with what the status has."""
    prewarmers = Prewarmers(7.0)
    now = work(prewarmers, endpoint(), 3)
    assert prewarmers.look(endpoint("Disabled"), quiet(now, now), now) is None
    anew = prewarmers.look(endpoint(), quiet(now, now), now)
    assert anew is not None and not anew.habits.hours
    kept: dict[str, Any] = {
        "history": "3:4:0:9",
        "since": format_time(now - WEEK),
        "spentDay": format_time(now // DAY * DAY),
    }
    kept |= {"met": 2, "missed": 1, "saved": "3m", "spent": "7m"}
    after = Prewarmers(7.0).look(endpoint(prewarm=kept), quiet(now, now), now)
    assert after is not None and after.habits.written() == "3:4:0:9"
    account = after.account
    assert (account.met, account.missed, account.saved_us, account.spent_us) == (2, 1, 3 * MINUTE, 7 * MINUTE)
    prewarmers.forget(endpoint().key)
    other = prewarmers.look(endpoint(uid="u-2"), quiet(now, now), now)
    assert other is not None and not other.habits.hours


def written(known: Prewarmed | None, now_us: int) -> dict[str, Any]:
    """Return the status that is written of what is known."""
    world = World(now_us=now_us, prewarmed=known)
    world.settle()
    found: dict[str, Any] = world.status["prewarm"]
    return found


def test_an_operator_that_dies_ahead_of_requests_spends_nothing_twice() -> None:
    """The next one keeps the replica until they come, counts them, and opens nothing a second time."""
    pupil = endpoint()
    first, nine = Prewarmers(7.0), MONDAY + 3 * WEEK
    last = work(first, pupil, 3)
    early = nine - 5 * MINUTE
    opened = first.look(pupil, quiet(last, early), early)
    assert opened is not None and opened.account.opening is not None and opened.account.spent_us == 10 * MINUTE

    second, awake = Prewarmers(7.0), endpoint(desiredReplicas=1, prewarm=written(opened, early))
    kept = second.look(awake, quiet(last, nine), nine - MINUTE)
    assert kept is not None and kept.beside(Floor(0), nine - MINUTE).by is By.PREWARM
    assert (kept.account.spent_us, kept.account.over_us) == (10 * MINUTE, early + 10 * MINUTE)
    met = second.look(awake, Load(0, 1, nine, nine, nine), nine + SECOND)
    assert met is not None and (met.account.met, met.account.missed, met.account.spent_us) == (1, 0, 5 * MINUTE)

    third, asleep = Prewarmers(7.0), endpoint(prewarm=written(met, nine + SECOND))
    again = third.look(asleep, quiet(nine, nine + 40 * SECOND), nine + 40 * SECOND)
    assert again is not None and again.account == met.account and again.expected is not None
    assert not again.account.keeps(nine + 40 * SECOND)


def test_a_replica_that_may_not_sleep_yet_spends_on() -> None:
    """Unless something else keeps it by now: then what was set aside is all that it cost."""
    nine = MONDAY + 3 * WEEK
    early, over = nine - 5 * MINUTE, nine + 5 * MINUTE
    office = {"name": "office", "start": "0 9 * * *", "duration": "1h"}
    for schedules, spent, goes_on in (([], 13 * MINUTE, True), ([office], 10 * MINUTE, False)):
        prewarmers, pupil = Prewarmers(7.0), endpoint()
        last = work(prewarmers, pupil, 3)
        opened = prewarmers.look(pupil, quiet(last, early), early)
        assert opened is not None and opened.account.over_us == over
        obj = raw(status={"coldStarts": COLD, "desiredReplicas": 1}, uid="u-1")
        obj["spec"]["scaling"] = {
            "idle": {"timeout": "5m"},
            "prewarm": {"mode": "Enabled"},
            "schedules": schedules,
        }
        late = over + 3 * MINUTE
        known = prewarmers.look(InferenceEndpoint.parse(obj), quiet(last, late), late)
        assert known is not None and known.account.spent_us == spent
        assert (known.account.opening is not None) == known.exhausted(late) == goes_on
        after = prewarmers.look(pupil, quiet(last, late), late + MINUTE)
        assert after is not None and (after.account.missed, after.account.spent_us) == (1, spent)


def test_an_operator_that_dies_within_an_hour_makes_no_habit_of_it() -> None:
    """Requests that ended two silences of one hour are one week, whoever counts them."""
    pupil, now, known = endpoint(), MONDAY, None
    for _ in range(3):
        prewarmers = Prewarmers(7.0)
        prewarmers.observe(pupil, quiet(now - 9 * MINUTE, now - SECOND), now - SECOND)
        prewarmers.observe(pupil, Load(1, 0, now, now, now), now)
        known = prewarmers.look(pupil, Load(1, 0, now, now, now), now)
        pupil = endpoint(prewarm=written(known, now))
        now += 9 * MINUTE
    assert known is not None and [hour.weeks for hour in known.habits.hours.values()] == [1]


def test_who_comes_in_vain_waits_for_the_timeout_that_was_learned() -> None:
    """So that is what is set aside: the budget holds whichever timeout does."""
    prewarmers, pupil = Prewarmers(7.0), endpoint()
    last, nine = work(prewarmers, pupil, 3), MONDAY + 3 * WEEK
    early = nine - 5 * MINUTE
    patient = prewarmers.look(pupil, quiet(last, early), early, HOUR)
    assert patient is not None and patient.account.opening is None, "the budget is half an hour"
    quick = prewarmers.look(pupil, quiet(last, early), early, 30 * SECOND)
    assert quick is not None and quick.account.spent_us == 5 * MINUTE + MINUTE

    made, obj = operator(), raw(status={"coldStarts": COLD, "desiredReplicas": 0})
    obj["spec"]["scaling"] = {"idle": {"policy": "Learned", "timeout": "5m"}, "prewarm": {"mode": "Enabled"}}
    since = {"since": format_time(nine - 9 * WEEK), "spentDay": format_time(nine // DAY * DAY)}
    history = f"{(nine + HOUR // 2) // HOUR % 168}:9:30:30"
    obj["status"] |= {"prewarm": {"history": history, **since}, "idle": {"timeout": "5m", "history": "74:200"}}
    observed = made.reconciler._observe(InferenceEndpoint.parse(obj), early)
    assert observed.learned is not None and observed.learned.timeout_us > 5 * MINUTE
    assert observed.prewarmed is not None and observed.prewarmed.expected is not None
    assert observed.prewarmed.expected.most_us == 5 * MINUTE + observed.learned.timeout_us
