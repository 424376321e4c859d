"""The gate's laws, held against every order of events that hypothesis finds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from zerotide.activator.admission.choice import least_in_flight
from zerotide.activator.admission.gate import Bounds, Gate, Seat, Ticket, Turn
from zerotide.api.errors import ErrorCode, Rejection

BOUNDS = Bounds(max_requests=4, max_bytes=10, per_replica=2, cold_timeout=100.0, busy_timeout=10.0)


@dataclass
class Guest:
    """A request of the tests, and what it was told."""

    number: int
    told: list[Seat[str] | Rejection] = field(default_factory=list)
    ticket: Ticket[str] = field(init=False)
    left: bool = False

    @property
    def seat(self) -> Seat[str] | None:
        """Return the seat it has now."""
        return self.ticket.seat

    @property
    def codes(self) -> list[ErrorCode]:
        """Return the refusals it was told."""
        return [told.code for told in self.told if isinstance(told, Rejection)]


def guest(number: int = 1, arrived: float = 0.0, size: int = 1, longest: float = 1000.0) -> Guest:
    """Make a request with a ticket."""
    made = Guest(number)
    made.ticket = Ticket(arrived, size, longest, made.told.append)
    return made


class GateMachine(RuleBasedStateMachine):
    """Requests come, go, are lost and come back; replicas open and close; bounds change; time passes."""

    guests = Bundle("guests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.bounds = BOUNDS
        self.gate: Gate[str] = Gate(self.bounds)
        self.all: list[Guest] = []
        self.turns: dict[int, int] = {}
        self.open: set[str] = set()
        self.exempt_requests = self.exempt_bytes = self.exempt_flight = 0

    @rule(target=guests, size=st.integers(0, 6), longest=st.sampled_from([0.0, 5.0, 50.0, 1000.0]))
    def enter(self, size: int, longest: float) -> Guest:
        made = guest(len(self.all) + 1, self.now, size, longest)
        self.all.append(made)
        self.turns[made.number] = 1
        self.gate.enter(made.ticket, self.now)
        return made

    @rule(made=consumes(guests))
    def leave(self, made: Guest) -> None:
        self.gate.leave(made.ticket)
        self.gate.leave(made.ticket)
        made.left = True
        assert made.ticket.turn is Turn.OUTSIDE

    @rule(made=guests)
    def come_back(self, made: Guest) -> None:
        if made.seat is not None:
            self.turns[made.number] += 1
            self.gate.come_back(made.ticket, self.now)

    @rule(key=st.sampled_from("abc"))
    def open_replica(self, key: str) -> None:
        if key not in self.open:
            self.open.add(key)
            self.gate.open(key, key, self.now)

    @rule(key=st.sampled_from("abc"))
    def close_replica(self, key: str) -> None:
        self.open.discard(key)
        self.gate.close(key)

    @rule(seconds=st.floats(0.0, 60.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.gate.sweep(self.now, 0.1)
        assert all(self.gate.deadline(ticket) >= self.now for ticket in self.gate.waiting())

    @rule(requests=st.integers(0, 6), per_replica=st.integers(0, 3))
    def rebound(self, requests: int, per_replica: int) -> None:
        self.bounds = replace(self.bounds, max_requests=requests, per_replica=per_replica)
        self.gate.rebound(self.bounds)
        self.exempt_requests = self.gate.held
        self.exempt_flight = max((seat.in_flight for seat in self.gate._seats.values()), default=0)

    @rule()
    def refuse_all(self) -> None:
        self.gate.refuse_all(lambda: Rejection(ErrorCode.SUSPENDED))
        assert self.gate.held == 0

    @invariant()
    def bounds_are_kept(self) -> None:
        """Only what was held or in flight before bounds shrank may exceed them."""
        self.exempt_requests = min(self.exempt_requests, self.gate.held)
        assert self.gate.held <= max(self.bounds.max_requests, self.exempt_requests)
        assert 0 <= self.gate.held_bytes <= self.bounds.max_bytes
        assert self.gate.held_bytes == sum(ticket.size for ticket in self.gate.waiting())
        for seat in self.gate._seats.values():
            assert not self.bounds.per_replica or seat.in_flight <= max(self.bounds.per_replica, self.exempt_flight)

    @invariant()
    def nothing_is_lost_or_told_twice(self) -> None:
        """Each turn has one outcome, or is still held."""
        held = {id(ticket) for ticket in self.gate.waiting()}
        assert len(held) == self.gate.held
        for each in self.all:
            waits = id(each.ticket) in held
            assert waits is (each.ticket.turn is Turn.HELD)
            assert each.left or len(each.told) + waits == self.turns[each.number]
            assert not (each.left and (waits or each.seat))

    @invariant()
    def first_come_first_served(self) -> None:
        """The order of waiting is that of coming, also for those who came back."""
        numbers = [ticket.number for ticket in self.gate.waiting()]
        assert numbers == sorted(numbers)

    @invariant()
    def nobody_waits_beside_a_free_seat(self) -> None:
        """A replica with room and a request that waits never go together."""
        if self.gate.held and self.open:
            assert self.bounds.per_replica
            assert all(seat.in_flight >= self.bounds.per_replica for seat in self.gate._seats.values())

    @invariant()
    def seats_are_counted(self) -> None:
        """A replica's count is the number of requests that sit there."""
        for seat in self.gate._seats.values():
            assert seat.in_flight == sum(each.seat is seat for each in self.all)


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_two_budgets() -> None:
    """Cold requests wait long; once a replica is there, the rest waits no longer than a busy one."""
    gate: Gate[str] = Gate(BOUNDS)
    guests = [guest(number, arrived=0.0) for number in range(4)]
    for each in guests:
        gate.enter(each.ticket, 0.0)
    gate.sweep(90.0, 0.1)
    assert gate.held == 4
    gate.open("a", "a", 90.0)
    assert gate.held == 2
    gate.sweep(99.0, 0.1)
    assert gate.held == 2
    gate.sweep(99.95, 0.1)
    assert [each.codes for each in guests] == [[], [], [ErrorCode.HOLD_TIMEOUT], [ErrorCode.HOLD_TIMEOUT]]


