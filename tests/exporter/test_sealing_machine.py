"""Whatever is told in whatever order, and wherever somebody dies: the chain is whole and the sums are exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.exporter.records import intent, settlement
from tests.exporter.test_stores import ENDPOINT, AnyStore, emptied, server
from zerotide.api.scalars import HOUR, SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import Wake
from zerotide.billing.rating import Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import Link, broken, bucket_of
from zerotide.exporter.errors import SealRefused
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.sealchecks import seal_checks
from zerotide.exporter.sealer import COST_CORRECTIONS, rated, seal_due
from zerotide.exporter.seals import Run, Seals
from zerotide.exporter.sqlite import SQLiteStore

__all__ = ["server"]

START = bucket_of(T0)
EVER = Period(START, START + 60 * QUARTER)
BOOKS = (
    index(gpu("0.001")),
    index(gpu("0.001"), gpu("0.002", "second", T0 + 2000 * SECOND)),
    index(gpu("0.001"), gpu("0.002", "second", T0 + 2000 * SECOND), gpu("0.004", "third", T0 + 5000 * SECOND)),
)
RULES = st.tuples(
    st.sampled_from(["demo/team", "demo/other"]),
    st.sampled_from(["Owner", "Trigger", "ProRata"]),
    st.sampled_from(["Equal", "Tokens"]),
    st.integers(0, 1),
)
PODS = {str(uuid5(NAMESPACE_URL, name)): born for name, born in (("u1", 0), ("u2", 470), ("u3", 600))}
"""When each pod was born, in seconds after T0: the last one in another quarter of an hour than the others."""
WAKES = {"w0": 60, "w1": 900}
"""How many seconds each wake lasted."""
seconds = st.integers(0, 9000)


class Death(Exception):
    """The end of a process."""


class Dying:
    """Seals of a process that dies at a write, before or after it is durable; or is paused before its last one."""

    def __init__(self, seals: Seals, at: str, paused: Callable[[], None] = lambda: None) -> None:
        self._seals, self._at, self._paused = seals, at, paused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seals, name)

    def announce(self, cut_us: int) -> None:
        """Announce, or die."""
        self._die("before announcing")
        self._seals.announce(cut_us)
        self._die("after announcing")

    def add(self, run: Run) -> bool:
        """Seal, or die."""
        self._die("before sealing")
        self._paused()
        done = self._seals.add(run)
        self._die("after sealing")
        return done

    def _die(self, at: str) -> None:
        if self._at == at:
            raise Death


class Process:
    """A store as one process has it."""

    def __init__(self, store: AnyStore, at: str = "", paused: Callable[[], None] = lambda: None) -> None:
        self._store, self.seals = store, Dying(store.seals, at, paused)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Sealing(RuleBasedStateMachine):
    """One ledger, two exporters that seal it, and a world that tells them late what happened."""

    open_store: Callable[[], AnyStore]
    finished = 0

    @initialize()
    def begin(self) -> None:
        """Open an empty ledger."""
        self.store = type(self).open_store()
        self.now, self.book, self.number = T0 + HOUR, 0, 0
        self.epochs = [self.store.seals.claim(), self.store.seals.claim()]
        self.kept: list[Link] = []
        self.counters: dict[Any, Any] = {}
        self.told: list[list[Fact]] = []
        self.sent: list[list[Intent | Settlement]] = []

    def teardown(self) -> None:
        """Seal all that there is, and compare it with a fresh fold."""
        if not hasattr(self, "store"):
            return
        self.now += 2 * QUARTER
        epoch = self.store.seals.claim()
        while seal_due(self.store, BOOKS[self.book], epoch, self.now, HOUR):
            pass
        head = self.store.seals.head()
        until = Period(START, head.end_us if head else START)
        assert self.store.seals.charged("", "", EVER) == rated(self.store, BOOKS[self.book], "", "", until, self.now)
        assert self.store.seals.late() == [] or head is None
        self.store.close()
        type(self).finished += 1

    @rule(
        pod=st.sampled_from(sorted(PODS)),
        times=st.lists(seconds, min_size=5, max_size=5),
        kinds=st.sets(st.integers(0, 4)),
        end=st.sampled_from(["finished", "terminal", "gone"]),
    )
    def tell_facts(self, pod: str, times: list[int], kinds: set[int], end: str) -> None:
        """Tell some of what happened to a pod; of its end there may be several witnesses, in any order."""
        names = ("scheduled", "started", "ready", "delete", end)
        chosen: Any = {names[kind]: PODS[pod] + time for kind, time in enumerate(sorted(times)) if kind in kinds}
        facts = life(pod, created=PODS[pod], **chosen)
        self.told.append(facts)
        self.store.add_facts(facts, self.now)

    @rule(
        pod=st.sampled_from(sorted(PODS)),
        start=seconds,
        length=st.integers(0, 1500),
        who=st.integers(0, 1),
        half=st.integers(0, 2),
        wake_id=st.sampled_from([*WAKES, ""]),
    )
    def tell_request(self, pod: str, start: int, length: int, who: int, half: int, wake_id: str) -> None:
        """Tell of a request, or of one of its two ends."""
        self.number += 1
        begin = intent(str(self.number), forwarded_us=T0 + start * SECOND, pod_uid=pod, consumer=f"demo/{who}")
        if wake_id:
            begin = begin.model_copy(update={"cold": True, "wake_id": wake_id})
        end = settlement(str(self.number), ended_us=T0 + (start + length) * SECOND)
        records: list[Intent | Settlement] = [begin, end]
        self.sent.append(records)
        self.store.add_usage([record for place, record in enumerate(records) if place != half], [], self.now)

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def tell_facts_again(self, data: st.DataObject) -> None:
        """Repeat facts in another order."""
        facts = data.draw(st.sampled_from(self.told))
        self.store.add_facts(data.draw(st.permutations(facts)), self.now)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def tell_requests_again(self, data: st.DataObject) -> None:
        """Repeat what was sent, both ends of it, the last one first."""
        self.store.add_usage(data.draw(st.sampled_from(self.sent))[::-1], [], self.now)

    @rule(rules=RULES)
    def change_rules(self, rules: tuple[str, str, str, int]) -> None:
        """Give the endpoint other rules."""
        owner, cold_start, split, floor = rules
        record = ENDPOINT._replace(
            owner=owner,
            cold_start=cold_start,
            split=split,
            generation=floor,
            floor=floor,
            floor_from_us=T0 + 3000 * SECOND,
        )
        self.store.add_endpoint(record)

    @rule(time=st.integers(-100, 700), wake_id=st.sampled_from(list(WAKES)))
    def tell_wake(self, time: int, wake_id: str) -> None:
        """Tell of a wake that some requests had waited for, or that saw replicas made for none of them."""
        begun, length = T0 + time * SECOND, WAKES[wake_id] * SECOND
        self.store.add_wake(Wake("e", wake_id, "demo", "smollm2", begun, "Request", length, ()))

    @precondition(lambda self: self.book + 1 < len(BOOKS))
    @rule()
    def raise_prices(self) -> None:
        """Add a price from a date that may have passed."""
        self.book += 1

    @rule(buckets=st.integers(1, 6))
    def wait(self, buckets: int) -> None:
        """Let time pass."""
        self.now += buckets * QUARTER

    @rule(who=st.integers(0, 1))
    def claim(self, who: int) -> None:
        """Let one of the two take over."""
        self.epochs[who] = self.store.seals.claim()

    @rule(
        who=st.integers(0, 1),
        at=st.sampled_from(["", "", "before announcing", "after announcing", "before sealing", "after sealing"]),
        paused=st.booleans(),
    )
    def seal(self, who: int, at: str, paused: bool) -> None:
        """Let one of the two seal; it may die at any write, and the other may seal while it is paused."""

        def other() -> None:
            if paused:
                self._seal(self.store, 1 - who)

        self._seal(Process(self.store, at, other), who)

    def _seal(self, store: Any, who: int) -> None:
        newest = max(self.epochs)
        try:
            number = seal_due(store, BOOKS[self.book], self.epochs[who], self.now, HOUR)
        except SealRefused:
            assert self.epochs[who] < newest, "only who has lost the claim is refused"
        except Death:
            pass
        else:
            assert number == 0 or self.epochs[who] == newest, "nobody seals with an old epoch"

    @invariant()
    def what_is_sealed_stays(self) -> None:
        """The chain only grows, is whole, and its corrections' counters never decrease."""
        if not hasattr(self, "store"):
            return
        links = self.store.seals.walk(list)
        assert list(broken(links)) == []
        assert [link._replace(rows=sorted(link.rows, key=repr)) for link in links[: len(self.kept)]] == self.kept
        self.kept = [link._replace(rows=sorted(link.rows, key=repr)) for link in links]
        counters = {key: value for key, value in self.store.series().items() if key[0] == COST_CORRECTIONS}
        assert all(counters[key] >= value for key, value in self.counters.items())
        self.counters = counters

    @rule()
    def verify(self) -> None:
        """All that is sealed is what a fresh fold says, but for what is noted as late."""
        checks = seal_checks(self.store, BOOKS[self.book], "", "", EVER, self.now)
        assert [check.differences for check in checks] == [(), ()]


def machine(open_store: Callable[[], AnyStore]) -> type[Sealing]:
    """Return the machine on ledgers that are opened so."""
    return type("SealingOn", (Sealing,), {"open_store": staticmethod(open_store)})


def run(open_store: Callable[[], AnyStore], examples: int) -> int:
    """Run the machine and return how often; what fails is told as it is: shrinking so many steps takes minutes."""
    made = machine(open_store)
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return made.finished


@pytest.mark.parametrize("examples", [60, pytest.param(3000, marks=pytest.mark.soak)], ids=["quickly", "thoroughly"])
def test_sealing_in_a_file(examples: int) -> None:
    assert run(lambda: SQLiteStore(Path(":memory:")), examples) > examples // 2


@pytest.mark.parametrize("examples", [6, pytest.param(200, marks=pytest.mark.soak)], ids=["quickly", "thoroughly"])
def test_sealing_in_a_database(server: str, examples: int) -> None:
    assert run(lambda: PostgresStore(emptied(server)), examples) > examples // 2
