"""Three activators with real connections: one line, exact bounds, and nobody is lost with somebody else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.activator.council.fleet import Fleet
from tests.activator.replica import Received, Replica, answer
from tests.activator.stack import Stack, gather, until
from zerotide.activator.council.links import MEMBER, PATH


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Run three activators."""
    async with Fleet(tmp_path, 3) as running:
        yield running


def done(tasks: Sequence[asyncio.Task[Any]], number: int) -> bool:
    """Tell whether so many have ended."""
    return sum(task.done() for task in tasks) == number


def is_warm(fleet: Fleet, stack: Stack) -> bool:
    """Tell whether an activator can reach a replica."""
    return not fleet.of(stack).gate.cold


async def slow(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer after a moment."""
    await asyncio.sleep(0.005)
    await answer(request, writer)


async def test_exactly_ten_are_held(fleet: Fleet, replica: Replica) -> None:
    """Fifty at once over three: ten wait and are served, forty are told so; then there is room for ten again."""
    await fleet.endpoint(hold={"maxRequests": 10})
    for _ in range(2):
        tasks = [fleet.post(fleet.stacks[number % 3]) for number in range(50)]
        await until(partial(done, tasks, 40))
        assert sum(fleet.held(stack) for stack in fleet.stacks) == 10
        assert fleet.of(fleet.owner()).gate.held == 10
        fleet.pod(replica)
        answers = await gather(*tasks)
        assert Counter((answer.status, answer.code) for answer in answers) == {(200, ""): 10, (429, "queue_full"): 40}
        for stack in fleet.stacks:
            stack.delete_pod()
        assert all(fleet.of(stack).gate.cold for stack in fleet.stacks)


async def test_one_activator_may_hold_all(fleet: Fleet) -> None:
    """Nobody is refused while fewer than the bound are held, wherever they are."""
    await fleet.endpoint(hold={"maxRequests": 10})
    other = next(stack for stack in fleet.stacks if stack is not fleet.owner())
    tasks = [fleet.post(other) for _ in range(10)]
    await until(lambda: fleet.of(fleet.owner()).gate.held == 10)
    for stack in fleet.stacks:
        assert (await fleet.post(stack)).code == "queue_full"
    for task in tasks[:3]:
        task.cancel()
    await until(lambda: fleet.of(fleet.owner()).gate.held == 7)
    more = [fleet.post(stack) for stack in fleet.stacks]
    await until(lambda: fleet.of(fleet.owner()).gate.held == 10)
    for task in (*tasks, *more):
        task.cancel()


async def test_the_order_is_that_of_coming_over_all(fleet: Fleet, replica: Replica) -> None:
    """One after the other at three activators, with one seat: they are served in that order, one at a time."""
    await fleet.endpoint(hold={"maxRequests": 100}, scaling={"concurrency": {"target": 1, "limit": 1}})
    replica.hold = asyncio.Event()
    fleet.pod(replica)
    await fleet.warm()
    tasks = [fleet.post(fleet.stacks[0], "first")]
    await until(lambda: replica.in_flight == 1)
    for number in range(30):
        tasks.append(fleet.post(fleet.stacks[number * 7 % 3], str(number)))
        await fleet.holds(number + 1)
    replica.hold.set()
    assert {answer.status for answer in await gather(*tasks)} == {200}
    assert replica.most_in_flight == 1
    assert [json.loads(post.body)["user"] for post in replica.posts] == ["first", *map(str, range(30))]


async def test_a_replica_gets_no_more_than_its_limit(fleet: Fleet, replica: Replica) -> None:
    """Two hundred at once over three activators, four at a time, none lost."""
    async with Replica() as second:
        await fleet.endpoint(
            hold={"maxRequests": 500},
            scaling={"maxReplicas": 2, "concurrency": {"target": 4, "limit": 4}},
            access={"maxInFlightPerConsumer": 1000},
        )
        fleet.pod(replica)
        fleet.pod(second, "m-2")
        replica.behave = second.behave = slow
        await fleet.warm(2)
        for _ in range(2):
            answers = await gather(*(fleet.post(fleet.stacks[number % 3]) for number in range(200)))
            assert {answer.status for answer in answers} == {200}
        assert replica.most_in_flight == second.most_in_flight == 4
        await until(lambda: not any(fleet.of(stack).gate.busy for stack in fleet.stacks))


async def test_a_warm_request_asks_nobody(fleet: Fleet, replica: Replica) -> None:
    """After the first one at an activator nothing is said between them."""
    await fleet.endpoint()
    fleet.pod(replica)
    await fleet.warm()
    for stack in fleet.stacks:
        assert (await fleet.post(stack)).status == 200
    said: list[object] = []
    for stack in fleet.stacks:
        stack.registry.council.send = lambda name, message: said.append(message)
    for _ in range(10):
        for stack in fleet.stacks:
            assert (await fleet.post(stack)).status == 200
    assert not said


async def test_who_waits_for_nothing_is_answered_where_it_came(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing serves: no other activator is asked, one that does not answer least of all; the endpoint wakes."""
    await fleet.endpoint(access={"maxInFlightPerConsumer": 1})
    said: list[Any] = []
    for stack in fleet.stacks:
        monkeypatch.setattr(stack.registry.council, "send", lambda name, message: said.append(message))
    for stack in fleet.stacks:
        answer = await stack.post(prefer="wait=0")
        assert (answer.status, answer.code) == (503, "endpoint_cold")
    assert said == []
    await until(lambda: fleet.api.applied)


async def test_an_affinity_leads_to_one_replica_over_all(fleet: Fleet) -> None:
    """Whichever activator a request comes to, one beginning leads to one replica, within the bound of load of all."""
    async with AsyncExitStack() as exits:
        replicas = [await exits.enter_async_context(Replica()) for _ in range(3)]
        await fleet.endpoint(routing={"policy": "PrefixAffinity"})
        for number, replica in enumerate(replicas):
            fleet.pod(replica, f"m-{number}")
        await fleet.warm(3)
        owner = fleet.of(fleet.owner()).gate
        for conversation in range(6):
            before = [len(replica.posts) for replica in replicas]
            for number in range(6):
                body = {"model": "m", "messages": [{"role": "user", "content": f"{conversation} {'x' * 300}"}]}
                assert (await fleet.stacks[number % 3].post(body=body)).status == 200
                await until(lambda: not any(seat.in_flight for seat in owner.seats.values()))
            after = [len(replica.posts) for replica in replicas]
            assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 6]
        for replica in replicas:
            replica.hold = asyncio.Event()
        tasks = [fleet.post(fleet.stacks[number % 3]) for number in range(12)]
        await until(lambda: sum(replica.in_flight for replica in replicas) == 12)
        assert max(replica.in_flight for replica in replicas) <= 5
        for replica in replicas:
            assert replica.hold is not None
            replica.hold.set()
        assert {answer.status for answer in await gather(*tasks)} == {200}


