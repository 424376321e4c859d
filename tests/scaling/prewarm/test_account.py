"""What prewarming costs: never more than its budget, whoever comes or does not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.prewarm.account import DAY, Account, step
from zerotide.scaling.prewarm.habits import Expected, Habits
from zerotide.scaling.prewarm.prewarmed import Prewarmed
from zerotide.scaling.schedules import By, Floor

NOON = 20_000 * DAY + 12 * HOUR
WINDOW = Expected(NOON - 5 * MINUTE, NOON, NOON + 10 * MINUTE, 3, 4, 15 * MINUTE)


def test_a_request_that_comes_gives_back_what_is_left() -> None:
    """It was set aside when the replica started."""
    before = step(Account(), WINDOW, HOUR, 0, True, WINDOW.from_us - 1)
    assert before.opening is None
    opened = step(before, WINDOW, HOUR, 0, True, WINDOW.from_us)
    assert opened.spent_us == 15 * MINUTE and opened.keeps(NOON) and not opened.keeps(WINDOW.end_us)
    met = step(opened, WINDOW, HOUR, NOON + MINUTE, False, NOON + 2 * MINUTE)
    assert (met.met, met.missed, met.spent_us, met.saved_us) == (1, 0, 6 * MINUTE, 5 * MINUTE)
    assert step(met, WINDOW, HOUR, NOON + MINUTE, True, NOON + 9 * MINUTE).opening is None, "no opening twice"


def test_nobody_comes() -> None:
    """All of it is spent; the next one is not begun where it might exceed what is left."""
    opened = step(Account(), WINDOW, 20 * MINUTE, 0, True, NOON)
    missed = step(opened, None, 20 * MINUTE, 0, False, NOON + 15 * MINUTE)
    assert (missed.missed, missed.spent_us, missed.opening) == (1, 15 * MINUTE, None)
    later = replace(WINDOW, from_us=NOON + HOUR, start_us=NOON + HOUR, end_us=NOON + 2 * HOUR)
    assert step(missed, later, 20 * MINUTE, 0, True, later.from_us).opening is None
    assert step(missed, later, 30 * MINUTE, 0, True, later.from_us).opening is not None
    tomorrow = replace(later, from_us=later.from_us + DAY, start_us=later.start_us + DAY, end_us=later.end_us + DAY)
    assert step(missed, tomorrow, 20 * MINUTE, 0, True, tomorrow.from_us).opening is not None


def test_what_goes_on_over_midnight_counts_on_both_days() -> None:
    """All of it is set aside of the new day too, of which it may take most."""
    late = NOON + 12 * HOUR - MINUTE
    window = Expected(late, late + 5 * MINUTE, late + 9 * MINUTE, 3, 4, 15 * MINUTE)
    opened = step(Account(), window, 20 * MINUTE, 0, True, late)
    after = step(opened, window, 20 * MINUTE, 0, False, late + 2 * MINUTE)
    assert after.day == opened.day + 1 and after.spent_us == 15 * MINUTE and after.opening is not None
    over = step(after, None, 20 * MINUTE, 0, False, late + 15 * MINUTE)
    soon = replace(window, from_us=late + HOUR, start_us=late + HOUR, end_us=late + 2 * HOUR)
    assert step(over, soon, 20 * MINUTE, 0, True, late + HOUR).opening is None


def test_who_is_awake_needs_no_start() -> None:
    """Requests came before."""
    assert step(Account(), WINDOW, HOUR, WINDOW.from_us - 1, False, WINDOW.from_us).opening is None


def test_a_dry_run_keeps_nothing_but_tells() -> None:
    """The same account, no floor; an override stands in its place, and other floors make it unnecessary."""
    opened = step(Account(), WINDOW, HOUR, 0, True, WINDOW.from_us)
    real = Prewarmed(True, HOUR, Habits(0), opened, WINDOW)
    floor = real.beside(Floor(0), WINDOW.from_us)
    assert (floor.replicas, floor.by, floor.until_us) == (1, By.PREWARM, WINDOW.end_us - 0 * MINUTE)
    dry = replace(real, enabled=False)
    assert dry.beside(Floor(0), WINDOW.from_us).replicas == 0
    assert dry.message.startswith("would have started 0 times") and "15m of 1h spent today" in dry.message
    assert "in 3 of 4 weeks" in real.message
    assert real.beside(Floor(0, By.OVERRIDE), WINDOW.from_us).replicas == 0
    assert real.beside(Floor(2, By.SCHEDULE), WINDOW.from_us).by is By.SCHEDULE
    assert "no habit" in replace(real, expected=None).message
    asleep = Prewarmed(True, HOUR, Habits(0), Account(), WINDOW)
    assert asleep.beside(Floor(0), WINDOW.from_us - HOUR).until_us == WINDOW.from_us


def test_a_clock_that_fell_holds_nothing_for_long() -> None:
    """Neither a replica, nor the openings to come, nor the budget of the days; a second back changes nothing."""
    opened = step(Account(), WINDOW, 20 * MINUTE, 0, True, NOON)
    assert step(opened, WINDOW, 20 * MINUTE, 0, False, NOON - SECOND) == opened
    fell = step(opened, None, 20 * MINUTE, 0, False, NOON - 30 * DAY)
    assert (fell.opening, fell.missed, fell.spent_us) == (None, 1, 15 * MINUTE)
    ago = 28 * DAY
    earlier = replace(WINDOW, from_us=NOON - ago, start_us=NOON - ago, end_us=NOON - ago + MINUTE)
    assert step(fell, earlier, 20 * MINUTE, 0, True, NOON - ago).opening is not None


class Days(RuleBasedStateMachine):
    """Windows and requests at any time: what replicas cost ahead of requests stays within each day's budget."""

    BUDGET = 40 * MINUTE

    def __init__(self) -> None:
        super().__init__()
        self.now, self.account, self.last = NOON, Account(), 0
        self.window: Expected | None = None
        self.cost: dict[int, int] = {}

    def look(self) -> None:
        """Let the account look, and count a day's cost by hand: a second at a time would be the same."""
        opened = self.account.opening
        begun, over = self.account.opened_us, self.account.over_us
        self.account = step(self.account, self.window, self.BUDGET, self.last, self.account.opening is None, self.now)
        if opened is not None and self.account.opened_us != begun and over is not None:
            end = min(max(self.last, begun), over) if self.last >= begun else over
            for day in range(begun // DAY, end // DAY + 1):
                part = min(end, (day + 1) * DAY) - max(begun, day * DAY)
                self.cost[day] = self.cost.get(day, 0) + part

    @rule(ahead=st.integers(0, 6 * HOUR), length=st.integers(1, HOUR), lead=st.integers(0, HOUR))
    def foretell(self, ahead: int, length: int, lead: int) -> None:
        """Something is expected."""
        start = self.now + ahead
        self.window = Expected(start - lead, start, start + length, 2, 2, lead + length)
        self.look()

    @rule(span=st.integers(1, 9 * HOUR))
    def wait(self, span: int) -> None:
        """Time passes."""
        self.now += span
        self.look()

    @rule()
    def come(self) -> None:
        """A request comes."""
        self.last = self.now
        self.look()

    @invariant()
    def within_budget(self) -> None:
        """On every day."""
        assert all(cost <= self.BUDGET for cost in self.cost.values())
        assert self.account.spent_us <= self.BUDGET


TestDays = Days.TestCase
TestDays.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(spent=st.integers(0, HOUR), days=st.integers(1, 9))
def test_a_day_begins_with_its_whole_budget(spent: int, days: int) -> None:
    """But for what is going on."""
    account = Account(day=NOON // DAY, spent_us=spent)
    assert step(account, None, HOUR, 0, True, NOON + days * DAY).spent_us == 0
