"""The gate's laws, held against every order of events that hypothesis finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tests.activator.admission.guests import Guest
from zerotide.activator.admission.gate import Bounds, Gate
from zerotide.activator.admission.hall import Cap, Caps, Hall
from zerotide.activator.admission.seats import Seat
from zerotide.activator.admission.tickets import Turn
from zerotide.api.errors import ErrorCode, Rejection

BOUNDS = Bounds(max_requests=6, max_bytes=16, per_replica=2, cold_timeout=100.0, busy_timeout=10.0)
CAPS = Caps(Cap(5, 15), Cap(5, 14), Cap(3, 10))


class GateMachine(RuleBasedStateMachine):
    """Requests come, go, are lost and come back; replicas open and close; bounds change; time passes."""

    guests = Bundle("guests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.bounds = BOUNDS
        self.hall = Hall(CAPS)
        self.gate: Gate[str] = Gate(self.bounds, self.hall, "n")
        self.all: list[Guest] = []
        self.open: set[str] = set()
        self.seats: list[Seat[str]] = []
        self.exempt_requests = self.exempt_flight = 0
        self.order: list[Guest] = []
        self.passing: list[Seat[str]] = []
        """Seats of requests that went without a ticket."""

    def waiting(self, consumer: str, batch: bool) -> list[Guest]:
        """Return who waits of a consumer and a class, in the order in which they came."""
        return [
            each for each in self.all if each.turn is Turn.HELD and (each.consumer, each.batch) == (consumer, batch)
        ]

    @rule(
        target=guests,
        size=st.integers(0, 6),
        longest=st.sampled_from([0.0, 5.0, 50.0, 1000.0]),
        consumer=st.sampled_from("abc"),
        batch=st.booleans(),
    )
    def enter(self, size: int, longest: float, consumer: str, batch: bool) -> Guest:
        made = Guest(self.now, size, longest, consumer, batch)
        made.ahead = len(self.waiting(consumer, batch))
        self.all.append(made)
        self.gate.enter(made, self.now)
        return made

    @rule()
    def pass_through(self) -> None:
        free = [seat for seat in self.gate.seats.values() if seat.in_flight < seat.limit]
        seat = self.gate.pass_through(0)
        assert (seat is not None) is (bool(free) and not self.gate.held)
        if seat is not None:
            self.passing.append(seat)

    @rule(target=guests, pick=st.integers(0, 1000))
    def take_a_ticket(self, pick: int) -> MultipleResults[Guest]:
        """Give one that went without a ticket one, with which it may come back."""
        if not self.passing:
            return multiple()
        made = Guest(self.now)
        made.turns = 0
        self.all.append(made)
        self.gate.seated(made, self.passing.pop(pick % len(self.passing)))
        return multiple(made)

    @rule(pick=st.integers(0, 1000))
    def give_back(self, pick: int) -> None:
        if self.passing:
            self.gate.give_back(self.passing.pop(pick % len(self.passing)))

    @rule(made=consumes(guests))
    def leave(self, made: Guest) -> None:
        self.gate.leave(made)
        self.gate.leave(made)
        made.left = True
        assert made.turn is Turn.OUTSIDE

    @rule(made=guests)
    def come_back(self, made: Guest) -> None:
        if made.seat is not None:
            made.turns += 1
            self.gate.come_back(made, self.now)

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

    @rule(requests=st.integers(0, 6), per_replica=st.integers(0, 3), busy=st.sampled_from([10.0, 200.0]))
    def rebound(self, requests: int, per_replica: int, busy: float) -> None:
        self.bounds = replace(self.bounds, max_requests=requests, per_replica=per_replica, busy_timeout=busy)
        self.gate.rebound(self.bounds)
        self.exempt_requests = self.gate.held
        self.exempt_flight = max(self.sitting().values(), default=0)

    @rule()
    def refuse_all(self) -> None:
        self.gate.refuse_all(lambda: Rejection(ErrorCode.SUSPENDED))
        assert self.gate.held == 0

    @invariant()
    def bounds_are_kept(self) -> None:
        """Only what was held or in flight before bounds shrank may exceed them."""
        waiting = [each for each in self.all if each.turn is Turn.HELD]
        self.exempt_requests = min(self.exempt_requests, len(waiting))
        assert self.gate.held == len(waiting) <= max(self.bounds.max_requests, self.exempt_requests)
        assert self.gate.held_bytes == sum(each.size for each in waiting) <= self.bounds.max_bytes
        assert self.hall.held() == self.hall.held("namespace n") == (len(waiting), self.gate.held_bytes)
        for consumer in "abc":
            own = [each.size for each in waiting if each.consumer == consumer]
            assert self.hall.held(f"consumer {consumer}") == (len(own), sum(own))
            assert len(own) <= CAPS.consumer.requests and sum(own) <= CAPS.consumer.bytes
        assert len(waiting) <= CAPS.total.requests and self.gate.held_bytes <= CAPS.namespace.bytes
        for count in self.sitting().values():
            assert not self.bounds.per_replica or count <= max(self.bounds.per_replica, self.exempt_flight)

    def sitting(self) -> Counter[str]:
        """Return how many requests each replica serves, whether or not it closed meanwhile."""
        ticketed = [each.seat for each in self.all if each.seat is not None]
        return Counter(seat.key for seat in (*ticketed, *self.passing))

    @invariant()
    def nothing_is_lost_or_told_twice(self) -> None:
        """Each turn has one outcome, or is still held."""
        held = {id(ticket) for ticket in self.gate.waiting()}
        assert len(held) == self.gate.held
        for each in self.all:
            waits = id(each) in held
            assert waits is (each.turn is Turn.HELD)
            assert each.left or len(each.told) + waits == each.turns
            assert not (each.left and (waits or each.seat))

    @invariant()
    def nobody_waits_beside_a_free_seat(self) -> None:
        """A replica with room and a request that waits never go together."""
        if self.gate.held and self.open:
            assert self.bounds.per_replica
            assert all(seat.in_flight >= self.bounds.per_replica for seat in self.gate.seats.values())

    @invariant()
    def seats_are_counted(self) -> None:
        """A replica's count is the number of requests that sit there, and the least loaded is known."""
        for seat in self.gate.seats.values():
            assert seat.in_flight == sum(each.seat is seat for each in self.all) + self.passing.count(seat)
        roomy = [seat.in_flight for seat in self.gate.seats.values() if seat.in_flight < seat.limit]
        best = self.gate.seats.best()
        assert (None if best is None else best.in_flight) == min(roomy, default=None)


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class TurnsMachine(RuleBasedStateMachine):
    """One seat is given on again and again, while requests of several consumers come and leave."""

    def __init__(self) -> None:
        super().__init__()
        bounds = replace(BOUNDS, max_requests=1000, max_bytes=1000, per_replica=1, busy_timeout=1e6)
        self.gate: Gate[str] = Gate(bounds)
        self.gate.open("a", "a", 0.0)
        self.seated = Guest(longest=1e6)
        self.gate.enter(self.seated, 0.0)
        self.waiting: list[Guest] = []

    @rule(consumer=st.sampled_from("abcd"), batch=st.booleans())
    def enter(self, consumer: str, batch: bool) -> None:
        made = Guest(0.0, 1, 1e6, consumer, batch)
        made.ahead = sum((each.consumer, each.batch) == (consumer, batch) for each in self.waiting)
        self.gate.enter(made, 0.0)
        self.waiting.append(made)

    @rule(pick=st.integers(0, 1000))
    def give_up(self, pick: int) -> None:
        if self.waiting:
            gone = self.waiting.pop(pick % len(self.waiting))
            self.gate.leave(gone)

    @rule()
    def lost(self) -> None:
        """The one who sits there comes back, and is next of its consumer."""
        if self.waiting:
            came = self.seated
            came.passed, came.ahead, came.slack = {}, 0, 1
            for each in self.waiting:
                each.slack += 1
            self.gate.come_back(came, 0.0)
            self.waiting.insert(0, came)
            self.serve_next()

    @rule()
    def serve(self) -> None:
        if self.waiting:
            self.gate.leave(self.seated)
            self.serve_next()

    def serve_next(self) -> None:
        """Look who sits there now."""
        [served] = [each for each in self.waiting if each.seat is not None]
        self.waiting.remove(served)
        self.seated = served
        assert not served.batch or all(each.batch for each in self.waiting), "those in a hurry go first"
        for each in self.waiting:
            if (each.consumer, each.batch) == (served.consumer, served.batch):
                assert (served.arrived, served.number) < (each.arrived, each.number), "first come, first served"
            elif each.batch is served.batch:
                each.passed[served.consumer] = each.passed.get(served.consumer, 0) + 1
                assert each.passed[served.consumer] <= each.ahead + 1 + each.slack, "consumers take turns"


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_one_request_waits_for_one_of_every_other_consumer() -> None:
    """However many somebody brought before: the bound of starvation, exactly."""
    gate: Gate[str] = Gate(replace(BOUNDS, max_requests=1000, max_bytes=10_000, per_replica=1))
    gate.open("a", "a", 0.0)
    crowd = [Guest(consumer="crowd") for _ in range(100)]
    others = [Guest(consumer=name) for name in ("x", "y")]
    second = Guest(consumer="x")
    everyone = [*crowd, *others, second]
    for each in everyone:
        gate.enter(each, 0.0)
    went = []
    while seated := next((each for each in everyone if each.seat is not None), None):
        went.append(seated)
        gate.leave(seated)
    assert went == [crowd[0], crowd[1], others[0], others[1], crowd[2], second, *crowd[3:]]