async def test_replicas_are_loaded_alike_from_everywhere(fleet: Fleet) -> None:
    """Whoever is lent seats has some of every replica, so each activator spreads its requests, and so do all."""
    async with AsyncExitStack() as exits:
        replicas = [await exits.enter_async_context(Replica()) for _ in range(2)]
        await fleet.endpoint()
        for number, replica in enumerate(replicas):
            fleet.pod(replica, f"m-{number}")
        await fleet.warm(2)
        others = [stack for stack in fleet.stacks if stack is not fleet.owner()]
        for senders in (others[:1], others, fleet.stacks):
            for stack in senders:
                assert (await fleet.post(stack)).status == 200
            for replica in replicas:
                replica.hold = asyncio.Event()
            tasks = [fleet.post(senders[number % len(senders)]) for number in range(12)]
            await until(lambda: sum(replica.in_flight for replica in replicas) == 12)
            first, second = (replica.in_flight for replica in replicas)
            assert abs(first - second) <= len(senders)
            for replica in replicas:
                assert replica.hold is not None
                replica.hold.set()
            assert {answer.status for answer in await gather(*tasks)} == {200}


async def test_the_death_of_the_owner(fleet: Fleet, replica: Replica) -> None:
    """Fifty are held over three; those at the owner are lost with it, the others are served in their order."""
    await fleet.endpoint(hold={"maxRequests": 50}, scaling={"concurrency": {"target": 1, "limit": 1}})
    owner = fleet.owner()
    tasks = []
    for number in range(50):
        stack = fleet.stacks[number % 3]
        tasks.append((stack, number, fleet.post(stack, str(number))))
        await fleet.holds(number + 1)
    kept = [(number, task) for stack, number, task in tasks if stack is not owner]
    alive = [stack for stack in fleet.stacks if stack is not owner]
    await kill(owner)
    await asyncio.gather(*(task for stack, _, task in tasks if stack is owner), return_exceptions=True)
    fleet.stacks = alive
    fleet.tell(alive)
    await fleet.calm()
    assert fleet.of(fleet.owner()).gate.held == len(kept)
    late = fleet.post(alive[0], "late")
    await fleet.holds(len(kept) + 1)
    for stack in sorted(alive, key=lambda stack: stack is fleet.owner()):
        stack.pod(replica.port)
        await until(partial(is_warm, fleet, stack))
    assert {answer.status for answer in await gather(*(task for _, task in kept), late)} == {200}
    assert replica.most_in_flight == 1
    served = [json.loads(post.body)["user"] for post in replica.posts]
    assert sorted(served[1:-1], key=int) == served[1:-1] and served[-1] == "late"