@pytest.mark.parametrize(
    ("bounds", "longest", "code"),
    [
        (BOUNDS, 0.0, ErrorCode.ENDPOINT_COLD),
        (replace(BOUNDS, holds=False), 1000.0, ErrorCode.ENDPOINT_COLD),
        (replace(BOUNDS, max_requests=0), 1000.0, ErrorCode.QUEUE_FULL),
        (replace(BOUNDS, max_bytes=0), 1000.0, ErrorCode.QUEUE_FULL),
        (replace(BOUNDS, cold_timeout=0.0), 1000.0, ErrorCode.HOLD_TIMEOUT),
    ],
)
def test_refusals_at_the_door(bounds: Bounds, longest: float, code: ErrorCode) -> None:
    """A request that cannot wait is told so at once."""
    gate: Gate[str] = Gate(bounds)
    made = guest(longest=longest)
    gate.enter(made.ticket, 0.0)
    assert made.codes == [code]
    assert gate.held == 0


def test_a_busy_replica_and_no_patience() -> None:
    """Somebody who does not wait at all is refused while all are busy as well."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=1))
    gate.open("a", "a", 0.0)
    gate.enter(guest().ticket, 0.0)
    made = guest(longest=0.0)
    gate.enter(made.ticket, 0.0)
    assert made.codes == [ErrorCode.HOLD_TIMEOUT]


def test_time_at_a_replica_is_no_time_of_waiting() -> None:
    """A request whose replica is lost after long work goes to another one, or waits for it as if it had just come."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=1))
    gate.open("a", "a", 0.0)
    gate.open("b", "b", 0.0)
    made = guest()
    gate.enter(made.ticket, 0.0)
    lost = made.seat
    assert lost is not None
    gate.close(lost.key)
    gate.come_back(made.ticket, 50.0)
    assert made.seat is not None
    assert made.seat is not lost
    gate.close(made.seat.key)
    gate.open("c", "c", 55.0)
    gate.enter(guest(2).ticket, 55.0)
    gate.come_back(made.ticket, 60.0)
    assert made.codes == []
    gate.sweep(69.0, 0.1)
    assert gate.held == 1
    gate.sweep(70.0, 0.1)
    assert made.codes == [ErrorCode.HOLD_TIMEOUT]


def test_a_choice_is_asked_with_the_tickets_affinity() -> None:
    """Also for those who waited."""
    asked: list[int] = []

    def choose(seats: Collection[Seat[str]], limit: int, affinity: int) -> Seat[str] | None:
        asked.append(affinity)
        return least_in_flight(seats, limit)

    gate: Gate[str] = Gate(BOUNDS, choose)
    made = guest()
    made.ticket.affinity = 7
    gate.enter(made.ticket, 0.0)
    gate.open("a", "a", 0.0)
    assert set(asked) == {7}
    assert made.seat is not None


def test_beats() -> None:
    """A ticket beats from its time on, for as long as it is held."""
    gate: Gate[str] = Gate(BOUNDS)
    made, beats = guest(), []
    made.ticket.beat, made.ticket.beat_at = lambda: beats.append(1), 5.0
    gate.enter(made.ticket, 0.0)
    gate.sweep(4.9, 0.1)
    assert not beats
    gate.sweep(5.0, 0.1)
    assert beats
    gate.leave(made.ticket)
    gate.sweep(6.0, 0.1)
    assert len(beats) == 1
