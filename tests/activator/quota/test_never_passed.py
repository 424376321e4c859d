"""Budgets that are never passed, with real activators, a real exporter and its ledger, streams included."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession

from tests.activator.quota.ledger import Ledger
from tests.activator.replica import Events, Received, Replica, send_json
from tests.activator.stack import Stack, gather, until
from zerotide.activator.failures import LedgerSilent
from zerotide.activator.quota.birth import birth
from zerotide.activator.quota.client import QuotaClient
from zerotide.activator.usage.backlog import Cause
from zerotide.api.quota import PATH, Ask, Grants
from zerotide.kube import Change, Clock

PROMPT = {"model": "m", "messages": [{"role": "user", "content": "Tell me everything."}]}


@pytest.fixture
async def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    """Run an exporter, which may be slow on a busy machine."""
    monkeypatch.setattr("zerotide.activator.quota.client.LONGEST", 20.0)
    async with Ledger(tmp_path) as running:
        yield running


def bind(stacks: list[Stack], obj: dict[str, Any]) -> None:
    """Let activators know a budget."""
    for stack in stacks:
        stack.registry.budget_changed(Change("set", obj))


async def eventually(look: Callable[[], Awaitable[Any]], timeout: float = 20.0) -> None:
    """Wait until something is true that has to be asked for."""
    async with asyncio.timeout(timeout):
        while not await look():
            await asyncio.sleep(0.02)


def streaming(words: int, *, tells: bool = True) -> Callable[[Received, asyncio.StreamWriter], Awaitable[None]]:
    """Return an engine that streams so many words of four letters, and tells its usage at the end."""

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        stream = Events(writer)
        for _ in range(words):
            await stream.event({"choices": [{"index": 0, "delta": {"content": "word"}}]})
        if tells:
            await stream.event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": words}})
        await stream.event("[DONE]")
        stream.end()

    return behave


async def stream(stack: Stack) -> tuple[int, bytes]:
    """Ask for a stream and read it up to its end, or to where it is cut."""
    headers = {"authorization": f"Bearer {stack.keys['k']}"}
    read = bytearray()
    url = stack.url + "/v1/chat/completions"
    async with stack.session.post(url, json={**PROMPT, "stream": True}, headers=headers) as answer:
        with suppress(ClientPayloadError):
            async for piece in answer.content.iter_any():
                read += piece
        return answer.status, bytes(read)


async def test_a_request_that_does_not_fit_is_refused_by_name(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.budget(100))
    refused = await activators[0].post(body={**PROMPT, "max_tokens": 10})
    assert (refused.status, refused.code) == (402, "budget_exhausted")
    size = len(json.dumps({**PROMPT, "max_tokens": 10})) + 256 + 10
    message = refused.json["error"]["message"]
    assert message.startswith(
        f"budget hard of namespace demo: 100 of 100 tokens are left, and {size} would have to be reserved; "
        "it begins anew at "
    )
    assert replica.posts == []


async def test_what_is_not_used_comes_back(activators: list[Stack], ledger: Ledger) -> None:
    bind(activators, ledger.budget(2000))
    assert (await activators[0].post(body={**PROMPT, "max_tokens": 50})).status == 200

    async def settled() -> bool:
        return await ledger.used() == 12 and await ledger.held() == 0

    await eventually(settled)
    quota = activators[0].service.quota
    assert quota is not None
    await until(lambda: not quota.office.slices, 20)


async def test_a_crowd_over_two_activators_passes_no_limit(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.budget(2500))
    body = {**PROMPT, "max_tokens": 40}
    replica.hold = asyncio.Event()
    tasks = [asyncio.create_task(stack.post(body=body)) for stack in activators for _ in range(40)]
    await until(lambda: sum(task.done() for task in tasks) + replica.in_flight == len(tasks), 20)
    replica.hold.set()
    answers = await gather(*tasks)
    served = [answer for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers} == {200, 402}
    # Each reserves about 400, and what one activator has to spare is not the other's.
    assert 4 <= len(served) <= 6

    async def settled() -> bool:
        return await ledger.used() == 12 * len(served) and await ledger.held() == 0

    await eventually(settled)


@pytest.mark.parametrize("tells", [True, False])
async def test_streams_end_where_the_budget_does(
    activators: list[Stack], ledger: Ledger, replica: Replica, tells: bool
) -> None:
    replica.behave = streaming(5000, tells=tells)
    bind(activators, ledger.budget(12_000))
    streams = await gather(*(stream(stack) for stack in activators for _ in range(3)))
    ended = [body for status, body in streams if status == 200 and b"[DONE]" not in body]
    assert ended, "each would come to 20 000 tokens by its text"
    for body in ended:
        last = body.rstrip().rsplit(b"\n\n", 1)[-1]
        assert last.startswith(b'data: {"error"'), last
        error = json.loads(last[6:])["error"]
        assert (error["code"], error["status"]) == ("budget_exhausted", 402)
        assert "budget hard of namespace demo" in error["message"]

    async def settled() -> bool:
        return await ledger.held() == 0

    await eventually(settled)
    assert 0 < await ledger.used() <= 12_000


async def test_a_stream_that_is_cut_leaves_the_connection_to_who_has_it(
    activators: list[Stack], ledger: Ledger, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer had all come by then, and the replica's connection served another request, which would never end."""
    stack = activators[0]
    stack.key("other", consumer="team-b")
    assert stack.service.quota is not None
    office, used = stack.service.quota.office, list[asyncio.StreamWriter]()
    post, may_ask, again, may_answer = office._post, asyncio.Event(), asyncio.Event(), asyncio.Event()
    may_ask.set()

    async def asking(ask: Ask) -> Grants:
        await may_ask.wait()
        return await post(ask)

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        used.append(writer)
        if len(used) == 1:
            may_ask.clear()
            await streaming(5000)(request, writer)
        else:
            again.set()
            await may_answer.wait()
            send_json(writer, {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 1}})

    monkeypatch.setattr(office, "_post", asking)
    replica.behave = behave
    bind(activators, ledger.budget(12_000, scope={"consumers": ["team-a"]}))
    async with asyncio.timeout(40):
        first = asyncio.create_task(stream(stack))
        await until(lambda: used and not replica.in_flight, 20)
        second = asyncio.create_task(stack.post(key="other"))
        await again.wait()
        assert used[0] is used[1], "or this shows nothing"
        may_ask.set()
        status, body = await first
        assert (status, b"budget_exhausted" in body) == (200, True)
        may_answer.set()
        assert (await second).status == 200


