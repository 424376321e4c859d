"""Several members act as one, whatever is said late, whoever dies, and whoever sees what when."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.activator.admission.guests import Guest
from tests.activator.council.world import BOUNDS, KEY, Node, World
from zerotide.activator.admission.tickets import Turn
from zerotide.activator.council.council import GRACE, PATIENCE, YOUNG
from zerotide.activator.council.membership import Member, owner_of
from zerotide.api.errors import ErrorCode, Rejection

NAMES = ("a", "b", "c", "d")
PICK = st.integers(0, 1000)


class CouncilMachine(RuleBasedStateMachine):
    """Requests come to any member and end, members come and die, messages are late."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for name in NAMES[:3]:
            self.world.join(name)
        self.world.settle()
        self.world.now += YOUNG
        self.told: dict[int, int] = {}

    def node(self, pick: int) -> Node:
        """Return one of the members."""
        return list(self.world.nodes.values())[pick % len(self.world.nodes)]

    def guest(self, pick: int) -> tuple[Node, Guest] | None:
        """Return one of the requests."""
        guests = [(node, guest) for node in self.world.nodes.values() for guest in node.guests]
        return guests[pick % len(guests)] if guests else None

    @rule(pick=PICK, consumer=st.sampled_from("xy"))
    def enter(self, pick: int, consumer: str) -> None:
        self.world.enter(self.node(pick), consumer=consumer)

    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        found = self.guest(pick)
        if found is not None:
            self.world.leave(*found)

    @rule(pick=PICK)
    def come_back(self, pick: int) -> None:
        found = self.guest(pick)
        if found is not None and found[1].seat is not None:
            found[0].gate.come_back(found[1], self.world.now)

    @rule(pick=PICK)
    def refuse_all(self, pick: int) -> None:
        """One of them hears that the endpoint takes no requests now."""
        node = self.node(pick)
        node.gate.refuse_all(lambda: Rejection(ErrorCode.SUSPENDED))
        assert node.gate.held == 0

    @rule(replica=st.sampled_from("rs"), pick=PICK)
    def open_replica(self, replica: str, pick: int) -> None:
        self.world.replicas.add(replica)
        node = self.node(pick)
        if node.gate.seats.get(replica) is None:
            node.gate.open(replica, replica, self.world.now)

    @rule(replica=st.sampled_from("rs"), pick=PICK)
    def close_replica(self, replica: str, pick: int) -> None:
        self.node(pick).gate.close(replica)

    @rule(picks=st.lists(PICK, max_size=6))
    def deliver(self, picks: list[int]) -> None:
        for pick in picks:
            self.world.deliver(pick)

    @rule(pick=PICK)
    def tick(self, pick: int) -> None:
        self.node(pick).council.tick()

    @rule(pick=PICK)
    def see(self, pick: int) -> None:
        self.world.see(self.node(pick))

    @precondition(lambda self: len(self.world.nodes) > 1)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        self.world.kill(self.node(pick).name)

    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        if name not in self.world.nodes and name not in {
            n for each in self.world.nodes.values() for n in each.council.members
        }:
            self.world.join(name)

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule()
    def settle(self) -> None:
        """Once all is said, nobody waits whom a replica has room for, and no seat is lost."""
        world = self.world
        for replica in world.replicas:
            world.open(replica)
        world.settle()
        assert all(world.calm())
        owners = {node.owner for node in world.nodes.values()}
        assert owners == {owner_of(KEY, world.nodes)}
        waiting = [guest for node in world.nodes.values() for guest in node.guests if guest.turn is Turn.HELD]
        assert all(guest.accepted for guest in waiting), "nobody is left without an answer"
        owner = world.nodes[owners.pop()]
        assert owner.gate.held == len(waiting)
        for seat in owner.gate.seats.values():
            assert seat.in_flight >= world.in_flight(seat.key)
            if waiting:
                assert world.in_flight(seat.key) == BOUNDS.per_replica, "no wake-up is lost"

    @invariant()
    def bounds_are_kept(self) -> None:
        """At every moment, whoever owns the line and whatever was said of it."""
        for replica in self.world.replicas:
            assert self.world.in_flight(replica) <= BOUNDS.per_replica
        assert len(self.world.held()) <= BOUNDS.max_requests

    @invariant()
    def everyone_stands_in_line_once(self) -> None:
        """Whoever comes back does not stand beside itself."""
        for node in self.world.nodes.values():
            waiting = list(node.gate.waiting())
            assert len({id(ticket) for ticket in waiting}) == len(waiting) == node.gate.held

    @invariant()
    def everyone_is_told_once(self) -> None:
        """A request that neither waits nor goes was refused."""
        for node in self.world.nodes.values():
            for guest in node.guests:
                assert (guest.turn is Turn.OUTSIDE) == bool(guest.codes)


TestCouncil = CouncilMachine.TestCase
TestCouncil.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def three(max_requests: int = 5, per_replica: int = 3) -> tuple[World, Node, list[Node]]:
    """Return a world of three members, the owner and the others."""
    world = World(replace(BOUNDS, max_requests=max_requests, per_replica=per_replica))
    for name in NAMES[:3]:
        world.join(name)
    world.settle()
    world.now += YOUNG
    owner = world.nodes[owner_of(KEY, world.nodes)]
    return world, owner, [node for node in world.nodes.values() if node is not owner]


