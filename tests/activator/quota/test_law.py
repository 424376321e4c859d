"""The law of quota slices over a thousand interleavings: never passed, nothing kept for ever, whoever dies when.

Of tokens and of money alike. Of money it is about what requests cost: time goes on, and is known when it is reserved.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerotide.activator.admission.naming import Name
from zerotide.activator.failures import LedgerSilent
from zerotide.activator.quota.bounds import Bound
from zerotide.activator.quota.hold import Hold
from zerotide.activator.quota.office import Log, Office, Process
from zerotide.activator.quota.slices import TOKENS, Use
from zerotide.activator.usage.lines import Mark
from zerotide.api.errors import Rejection
from zerotide.api.quota import Ask, Grant, Grants, cost_of
from zerotide.billing.quotas import Holder, room

BUDGET = Name("demo", "hard")
LIMIT = 8000
PODS = 3
STEPS = 60
seen: Counter[str] = Counter()
"""What happened in all interleavings, so that none of it never does."""


@dataclass
class Ledger:
    """What the exporter has on its disk."""

    price: tuple[int, int, int] = TOKENS
    """What is used up by a token that comes, a token that is made and a request."""
    tariff: tuple[int, int, int] | None = None
    """As what they are reserved, None where tokens are limited."""
    records: dict[str, Use] = field(default_factory=dict)
    time: int = 0
    """What time has cost."""
    known: int = 0
    """What of it was known when anything was reserved last."""
    rows: dict[Holder, tuple[int, int]] = field(default_factory=dict)
    youngest: dict[str, int] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Return what is used."""
        return sum(use.cost(self.price) for use in self.records.values())

    def answer(self, ask: Ask) -> Grants:
        """Answer as the desk does, in one transaction."""
        me = Holder(ask.pod, ask.process, ask.born_us)
        if ask.born_us < self.youngest.setdefault(ask.pod, ask.born_us):
            return Grants(grants=None)
        self.youngest[ask.pod] = ask.born_us
        if ask.inherited:
            for old in [row for row in self.rows if row[:2] == me[:2] and row.born_us < me.born_us]:
                del self.rows[old]
        if not ask.wishes:
            return Grants(grants=())
        (wish,) = ask.wishes
        if me in self.rows and self.rows[me][0] >= ask.number:
            return Grants(grants=None)
        others = sum(amount for row, (_, amount) in self.rows.items() if row != me)
        needs = wish.needs if self.tariff is None else tuple(cost_of(want, self.tariff) for want in wish.wants)
        found = room(LIMIT, self.used + self.time, others, wish.keep, needs, wish.spare)
        if found.amount > wish.keep:
            self.known = self.time
        self.rows[me] = (ask.number, found.amount)
        return Grants(grants=(Grant(amount=found.amount, left=found.left, limit=LIMIT, tariff=self.tariff),))


@dataclass
class Sent:
    """An ask on its way."""

    ask: Ask
    answer: asyncio.Future[Grants]