def test_the_hundred_and_first_waits_in_order() -> None:
    """Full replicas refuse nobody: who comes then waits, and goes when its turn comes."""
    gate: Gate[str] = Gate(replace(BOUNDS, max_requests=10, per_replica=100))
    gate.open("a", "a", 0.0)
    guests = [Guest(float(number), size=0) for number in range(103)]
    for each in guests:
        gate.enter(each, each.arrived)
    assert [each.went for each in guests] == [True] * 100 + [False] * 3
    for number in (100, 101, 102):
        gate.leave(guests[number - 100])
        assert guests[number].went and not any(each.went for each in guests[number + 1 :])


def test_two_budgets() -> None:
    """Cold requests wait long; once a replica is there, the rest waits no longer than a busy one."""
    gate: Gate[str] = Gate(BOUNDS)
    guests = [Guest(0.0) for _ in range(4)]
    for each in guests:
        gate.enter(each, 0.0)
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
    made = Guest(longest=longest)
    gate.enter(made, 0.0)
    assert made.codes == [code]
    assert gate.held == 0


@pytest.mark.parametrize(
    ("caps", "code", "words"),
    [
        (Caps(Cap(1, 9), Cap(9, 9), Cap(9, 9)), ErrorCode.QUEUE_FULL, "by the gateway"),
        (Caps(Cap(9, 1), Cap(9, 9), Cap(9, 9)), ErrorCode.QUEUE_FULL, "by the gateway"),
        (Caps(Cap(9, 9), Cap(1, 9), Cap(9, 9)), ErrorCode.QUEUE_FULL, "in namespace n"),
        (Caps(Cap(9, 9), Cap(9, 1), Cap(9, 9)), ErrorCode.QUEUE_FULL, "in namespace n"),
        (Caps(Cap(9, 9), Cap(9, 9), Cap(1, 9)), ErrorCode.CONSUMER_LIMIT, "demo/team-a"),
        (Caps(Cap(9, 9), Cap(9, 9), Cap(9, 1)), ErrorCode.CONSUMER_LIMIT, "demo/team-a"),
    ],
)
def test_bounds_over_all_endpoints(caps: Caps, code: ErrorCode, words: str) -> None:
    """What is held at one endpoint counts at the others; the answer says which bound was reached."""
    hall = Hall(caps)
    one, other = (Gate[str](BOUNDS, hall, "n") for _ in range(2))
    first, second = Guest(consumer="demo/team-a"), Guest(consumer="demo/team-a")
    one.enter(first, 0.0)
    other.enter(second, 0.0)
    assert second.codes == [code]
    told = second.told[0]
    assert isinstance(told, Rejection) and words in told.message
    one.leave(first)
    third = Guest(consumer="demo/team-a")
    other.enter(third, 0.0)
    assert not third.told