def test_first_come_first_served_over_all() -> None:
    """Requests that arrive at three members in turn go in the order in which they came."""
    world, _, others = three(max_requests=100, per_replica=1)
    nodes = list(world.nodes.values())
    guests = [world.enter(nodes[number * 7 % 3]) for number in range(30)]
    world.settle()
    for node in others:
        node.gate.open("r", "r", world.now)
    world.settle()
    world.open("r")
    went = []
    for _ in guests:
        world.settle()
        [(node, seated)] = [(node, guest) for node in nodes for guest in node.guests if guest.seat is not None]
        went.append(seated)
        world.leave(node, seated)
    assert went == guests


def test_exactly_as_many_are_held_as_allowed() -> None:
    """Wherever they come: ten wait, the eleventh is refused, and one that leaves makes room for one."""
    world, _, others = three(max_requests=10)
    guests = [world.enter(others[0]) for _ in range(9)]
    world.settle()
    guests.append(world.enter(others[1]))
    world.settle()
    assert not any(guest.codes for guest in guests)
    for node in world.nodes.values():
        late = world.enter(node)
        world.settle()
        assert late.codes == [ErrorCode.QUEUE_FULL]
    world.leave(others[0], guests[0])
    world.settle()
    late = world.enter(others[1])
    world.settle()
    assert late.turn is Turn.HELD and len(world.held()) == 10


def test_a_warm_request_says_nothing_while_leases_are_free() -> None:
    """Only the first one at a member asks."""
    world, _, others = three(per_replica=32)
    world.open("r")
    world.settle()
    first = world.enter(others[0])
    world.settle()
    assert first.went
    before = world.sent
    for _ in range(100):
        guest = world.enter(others[0])
        assert guest.went
        world.leave(others[0], guest)
    assert world.sent == before


def test_leases_are_called_back_where_somebody_waits() -> None:
    """What one member has free goes to another's request."""
    world, owner, others = three(per_replica=2)
    world.open("r")
    world.settle()
    guest = world.enter(others[0])
    world.settle()
    world.leave(others[0], guest)
    world.settle()
    assert owner.gate.seats.serving(), "the seat stayed with the member"
    mine = [world.enter(owner), world.enter(owner)]
    world.settle()
    assert all(guest.went for guest in mine)


def test_the_death_of_the_owner_loses_only_what_it_held() -> None:
    """The others' requests keep their places, their order and their seats."""
    world, owner, others = three(max_requests=50, per_replica=2)
    world.open("r")
    guests = [world.enter(node) for _ in range(16) for node in world.nodes.values()]
    world.settle()
    kept = [guest for node in others for guest in node.guests]
    world.kill(owner.name)
    world.settle()
    assert not any(guest.codes for guest in kept)
    assert world.in_flight("r") == 2
    went = []
    while seated := [(node, guest) for node in others for guest in node.guests if guest.seat is not None]:
        node, guest = min(seated, key=lambda pair: pair[1].slack)
        went.append(guest)
        world.leave(node, guest)
        world.settle()
    assert len(went) == len(kept) == 32
    assert went == sorted(kept, key=lambda guest: guest.slack)
    assert set(kept) <= set(guests)


def test_members_that_disagree_keep_to_their_shares() -> None:
    """Each takes another one for the only leader: nobody hangs, no bound is passed, and they find together again."""
    world = World(replace(BOUNDS, max_requests=6, per_replica=2))
    for name in ("a", "b"):
        world.join(name)
    world.settle()
    world.now += YOUNG
    world.open("r")
    for name in ("a", "b"):
        world.nodes[name].council.set_members([Member(each, leads=each != name) for each in ("a", "b")])
    guests = [world.enter(world.nodes[name]) for _ in range(6) for name in ("a", "b")]
    told: list[bool] = []
    for name in ("a", "b"):
        for _ in range(3):
            world.nodes[name].council.pools.enter("x", 4, told.append)
    for _ in range(100):
        world.now += 0.05
        for node in world.nodes.values():
            node.council.tick()
        while world.deliver(0):
            pass
    assert sum(guest.went for guest in guests) == 2 and sum(bool(guest.codes) for guest in guests) == 4
    assert sorted(told) == [False, False, True, True, True, True]
    world.settle()
    world.now += PATIENCE
    world.settle()
    assert all(world.calm()) and len(world.held()) == 6
    assert world.nodes[world.nodes["a"].owner].gate.held == 6


def test_a_member_that_cannot_be_reached_keeps_to_its_share() -> None:
    """It goes on alone with its part, the others with the rest; together again all is as before."""
    world, owner, (other, third) = three(max_requests=9, per_replica=3)
    world.open("r")
    world.settle()
    for node in (owner, other):
        for peer in (owner, other):
            if node is not peer:
                world.wires[node.name, peer.name].clear()
                node.council.detach(peer.name)
    world.wires.pop((owner.name, other.name))
    world.wires.pop((other.name, owner.name))
    world.now += GRACE
    world.settle()
    alone = [world.enter(other) for _ in range(10)]
    rest = [world.enter(third) for _ in range(20)]
    world.settle()
    assert sum(guest.went for guest in alone) == 1 and sum(guest.turn is Turn.HELD for guest in alone) == 3
    assert sum(guest.went for guest in rest) == 2 and sum(guest.turn is Turn.HELD for guest in rest) == 6
    world.wires[owner.name, other.name], world.wires[other.name, owner.name] = deque(), deque()
    owner.council.attach(other.name)
    other.council.attach(owner.name)
    world.settle()
    assert owner.gate.held == 9 and owner.gate.reserved == (0, 0)
    for guest in [guest for guest in rest if guest.went]:
        world.leave(third, guest)
    world.settle()
    assert world.in_flight("r") == 3
