"""Budgets of money that no request passes, with real activators, a real exporter and its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tests.activator.quota.ledger import Ledger
from tests.activator.quota.test_never_passed import PROMPT, bind, eventually, stream, streaming
from tests.activator.replica import Received, Replica, send_json
from tests.activator.stack import Stack, gather, until
from tests.billing.test_rating import gpu, index
from tests.billing.test_tariffs import price
from zerotide.activator.quota.client import QuotaClient
from zerotide.api.quota import Ask, Wish
from zerotide.billing.rating import Bill, Period, bill_tokens

PRICES = index(
    gpu(),
    {**price("InputTokens", "0.001", per="One"), "validFrom": "2020-01-01T00:00:00Z"},
    {**price("OutputTokens", "0.01", per="One"), "validFrom": "2020-01-01T00:00:00Z"},
    {**price("Requests", "0.5", per="One"), "validFrom": "2020-01-01T00:00:00Z"},
)


@pytest.fixture
async def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    """Run an exporter with prices of tokens and of requests, which may be slow on a busy machine."""
    monkeypatch.setattr("zerotide.activator.quota.client.LONGEST", 20.0)
    made = Ledger(tmp_path)
    made.prices = PRICES
    async with made as running:
        yield running


async def billed(ledger: Ledger) -> Fraction:
    """Return what the tokens and requests of the ledger cost by its bill."""
    attempts = await ledger.store.run(lambda store: store.attempts())
    bill = Bill(ledger.prices)
    bill_tokens(bill, attempts, Period(0, 2**62))
    return sum((line.amount for line in bill.lines().values()), Fraction(0))


async def all_free(ledger: Ledger) -> None:
    """Wait until nothing is reserved."""

    async def free() -> bool:
        return await ledger.held() == 0

    await eventually(free)


async def test_one_that_does_not_fit_is_refused_with_what_is_left(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.money("0.75"))
    refused = await activators[0].post(body={**PROMPT, "max_tokens": 10})
    assert (refused.status, refused.code) == (402, "budget_exhausted")
    message = refused.json["error"]["message"]
    assert message.startswith("budget hard of namespace demo: 0.75 of 0.75 USD are left, and 0.9")
    assert " would have to be reserved; it begins anew at " in message
    assert replica.posts == []


async def test_what_is_not_used_comes_back(activators: list[Stack], ledger: Ledger) -> None:
    bind(activators, ledger.money("100"))
    assert (await activators[0].post(body={**PROMPT, "max_tokens": 50})).status == 200
    await all_free(ledger)
    # 5 tokens in and 7 out.
    assert await billed(ledger) == Fraction(5, 1000) + Fraction(7, 100) + Fraction(1, 2)
    assert await ledger.used() == 12


async def test_a_crowd_over_two_activators_passes_no_limit(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.money("5"))
    replica.hold = asyncio.Event()
    body = {**PROMPT, "max_tokens": 10}
    tasks = [asyncio.create_task(stack.post(body=body)) for stack in activators for _ in range(20)]
    await until(lambda: sum(task.done() for task in tasks) + replica.in_flight == len(tasks), 20)
    replica.hold.set()
    answers = await gather(*tasks)
    assert {answer.status for answer in answers} == {200, 402}
    # Each reserves about 0.94.
    assert 4 <= sum(answer.status == 200 for answer in answers) <= 5
    # What they did not use is there again, until it is used up as well: never more than was to be had. What is on its
    # way to the ledger may count twice for a moment, so nothing may be when one is refused.
    status = 200
    while status == 200:
        await all_free(ledger)
        status = (await activators[0].post(body=body)).status
    await all_free(ledger)
    assert 4 < await billed(ledger) <= 5


@pytest.mark.parametrize("tells", [True, False])
async def test_streams_end_where_the_money_does(
    activators: list[Stack], ledger: Ledger, replica: Replica, tells: bool
) -> None:
    replica.behave = streaming(5000, tells=tells)
    bind(activators, ledger.money("120"))
    streams = await gather(*(stream(stack) for stack in activators for _ in range(3)))
    ended = [body for status, body in streams if status == 200 and b"[DONE]" not in body]
    assert ended, "each would come to 200 USD by its text"
    for body in ended:
        last = body.rstrip().rsplit(b"\n\n", 1)[-1]
        assert b"budget_exhausted" in last and b" USD are left" in last
    await all_free(ledger)
    assert 0 < await billed(ledger) <= 120


async def test_what_time_has_cost_is_not_there_to_be_reserved(activators: list[Stack], ledger: Ledger) -> None:
    bind(activators, ledger.money("10"))
    body = {**PROMPT, "max_tokens": 10}
    assert (await activators[0].post(body=body)).status == 200
    await all_free(ledger)
    for start in ledger.timed["demo", "hard"]:
        ledger.timed["demo", "hard"][start] = Fraction(9)
    refused = await activators[1].post(body=body)
    assert (refused.status, refused.code) == (402, "budget_exhausted")
    left = Decimal(refused.json["error"]["message"].partition(": ")[2].partition(" of ")[0])
    assert left == Decimal("0.425")


async def test_without_prices_of_tokens_only_time_uses_it_up(activators: list[Stack], ledger: Ledger) -> None:
    ledger.prices = index(gpu())
    bind(activators, ledger.money("0.50"))
    body = {**PROMPT, "max_tokens": 10}
    assert (await activators[0].post(body=body)).status == 200
    for start in ledger.timed["demo", "hard"]:
        ledger.timed["demo", "hard"][start] = Fraction(1, 2)

    async def refused() -> bool:
        return (await activators[1].post(body=body)).code == "budget_exhausted"

    await eventually(refused)


async def test_what_cannot_be_reckoned_is_not_served_and_says_why(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.money("5"))
    times = ledger.timed.pop(("demo", "hard"))
    body = {**PROMPT, "max_tokens": 10}
    refused = await activators[0].post(body=body)
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert "what the time of replicas has cost is not reckoned yet" in refused.json["error"]["message"]
    ledger.timed["demo", "hard"] = times
    bind(activators, ledger.money("5", currency="EUR"))
    refused = await activators[0].post(body=body)
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert "nothing is priced in EUR: the price book has USD" in refused.json["error"]["message"]
    assert replica.posts == []


async def test_an_activator_that_knows_budgets_of_tokens_alone_gets_no_money(ledger: Ledger) -> None:
    """It would spend billionths of a dollar as so many tokens."""
    ledger.money("5")
    client = QuotaClient(*ledger.exporter)
    older = Wish(namespace="demo", budget="hard", keep=0, needs=(100, 200), spare=1000)
    ask = Ask(pod="p", process="0", born_us=1, number=1, inherited=False, wishes=(older,))
    (grant,) = (await client.post(ask)).grants or ()
    assert (grant.amount, await ledger.held()) == (None, 0)
    assert "an older version" in grant.reason
    await client.close()


async def test_an_engine_that_tells_of_far_too_much_stops_nothing_but_its_own_budget(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    """A billion tokens at a high price are more than 64 bits have billionths for."""
    dear = {**price("OutputTokens", "100", per="One"), "validFrom": "2020-01-01T00:00:00Z"}
    ledger.prices = index(gpu(), dear)

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1_000_000_000}})

    replica.behave = behave
    bind(activators, ledger.money("100000"))
    body = {**PROMPT, "max_tokens": 10}
    assert (await activators[0].post(body=body)).status == 200
    assert (await activators[0].post(body=body)).code == "budget_exhausted"
    await all_free(ledger)
    assert await billed(ledger) == 100 * 10**9
    assert (await activators[1].post(body=body)).code == "budget_exhausted"
