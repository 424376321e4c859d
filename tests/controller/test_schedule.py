"""The schedule against a small model: no key is lost, none runs twice at once, delays and priorities hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerotide.controller.schedule import Priority, Schedule

KEYS = st.sampled_from(["a", "b", "c"])
PRIORITIES = st.sampled_from(list(Priority))


class Model(RuleBasedStateMachine):
    """Sets and dictionaries instead of heaps."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.now = Schedule(), 0.0
        self.ready: dict[str, tuple[Priority, int]] = {}
        self.due: dict[str, float] = {}
        self.running: set[str] = set()
        self.again: dict[str, Priority] = {}
        self.order = 0

    def _add(self, key: str, priority: Priority) -> None:
        if key in self.running:
            self.again[key] = min(priority, self.again.get(key, priority))
        elif key not in self.ready or priority < self.ready[key][0]:
            self.order += 1
            self.ready[key] = (priority, self.order)

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: Priority) -> None:
        """Make a key ready."""
        self.real.add(key, priority)
        self._add(key, priority)

    @rule(key=KEYS, delay=st.integers(0, 5))
    def add_at(self, key: str, delay: int) -> None:
        """Make a key ready later; a sooner time stands."""
        due = self.now + delay
        self.real.add_at(key, due)
        self.due[key] = min(due, self.due.get(key, due))

    @rule(seconds=st.integers(1, 3))
    def tick(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def take(self) -> None:
        """The most urgent and then the oldest key comes first."""
        for key in sorted((key for key, due in self.due.items() if due <= self.now), key=lambda key: self.due[key]):
            del self.due[key]
            self._add(key, Priority.CHANGE)
        taken = self.real.take(self.now)
        if not self.ready:
            assert taken is None
            return
        assert taken is not None
        urgency = {key: priority for key, (priority, _) in self.ready.items()}
        assert urgency[taken] == min(urgency.values())
        del self.ready[taken]
        self.due.pop(taken, None)
        assert taken not in self.running
        self.running.add(taken)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """Work ends; what was added meanwhile is ready again."""
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.real.done(key)
        self.running.discard(key)
        if key in self.again:
            self._add(key, self.again.pop(key))

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        """A key that is gone does not come back by itself."""
        self.real.forget(key)
        for table in (self.ready, self.due, self.again):
            table.pop(key, None)

    @invariant()
    def agrees(self) -> None:
        """Counts and the next due time."""
        assert len(self.real) == len(self.ready)
        assert self.real.next_due() == min(self.due.values(), default=None)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_backoff_doubles_up_to_a_limit_and_success_forgets_it() -> None:
    """Per key."""
    schedule = Schedule(first_backoff=0.5, longest_backoff=3.0)
    assert [schedule.failed("a", now) for now in (0.0, 0.5, 1.5, 3.5)] == [0.5, 1.0, 2.0, 3.0]
    assert schedule.failed("b", 3.5) == 0.5
    assert schedule.failed("a", 6.5, share=0.8, longest=1.0) == 0.8
    schedule.succeeded("a")
    assert schedule.failed("a", 7.0) == 0.5


def test_a_burst_of_news_while_a_key_fails_is_one_failure() -> None:
    """Each try that a change calls for fails like the last one; the key is tried again when it would have been."""
    schedule = Schedule(first_backoff=0.5)
    assert schedule.failed("a", 0.0) == 0.5
    assert [schedule.failed("a", now) for now in (0.125, 0.25, 0.375)] == [0.375, 0.25, 0.125]
    assert schedule.failed("a", 0.5) == 1.0, "the second failure"
    assert schedule.failed("a", 0.75) == 0.75