def test_a_busy_replica_and_no_patience() -> None:
    """Somebody who does not wait at all is refused while all are busy as well."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=1))
    gate.open("a", "a", 0.0)
    gate.enter(Guest(), 0.0)
    made = Guest(longest=0.0)
    gate.enter(made, 0.0)
    assert made.codes == [ErrorCode.HOLD_TIMEOUT]


def test_an_affinity_chooses_among_those_with_room() -> None:
    """The choice is asked where there is one to make, and never where nobody has room."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=1))
    gate.choose = lambda seats, limit, affinity: next(seat for seat in seats if seat.key == "b")
    gate.open("a", "a", 0.0)
    gate.open("b", "b", 0.0)
    made = Guest()
    made.affinity = 7
    gate.enter(made, 0.0)
    assert made.seat is not None and made.seat.key == "b"


def test_time_at_a_replica_is_no_time_of_waiting() -> None:
    """A request whose replica is lost after long work goes to another one, or waits for it as if it had just come."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=1))
    gate.open("a", "a", 0.0)
    gate.open("b", "b", 0.0)
    made = Guest()
    gate.enter(made, 0.0)
    lost = made.seat
    assert lost is not None and gate.has_beside(lost.key)
    gate.close(lost.key)
    gate.come_back(made, 50.0)
    assert made.seat is not None
    assert made.seat is not lost and not gate.has_beside(made.seat.key)
    gate.close(made.seat.key)
    gate.open("c", "c", 55.0)
    gate.enter(Guest(55.0), 55.0)
    gate.come_back(made, 60.0)
    assert made.codes == []
    gate.sweep(69.0, 0.1)
    assert gate.held == 1
    gate.sweep(70.0, 0.1)
    assert made.codes == [ErrorCode.HOLD_TIMEOUT]


def test_one_that_was_let_through_by_another_gate_s_word_comes_back_once() -> None:
    """It leaves its line from within, and a replica that crashes brings it back while others wait."""
    gate: Gate[str] = Gate(BOUNDS)
    gate.follow(None)
    gate.open("a", "a", 0.0)
    guests = [Guest(0.0), Guest(1.0), Guest(2.0)]
    for guest in guests:
        gate.enter(guest, guest.arrived)
    gate.lend("a", 1)
    assert gate.admit(guests[0], "a")
    gate.lend("a", -1)
    gate.close("a")
    gate.come_back(guests[0], 3.0)
    assert list(gate.waiting()) == guests and gate.held == 3
    gate.refuse_all(lambda: Rejection(ErrorCode.SUSPENDED))
    assert [guest.codes for guest in guests] == [[ErrorCode.SUSPENDED]] * 3
    assert gate.held == 0


def test_beats() -> None:
    """A ticket beats from its time on, for as long as it is held."""
    gate: Gate[str] = Gate(BOUNDS)
    made = Guest()
    made.beat_at = 5.0
    gate.enter(made, 0.0)
    counted = []
    for now in (4.9, 5.0, 5.1):
        gate.sweep(now, 0.1)
        counted.append(made.beats)
    made.beat_at = 6.0
    gate.leave(made)
    gate.sweep(6.0, 0.1)
    assert [*counted, made.beats] == [0, 1, 1, 1]


def test_many_that_leave_are_forgotten() -> None:
    """Clients that come and go leave nothing behind, whatever the time for which they might have waited."""
    gate: Gate[str] = Gate(replace(BOUNDS, max_requests=10))
    stays = Guest()
    gate.enter(stays, 0.0)
    for number in range(1000):
        made = Guest(float(number) / 10, size=0, longest=500.0)
        gate.enter(made, made.arrived)
        gate.leave(made)
    [lane] = gate._hurried._lanes.values()
    assert len(lane.heap) < 100
    assert len(gate._timers._slots) == 1 and len(gate._timers._order) < 100


def test_seats_that_others_have_take_room_and_are_no_load() -> None:
    """What another activator may use unevenly does not make this one send everything to one replica."""
    gate: Gate[str] = Gate(replace(BOUNDS, per_replica=10))
    for key in "ab":
        gate.open(key, key, 0.0)
    gate.away("a", 7)
    made = [Guest() for _ in range(13)]
    for each in made:
        gate.enter(each, 0.0)
    went = [each.seat.key for each in made if each.seat is not None]
    assert went[0] == "b", "of two that are as free here, the one that others use less"
    assert Counter(went[:6]) == {"a": 3, "b": 3}
    assert Counter(went) == {"a": 3, "b": 10}, "room is what all use together"
    gate.away("a", -7)
    for each in made:
        gate.leave(each)
    assert [(seat.in_flight, seat.own) for seat in gate.seats.values()] == [(0, 0), (0, 0)]
