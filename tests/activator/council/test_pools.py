"""Limits that all members keep together."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.activator.council.world import World
from zerotide.activator.council.council import GRACE, PATIENCE, YOUNG
from zerotide.activator.council.membership import owner_of
from zerotide.activator.council.messages import Deny, Give, Message, Return, Told, Want
from zerotide.activator.council.pools import Pools

NAMES = ("a", "b", "c", "d")
PICK = st.integers(0, 1000)
LIMITS = {"x": 1, "y": 3, "z": 40}
POOL = st.sampled_from(sorted(LIMITS))


class Claim:
    """A request that counts under a name."""

    def __init__(self, member: str, pool: str) -> None:
        self.member, self.pool = member, pool
        self.told: list[bool] = []


class PoolMachine(RuleBasedStateMachine):
    """Requests come to any member and end, members come and die, messages are late."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for name in NAMES[:3]:
            self.world.join(name)
        self.world.settle()
        self.world.now += YOUNG
        self.claims: list[Claim] = []

    def claim(self, member: str, pool: str) -> Claim:
        """Count a request."""
        made = Claim(member, pool)
        self.claims.append(made)
        self.world.nodes[member].council.pools.enter(pool, LIMITS[pool], made.told.append)
        return made

    def inside(self, pool: str) -> list[Claim]:
        """Return the requests that count."""
        return [claim for claim in self.claims if claim.told == [True] and claim.pool == pool]

    @rule(pick=PICK, pool=POOL, number=st.integers(1, 4))
    def enter(self, pick: int, pool: str, number: int) -> None:
        for _ in range(number):
            self.claim(list(self.world.nodes)[pick % len(self.world.nodes)], pool)

    @rule(pick=PICK, pool=POOL)
    def leave(self, pick: int, pool: str) -> None:
        inside = self.inside(pool)
        if inside:
            gone = inside[pick % len(inside)]
            self.claims.remove(gone)
            self.world.nodes[gone.member].council.pools.leave(pool)

    @rule(picks=st.lists(PICK, max_size=6))
    def deliver(self, picks: list[int]) -> None:
        for pick in picks:
            self.world.deliver(pick)

    @rule(pick=PICK)
    def see(self, pick: int) -> None:
        self.world.see(list(self.world.nodes.values())[pick % len(self.world.nodes)])

    @rule(pick=PICK)
    def idle(self, pick: int) -> None:
        list(self.world.nodes.values())[pick % len(self.world.nodes)].council.pools.give_back_idle()

    @precondition(lambda self: len(self.world.nodes) > 1)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        dead = self.world.kill(list(self.world.nodes)[pick % len(self.world.nodes)]).name
        self.claims = [claim for claim in self.claims if claim.member != dead]

    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        known = {member for node in self.world.nodes.values() for member in node.council.members}
        if name not in known | self.world.nodes.keys():
            self.world.join(name)

    @rule(pool=POOL, pick=PICK)
    def settle(self, pool: str, pick: int) -> None:
        """Once all is said everyone has an answer, and whoever comes now is let in as long as there is room."""
        self.world.settle()
        assert all(len(claim.told) == 1 for claim in self.claims)
        self.claims = [claim for claim in self.claims if claim.told == [True]]
        room = len(self.inside(pool)) < LIMITS[pool]
        made = self.claim(list(self.world.nodes)[pick % len(self.world.nodes)], pool)
        self.world.settle()
        assert made.told == [room]

    @invariant()
    def limits_are_kept(self) -> None:
        """At every moment."""
        for pool, limit in LIMITS.items():
            assert len(self.inside(pool)) <= limit

    def teardown(self) -> None:
        """Nothing is left behind by requests that are over."""
        self.world.settle()
        for claim in self.claims:
            if claim.told == [True]:
                self.world.nodes[claim.member].council.pools.leave(claim.pool)
        self.world.settle()
        for node in self.world.nodes.values():
            node.council.pools.give_back_idle()
        self.world.settle()
        for node in self.world.nodes.values():
            pools = node.council.pools
            assert not pools._accounts
            assert not any(loan.lent for book in pools._books.values() for loan in book.loans.values())


TestPools = PoolMachine.TestCase
TestPools.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_shares_while_the_keeper_cannot_be_reached() -> None:
    """Each of two keeps to its half; together again one may have all."""
    world = World()
    for name in ("a", "b"):
        world.join(name)
    world.settle()
    world.now += YOUNG
    for one, other in (("a", "b"), ("b", "a")):
        world.nodes[one].council.detach(other)
    wires, world.wires = world.wires, {}
    told: dict[str, list[bool]] = {"a": [], "b": []}
    for name, answers in told.items():
        for _ in range(4):
            world.nodes[name].council.pools.enter("z", 6, answers.append)
    world.now += GRACE
    world.settle()
    assert told == {"a": [True, True, True, False], "b": [True, True, True, False]}
    world.wires = wires
    for one, other in (("a", "b"), ("b", "a")):
        world.nodes[one].council.attach(other)
    for _ in range(3):
        world.nodes["a"].council.pools.leave("z")
    world.settle()
    for _ in range(4):
        world.nodes["b"].council.pools.enter("z", 6, told["b"].append)
    world.settle()
    assert told["b"][4:] == [True, True, True, False]


def test_a_keeper_that_sees_members_disagree_lends_each_its_share() -> None:
    """Who asks may see no disagreement, and must not refuse while its own share has room."""
    said: list[tuple[str, Message]] = []
    leaders = ("a", "b", "c")
    name = next(f"x{number}" for number in range(100) if owner_of(f"pool x{number}", leaders) == "a")
    pools = Pools("a", lambda member, message: said.append((member, message)))
    pools.set_members(leaders, leaders, True)
    for member, known in (("b", leaders), ("c", ("a", "c"))):
        pools.attach(member)
        pools.receive(member, Told(list(known), {}))
    pools.tick(0.0, PATIENCE)
    pools.tick(PATIENCE, PATIENCE)
    said.clear()
    for _ in range(3):
        pools.receive("b", Want(name, 1, 60))
    assert said == [("b", Give(name, 1, 16)), ("b", Give(name, 1, 4)), ("b", Deny(name, 1))]
    mine: list[bool] = []
    for _ in range(21):
        pools.enter(name, 60, mine.append)
    assert mine == [True] * 20 + [False]
    # Once they agree, what was lent counts: forty of sixty are in use.
    pools.receive("c", Told(list(leaders), {}))
    pools.tick(PATIENCE + 1, PATIENCE)
    for _ in range(21):
        pools.enter(name, 60, mine.append)
    assert mine[21:] == [True] * 20, "and the last one waits for what the other one has free"
    assert ("b", "Fetch") in [(member, type(message).__name__) for member, message in said]


def test_nobody_is_refused_before_all_have_told_what_they_use() -> None:
    """Not when something is given back meanwhile, either."""
    leaders = ("a", "b", "c")
    name = next(f"x{number}" for number in range(100) if owner_of(f"pool x{number}", leaders) == "a")
    pools = Pools("a", lambda member, message: None)
    pools.set_members(leaders, leaders, True)
    for member in ("b", "c"):
        pools.attach(member)
    pools.receive("b", Told(list(leaders), {name: [1, 1]}))
    mine: list[bool] = []
    pools.enter(name, 60, mine.append)
    pools.receive("b", Return(name, 1, 1, False))
    assert mine == [], "the third one has told nothing yet"
    pools.receive("c", Told(list(leaders), {}))
    assert mine == [True]
