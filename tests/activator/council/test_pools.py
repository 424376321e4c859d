"""Limits that all members keep together."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.activator.council.world import World
from zerotide.activator.council.council import GRACE, YOUNG

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