async def test_a_stream_that_fits_is_passed_on_whole_step_by_step(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    """Word by word, as engines do: it comes to three steps, each reserved before it is needed."""
    words = 700
    most = 0

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        answer = Events(writer)
        for number in range(words):
            await answer.event({"choices": [{"index": 0, "delta": {"content": "word"}}]})
            if not number % 50:
                most = max(most, await ledger.held())
        await answer.event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": words}})
        await answer.event("[DONE]")
        answer.end()

    replica.behave = behave
    bind(activators, ledger.budget(100_000))
    status, body = await stream(activators[0])
    assert (status, body.count(b'"word"'), body.endswith(b"data: [DONE]\n\n")) == (200, words, True)
    assert most > 2 * 1024

    async def settled() -> bool:
        return await ledger.used() == 12 + words and await ledger.held() == 0

    await eventually(settled)


async def test_an_exporter_that_is_away_lets_nothing_go_that_is_not_reserved(
    activators: list[Stack], ledger: Ledger
) -> None:
    bind(activators, ledger.budget(100_000))
    body = {**PROMPT, "max_tokens": 40}
    assert (await activators[0].post(body=body)).status == 200
    await ledger.stop()
    refused = await activators[1].post(body=body)
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    await ledger.start()
    assert (await activators[1].post(body=body)).status == 200


async def test_what_could_not_be_recorded_is_not_served(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.budget(100_000))
    journal = activators[0].service.journal
    assert journal is not None
    journal.closed = Cause.UNWRITABLE
    refused = await activators[0].post(body={**PROMPT, "max_tokens": 40})
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert replica.posts == []
    journal.closed = None
    assert (await activators[0].post(body={**PROMPT, "max_tokens": 40})).status == 200


async def test_a_request_whose_own_record_could_not_be_written_was_not_served_unrecorded(
    activators: list[Stack], ledger: Ledger, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, so a bill lacks nothing."""
    bind(activators, ledger.budget(100_000))
    body = {**PROMPT, "max_tokens": 40}
    assert (await activators[0].post(body=body)).status == 200
    served, service = len(replica.posts), activators[0].service
    assert service.journal is not None

    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(service.journal, "_put", full)
        refused = await activators[0].post(body=body)
    assert (refused.status, refused.code, len(replica.posts)) == (503, "ledger_unavailable", served)
    assert not service.journal._losses
    page = service.metrics.render()[0].decode()
    assert 'zerotide_requests_unrecorded_total{inference_endpoint="m",namespace="demo"} 0.0' in page


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (PROMPT, "max_tokens"),
        ({**PROMPT, "max_tokens": 5, "previous_response_id": "r"}, "previous_response_id"),
        (
            {**PROMPT, "max_tokens": 5, "messages": [{"role": "user", "content": [{"image_url": {"url": "x"}}]}]},
            "image_url",
        ),
    ],
)
async def test_what_has_no_bound_is_refused_with_what_to_do(
    activators: list[Stack], ledger: Ledger, replica: Replica, body: dict[str, Any], param: str
) -> None:
    bind(activators, ledger.budget(100_000))
    refused = await activators[0].post(body=body)
    assert (refused.status, refused.code) == (400, "invalid_request")
    assert refused.json["error"]["param"] == param
    assert replica.posts == []


async def test_a_client_that_leaves_gives_back_what_it_did_not_use(
    activators: list[Stack], ledger: Ledger, replica: Replica
) -> None:
    bind(activators, ledger.budget(5000))
    replica.hold = asyncio.Event()
    task = asyncio.create_task(activators[0].post(body={**PROMPT, "max_tokens": 400}))
    await until(lambda: replica.posts, 20)
    assert await ledger.held() > 400
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async def given_back() -> bool:
        return await ledger.held() == 0

    await eventually(given_back)
    replica.hold.set()
    assert await ledger.used() == 0


async def test_a_slice_goes_with_its_pod(activators: list[Stack], ledger: Ledger, replica: Replica) -> None:
    bind(activators, ledger.budget(5000))
    replica.hold = asyncio.Event()
    await ledger.api.put("pods", {"metadata": {"namespace": "zerotide-system", "name": "act-0"}})
    task = asyncio.create_task(activators[0].post(body={**PROMPT, "max_tokens": 400}))
    await until(lambda: replica.posts, 20)
    held = await ledger.held()
    assert activators[0].service.quota is not None
    # It dies: from now on nobody renews.
    for work in activators[0].service._tasks:
        work.cancel()
    ledger.desk._clock.now_us = lambda: 2**60  # type: ignore[method-assign]
    await ledger.desk.sweep()
    assert await ledger.held() == held > 400, "the pod is there, and may come to say what it used"
    await ledger.api.drop("pods", "zerotide-system", "act-0")
    await ledger.desk.sweep()
    assert await ledger.held() == 0
    task.cancel()
    replica.hold.set()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_activator_that_ends_leaves_nothing_reserved(ledger: Ledger, replica: Replica, tmp_path: Path) -> None:
    async with Stack(tmp_path / "usage", name="act-0", exporter=ledger.exporter) as stack:
        await stack.awake(replica)
        bind([stack], ledger.budget(100_000))
        assert (await stack.post(body={**PROMPT, "max_tokens": 40})).status == 200
        assert await ledger.held() > 0
    assert (await ledger.held(), await ledger.used()) == (0, 12)


@pytest.mark.parametrize("back_s", [0, 3600])
async def test_a_successor_ends_what_its_predecessor_had_reserved(
    ledger: Ledger, replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_s: int
) -> None:
    """And is served itself, also where the node's clock was put back in between."""
    async with Stack(tmp_path / "usage", name="act-0", exporter=ledger.exporter) as stack:
        await stack.awake(replica)
        bind([stack], ledger.budget(100_000))
        replica.hold = asyncio.Event()
        task = asyncio.create_task(stack.post(body={**PROMPT, "max_tokens": 40}))
        await until(lambda: replica.posts, 20)
        shutil.copytree(tmp_path / "usage", tmp_path / "left")
        assert await ledger.held() > 0
        # It dies without a word: nothing is shipped, nothing given back.
        await ledger.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ledger.start()
    assert await ledger.held() > 0
    earlier = Clock().offset_us - back_s * 1_000_000
    monkeypatch.setattr("tests.activator.stack.Clock", lambda: Clock(earlier))
    async with Stack(tmp_path / "left", name="act-0", exporter=ledger.exporter) as stack:

        async def ended() -> bool:
            return await ledger.held() == 0

        await eventually(ended)
        await stack.awake(replica)
        bind([stack], ledger.budget(100_000))
        replica.hold = None
        assert (await stack.post(body={**PROMPT, "max_tokens": 40})).status == 200


def test_each_process_is_born_later_than_the_one_before(tmp_path: Path) -> None:
    """Whatever the clock says, and whatever is left of what was kept."""
    assert birth(tmp_path, 1000) == 1000 and birth(tmp_path, 1500) == 1500
    assert birth(tmp_path, 700) == 1501 and birth(tmp_path, 1501) == 1502
    (tmp_path / "born").write_text("")
    assert birth(tmp_path, 900) == 900
    assert birth(tmp_path / "none", 5) == 5, "a disk that takes nothing stops nobody"


async def test_an_answer_beyond_its_bound_counts_in_full_and_is_told(
    activators: list[Stack], ledger: Ledger, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        send_json(writer, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3000}})

    replica.behave = behave
    bind(activators, ledger.budget(2000))
    assert (await activators[0].post(body={**PROMPT, "max_tokens": 40})).status == 200
    assert "a request used more than its bound" in caplog.text

    async def settled() -> bool:
        return await ledger.used() == 3005 and await ledger.held() == 0

    await eventually(settled)
    assert (await activators[1].post(body={**PROMPT, "max_tokens": 40})).code == "budget_exhausted"


@pytest.mark.parametrize(
    ("token", "body", "status", "words"),
    [
        ("", b"{}", 401, "send a token"),
        ("other-token", b"{}", 403, "may not deliver usage"),
        ("activator-token", b"{}", 400, "this is no ask for quota"),
        ("activator-token", b"[" * 100_000, 400, "this is no ask for quota"),
    ],
)
async def test_only_activators_may_ask(ledger: Ledger, token: str, body: bytes, status: int, words: str) -> None:
    ledger.api.tokens["other-token"] = {"username": "operator", "audience": "zerotide-exporter"}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        ClientSession() as session,
        session.post(ledger.exporter[0] + PATH, data=body, headers=headers) as answer,
    ):
        assert answer.status == status
        assert words in (await answer.json())["message"]


async def test_an_exporter_that_answers_nonsense_is_silent(ledger: Ledger, tmp_path: Path) -> None:
    client = QuotaClient(f"http://127.0.0.1:{ledger.port}/nowhere", ledger.token)
    ask = Ask(pod="p", process="0", born_us=1, number=1, inherited=False, wishes=())
    with pytest.raises(LedgerSilent, match="404"):
        await client.post(ask)
    await client.close()
    missing = QuotaClient(ledger.exporter[0], tmp_path / "absent")
    with pytest.raises(LedgerSilent):
        await missing.post(ask)
    await missing.close()
    good = QuotaClient(*ledger.exporter)
    assert (await good.post(ask)).grants == ()
    assert (await good.post(ask.model_copy(update={"born_us": 0}))).grants is None, "one that died before"
    await good.close()