class Pod:
    """An activator: its log outlives its process, its process outlives nothing."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.log: list[tuple[str, Use]] = []
        self.sent: list[Sent] = []
        self.born = 0
        self.shipped = 0
        self.gone = False
        self.start()

    def start(self) -> None:
        """Begin a process."""
        self.born += 1
        self.inherited = len(self.log)
        world, born = self.world, self.born
        log = Log(lambda: Mark(1, len(self.log)), lambda: self.shipped >= self.inherited, born > 1, lambda: False)
        self.office = Office(Process(self.name, "0", born), log, self.post, lambda: world.now, lambda: born)
        self.holds: list[Hold] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.asking: asyncio.Task[None] | None = None

    async def post(self, ask: Ask) -> Grants:
        """Send an ask."""
        sent = Sent(ask, asyncio.get_running_loop().create_future())
        self.sent.append(sent)
        return await sent.answer

    @property
    def outstanding(self) -> int:
        """Return what is reserved or used, and not in the ledger, as nobody but the test can know."""
        ledger = self.world.ledger
        unshipped = sum(use.cost(ledger.price) for id, use in self.log if id not in ledger.records)
        return unshipped + sum(
            Use(hold.input, hold.answer, 1).cost(ledger.tariff or ledger.price) for hold in self.holds
        )

    async def begin(self, bound: Bound, stream: bool) -> None:
        """Begin a request."""
        hold = Hold(self.office, (BUDGET,), bound)
        try:
            await hold.begin(stream)
        except Rejection as rejection:
            seen[rejection.code.value] += 1
            return
        seen["served"] += 1
        self.holds.append(hold)

    async def more(self, hold: Hold) -> None:
        """Reserve the next step of a stream."""
        try:
            await hold.ask(20)
        except Rejection as rejection:
            seen[f"stream {rejection.code.value}"] += 1

    def end(self, hold: Hold, taken: int, made: int) -> None:
        """End a request that used so many tokens."""
        self.holds.remove(hold)
        hold.used = Use(taken, made, 1)
        self.log.append((f"{self.name}-{len(self.log)}", hold.used))
        hold.end()

    async def die(self) -> None:
        """End the process; what it had under way is settled as nothing when its log is found."""
        tasks = [*self.tasks, *([self.asking] if self.asking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.holds.clear()


class World:
    """Three activators, an exporter, and a network between them that loses and delays."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.now = rng, 0.0
        self.ledger = Ledger()
        if rng.random() < 0.5:
            # A token that is cached, or a price that falls, costs less than it is reserved as.
            self.ledger.tariff = (rng.randrange(3), rng.randrange(4), rng.randrange(1, 300))
            self.ledger.price = tuple(rng.randint(0, most) for most in self.ledger.tariff)  # type: ignore[assignment]
            seen["money"] += 1
        self.late: list[Ask] = []
        self.pods = [Pod(self, f"p{number}") for number in range(PODS)]

    def run(self, work: asyncio.Task[None], pod: Pod) -> None:
        """Keep a task of a pod."""
        pod.tasks.add(work)
        work.add_done_callback(pod.tasks.discard)

    # Steps

    async def begin(self, pod: Pod) -> None:
        """A request comes."""
        bound = Bound(self.rng.randrange(1, 300), self.rng.choice((None, self.rng.randrange(3000))), 1)
        self.run(asyncio.create_task(pod.begin(bound, self.rng.random() < 0.5 or bound.output is None)), pod)

    async def end(self, pod: Pod) -> None:
        """A request ends, or its client leaves."""
        if pod.holds:
            hold = self.rng.choice(pod.holds)
            pod.end(hold, self.rng.randint(0, hold.input), self.rng.randint(0, hold.answer))

    async def grow(self, pod: Pod) -> None:
        """A stream goes on."""
        streams = [hold for hold in pod.holds if not hold.whole]
        if streams and not any(task for task in pod.tasks):
            hold = self.rng.choice(streams)
            if not hold.grow(20):
                self.run(asyncio.create_task(pod.more(hold)), pod)

    async def ask(self, pod: Pod) -> None:
        """It asks, as it does now and then and when somebody waits."""
        if pod.asking is None or pod.asking.done():
            pod.asking = asyncio.create_task(pod.office.ask())

    async def deliver(self, pod: Pod) -> None:
        """The network does with an ask what networks do."""
        if not pod.sent:
            return
        sent = pod.sent.pop(self.rng.randrange(len(pod.sent)))
        what = self.rng.choice(("answered", "answered", "answered", "answer lost", "ask lost", "ask late"))
        seen[what] += 1
        grants = self.ledger.answer(sent.ask) if what in ("answered", "answer lost") else None
        if what == "ask late":
            self.late.append(sent.ask)
        if not sent.answer.done():
            if what == "answered" and grants is not None:
                sent.answer.set_result(grants)
            else:
                sent.answer.set_exception(LedgerSilent("lost"))

    async def overtake(self, pod: Pod) -> None:
        """An ask arrives that everybody has forgotten."""
        if self.late:
            seen["overtaken"] += self.ledger.answer(self.late.pop()).grants is None

    async def ship(self, pod: Pod) -> None:
        """Usage reaches the ledger; the acknowledgement may be lost."""
        self.ledger.records.update(pod.log)
        if self.rng.random() < 0.7:
            pod.shipped = len(pod.log)
            pod.office.shipped(Mark(1, pod.shipped))

    async def restart(self, pod: Pod) -> None:
        """A process dies, and another one takes its log over."""
        if self.rng.random() < 0.2:
            seen["death"] += 1
            await pod.die()
            pod.start()

    async def vanish(self, pod: Pod) -> None:
        """A pod dies with its log; another one comes in its place."""
        if self.rng.random() < 0.1:
            seen["gone"] += 1
            await pod.die()
            pod.gone = True
            self.pods.remove(pod)
            self.pods.append(Pod(self, f"{pod.name}x"))

    async def sweep(self, pod: Pod) -> None:
        """The exporter takes back the slices of pods that are gone."""
        living = {each.name for each in self.pods}
        for holder in [holder for holder in self.ledger.rows if holder.pod not in living]:
            seen["taken back"] += 1
            del self.ledger.rows[holder]
        # Nothing that such a pod sent is still on its way once its slice is over.
        self.late = [ask for ask in self.late if ask.pod in living]

    async def wait(self, pod: Pod) -> None:
        """Time goes by; a slice may become too old."""
        self.now += self.rng.choice((0.5, 20.0))
        if self.ledger.tariff is not None:
            self.ledger.time += self.rng.randrange(4000)

    def check(self) -> None:
        """The law."""
        ledger = self.ledger
        assert ledger.used + ledger.known + sum(pod.outstanding for pod in self.pods) <= LIMIT
        seen["passed by time"] += ledger.used + ledger.time > LIMIT

    async def live(self) -> None:
        """Live through one interleaving, then come to rest."""
        steps: list[Callable[[Pod], object]] = [
            *(self.begin, self.begin, self.begin, self.end, self.end, self.grow, self.ask, self.ask, self.ask),
            *(self.deliver, self.deliver, self.deliver, self.overtake, self.ship),
            *(self.restart, self.vanish, self.sweep, self.wait),
        ]
        for _ in range(STEPS):
            await self.rng.choice(steps)(self.rng.choice(self.pods))  # type: ignore[misc]
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
            self.check()
        await self.rest()

    async def answer_all(self, pod: Pod) -> None:
        """Have it ask, and be answered, until nobody waits."""
        while True:
            await self.ask(pod)
            await asyncio.sleep(0)
            for sent in pod.sent:
                if not sent.answer.done():
                    sent.answer.set_result(self.ledger.answer(sent.ask))
            pod.sent.clear()
            for _ in range(4):
                await asyncio.sleep(0)
            if not pod.tasks and (pod.asking is None or pod.asking.done()):
                return

    async def rest(self) -> None:
        """Let everything end: then nothing is reserved, and the ledger has what was used."""
        for _ in range(4):
            for pod in self.pods:
                while pod.holds:
                    pod.end(pod.holds[-1], 1, 0)
                self.ledger.records.update(pod.log)
                pod.shipped = len(pod.log)
                pod.office.shipped(Mark(1, pod.shipped))
                await self.answer_all(pod)
                self.check()
        await self.sweep(self.pods[0])
        assert sum(amount for _, amount in self.ledger.rows.values()) == 0
        assert sum(pod.outstanding for pod in self.pods) == 0


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64))
def live_through(seed: int) -> None:
    """Live through an interleaving."""
    asyncio.run(World(random.Random(seed)).live())


def test_a_thousand_interleavings() -> None:
    seen.clear()
    live_through()
    for what in ("budget_exhausted", "ledger_unavailable", "stream budget_exhausted", "stream ledger_unavailable"):
        assert seen[what], what
    for what in ("money", "passed by time"):
        assert seen[what], what
    for what in ("served", "answer lost", "ask lost", "overtaken", "death", "gone", "taken back"):
        assert seen[what], what