async def kill(stack: Stack) -> None:
    """End an activator without a word to anybody."""
    links = stack.service.links
    assert links is not None
    for link in list(links._links.values()):
        transport = link.socket.get_extra_info("transport") if hasattr(link.socket, "get_extra_info") else None
        if transport is not None:
            transport.abort()
    await stack.service.server.close()
    await links.close()


async def test_alone_it_keeps_to_its_share_and_comes_back(fleet: Fleet) -> None:
    """An activator that cannot talk to the others holds its third; together again they hold all."""
    await fleet.endpoint(hold={"maxRequests": 9})
    owner = fleet.owner()
    lonely = next(stack for stack in fleet.stacks if stack is not owner)
    links = lonely.service.links
    assert links is not None
    members = lonely.registry._members
    lonely.registry.set_members([member._replace(address="") for member in members])
    for stack in fleet.stacks:
        if stack is not lonely:
            stack.registry.set_members(
                [m._replace(address="" if m.name == lonely.service.settings.pod_name else m.address) for m in members]
            )
    for link in list(links._links.values()):
        await link.socket.close()
    await until(lambda: fleet.of(lonely).gate.bounds.max_requests == 3)
    tasks = [fleet.post(lonely) for _ in range(4)]
    await until(lambda: sum(task.done() for task in tasks) == 1)
    third = next(stack for stack in fleet.stacks if stack not in (owner, lonely))
    more = [fleet.post(third) for _ in range(7)]
    await until(lambda: sum(task.done() for task in more) == 1)
    assert sum(fleet.held(stack) for stack in fleet.stacks) == 9
    for stack in fleet.stacks:
        stack.registry.set_members(members)
    await until(lambda: fleet.of(owner).gate.held == 9 and fleet.of(owner).gate.reserved == (0, 0))
    for task in (*tasks, *more):
        task.cancel()
    await until(lambda: fleet.of(owner).gate.held == 0)


@pytest.mark.parametrize(
    ("token", "member", "status"),
    [
        ("", "act-9", 401),
        ("token-of nobody-else", "act-9", 403),
        ("forged", "act-9", 401),
        ("token-of system:serviceaccount:zerotide-system:zerotide-activator", "", 400),
    ],
)
async def test_nobody_else_is_let_in(fleet: Fleet, token: str, member: str, status: int) -> None:
    """Only the activators' own ServiceAccount may take part, and says which activator it is."""
    stack = fleet.stacks[0]
    url = f"http://127.0.0.1:{stack.registry.council_port}{PATH}"
    headers = {"Authorization": f"Bearer {token}", MEMBER: member}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stack.session.ws_connect(url, headers=headers)
    assert refused.value.status == status


SHAPELESS = (
    b'["Report","uid",{"r":"1"},[],[]]\n',
    b'["Report","uid",{},[1],[]]\n',
    b'["Report","uid",{},[],[7]]\n',
    b'["Told",[],{"x":[1]}]\n',
    b'["Told",[1],{}]\n',
)


async def test_nonsense_ends_the_connection(fleet: Fleet) -> None:
    """And nothing else: the others go on."""
    stack = fleet.stacks[0]
    url = f"http://127.0.0.1:{stack.registry.council_port}{PATH}"
    headers = {"Authorization": f"Bearer {fleet._token.read_text()}", MEMBER: "act-9"}
    for nonsense in (b"{\n", b'["Grant","uid"]\n', b'["Sing","uid"]\n', b'["Grant","uid",true,1]\n', *SHAPELESS):
        async with stack.session.ws_connect(url, headers=headers) as socket:
            await socket.send_bytes(nonsense)
            while (await socket.receive(5)).type is aiohttp.WSMsgType.BINARY:
                pass
            assert socket.closed
    assert len(stack.registry.council.linked) == 2


async def test_a_consumer_s_limit_is_exact(fleet: Fleet, replica: Replica) -> None:
    """Ten of its requests are let in wherever they come, the eleventh is refused, and who leaves makes room for one."""
    uid = await fleet.endpoint(access={"maxInFlightPerConsumer": 10})

    def counted() -> int:
        return sum(stack.registry.council.pools.count(f"{uid} demo/team-a") for stack in fleet.stacks)

    replica.hold = asyncio.Event()
    fleet.pod(replica)
    await fleet.warm()
    for stack in (fleet.stacks[0], fleet.stacks[2], fleet.stacks[1]):
        tasks = [fleet.post(stack) for _ in range(10)]
        await until(lambda: counted() == 10)
        for other in fleet.stacks:
            assert (await fleet.post(other)).code == "consumer_limit"
        tasks.pop().cancel()
        await until(lambda: counted() == 9)
        tasks.append(fleet.post(fleet.stacks[0]))
        await until(lambda: counted() == 10)
        assert (await fleet.post(fleet.stacks[1])).code == "consumer_limit"
        replica.hold.set()
        assert {answer.status for answer in await gather(*tasks)} == {200}
        await until(lambda: counted() == 0)
        replica.hold = asyncio.Event()
