"""Load is what was asked for, ends when it must, and its figures are those of its requests."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.billing.reports import CostReport
from zerotide.cli import load as module
from zerotide.cli.bench_text import Spread, cost_line, document, measured, rows, span, spread, summary
from zerotide.cli.load import Load, Sample, drive

TIMES = st.floats(0, 1e4)


@given(values=st.lists(TIMES, max_size=50))
def test_a_spread_is_in_order_and_made_of_values(values: list[float]) -> None:
    """Nearest ranks are values themselves; the mean lies between the least and the most."""
    found = spread(values)
    if not values:
        assert found == Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return
    assert {found.p50, found.p90, found.p99, found.max} <= set(values) and found.max == max(values)
    assert found.p50 <= found.p90 <= found.p99 <= found.max
    assert min(values) - 1e-9 <= found.mean <= found.max * (1 + 1e-9)
    assert sum(value <= found.p50 for value in values) * 2 >= len(values)


@st.composite
def some_samples(draw: st.DrawFn) -> list[Sample]:
    """Draw requests of all kinds."""
    made = []
    for code in draw(st.lists(st.sampled_from(("", "", "queue_full", "502", "not_sent")), max_size=20)):
        first = draw(TIMES)
        made.append(Sample(0.0, first + draw(TIMES), first, (), draw(st.booleans()), 3, draw(st.integers(0, 9)), code))
    return made


@given(samples=some_samples())
def test_requests_add_up(samples: list[Sample]) -> None:
    """Each was answered, failed with a code, or not sent; only answers have times and tokens."""
    found = measured(samples, 10.0)
    assert found.answered + sum(found.codes.values()) == len(samples)
    assert found.sent == len(samples) - found.codes.get("not_sent", 0)
    assert found.first.count == found.latency.count == found.answered
    assert found.input_tokens == 3 * found.answered and found.tokens_second == found.output_tokens / 10
    assert found.cold_first.count <= found.cold
    assert len(rows(found)) == 4 and len(summary(found, "x")) <= 3


def test_figures_by_hand() -> None:
    """Two answers and a failure: the time of each further token leaves the first one out."""
    cold = Sample(0.0, 6.0, 4.0, (0.5, 0.5), True, 10, 3)
    warm = Sample(1.0, 0.5, 0.0, (0.25,), False, 10, 2)
    found = measured([cold, warm, Sample(2.0, 0.1, code="queue_full")], 8.0)
    assert (found.each.p50, found.each.max) == (0.5, 1.0)
    assert found.between == Spread(3, 1.25 / 3, 0.5, 0.5, 0.5, 0.5)
    assert rows(found)[0] == ["to the first token", "2.00 s", "0.0 ms", "4.00 s", "4.00 s", "4.00 s"]
    assert summary(found, "4 at once") == [
        "3 requests in 8.00 s, 0.4 a second, 4 at once: 2 answered, and 1 queue_full.",
        "20 tokens in, 5 out: 0.6 out a second.",
        "1 of them came before a replica served; first tokens of those, the last of them after 4.00 s.",
    ]
    told = document(found, None)
    assert (told["errors"], told["cold"], told["cost"]) == ({"queue_full": 1}, 1, None)
    assert told["firstToken"]["p50"] == 0.0 and told["coldFirstToken"]["count"] == 1
    assert document(measured([], 1.0), None)["latency"] is None
    assert rows(measured([], 1.0))[0] == ["to the first token", "", "", "", "", ""]
    assert (span(0.0012), span(0.2)) == ("1.2 ms", "200 ms")


def test_what_it_cost() -> None:
    """And of how many answers the bill has not heard."""
    bill = CostReport(currency="USD", from_us=0, to_us=1, as_of_us=1, endpoints=(), total="0.0012", always_on="0")
    assert cost_line(bill, 0) == ("The endpoint cost 0.001200 USD in that time, whatever else it served then included.")
    assert cost_line(bill, 2).endswith(" The bill does not know of 2 answers yet.")
    assert document(measured([], 1.0), bill)["cost"] == {"currency": "USD", "total": "0.0012", "perMillionTokens": None}


class Server:
    """What answers after a turn of the loop, or when it is let."""

    def __init__(self, code: str = "", opened: bool = True) -> None:
        self.code, self.running, self.most, self.numbers = code, 0, 0, list[int]()
        self.opened = asyncio.Event()
        if opened:
            self.opened.set()

    async def send(self, number: int, due_s: float) -> Sample:
        """Answer."""
        self.numbers.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.opened.wait()
        finally:
            self.running -= 1
        return Sample(0.0, 0.0, code=self.code)


async def test_so_many_at_once() -> None:
    """Never more, each with its number, and no more in all than were asked for."""
    server = Server()
    samples = await drive(Load(3, 30.0, requests=20), server.send)
    assert server.most == 3 and sorted(server.numbers) == list(range(1, 21)) and len(samples) == 20


async def test_the_time_ends_it() -> None:
    """After it nothing is sent; what is under way and does not end within the grace is told."""
    server = Server(opened=False)
    samples = await drive(Load(2, 0.05, grace_s=0.05), server.send)
    assert [sample.code for sample in samples] == ["unfinished"] * 2 and server.running == 0
    assert all(sample.latency_s >= 0.09 for sample in samples)
    server = Server()
    began = asyncio.get_running_loop().time()
    assert await drive(Load(1, 0.05), server.send)
    assert asyncio.get_running_loop().time() - began < 10


async def test_a_failure_is_no_storm() -> None:
    """One that fails at once is not sent again at once."""
    server = Server(code="queue_full")
    samples = await drive(Load(1, module.PAUSE_S * 1.5), server.send)
    assert [sample.code for sample in samples] == ["queue_full"] * 2


async def test_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come when they are due, whether or not others are answered, up to a bound; the rest is told."""
    server = Server()
    samples = await drive(Load(1, 30.0, rate=2_000.0, requests=50), server.send)
    dues = [sample.due_s for sample in samples]
    assert len(samples) == 50 and dues == sorted(dues) and 0 < dues[-1] < 1
    monkeypatch.setattr(module, "MOST", 5)
    stuck = Server(opened=False)
    samples = await drive(Load(1, 0.2, rate=2_000.0, requests=30, grace_s=0.0), stuck.send)
    codes = [sample.code for sample in samples]
    assert (codes.count("unfinished"), codes.count("not_sent")) == (5, 25) and stuck.most == 5


async def test_a_mistake_is_not_swallowed() -> None:
    """What is no answer of the gateway ends the run."""

    async def send(number: int, due_s: float) -> Sample:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await drive(Load(1, 1.0), send)
