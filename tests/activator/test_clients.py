"""The clients that people use, unmodified, against the activator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
import openai
import pytest

from tests.activator.replica import TEXT, Replica, truncate
from tests.activator.stack import Stack, until

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
TGI = ROOT / ".venv-tgi" / "bin" / "python"


async def in_thread(work: Callable[[], T]) -> T:
    """Run a blocking client."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def openai_client(stack: Stack, **options: Any) -> openai.OpenAI:
    """Return a client that does not retry unless told to."""
    return openai.OpenAI(base_url=stack.url + "/v1", api_key=stack.keys["k"], **{"max_retries": 0, **options})


async def test_openai_from_zero(stack: Stack, replica: Replica) -> None:
    """A chat, streamed and not, for an endpoint that sleeps: held, woken, answered without a retry."""
    stack.endpoint()
    stack.key()

    def chat(stream: bool) -> str:
        with openai_client(stack) as client:
            messages: Any = [{"role": "user", "content": "The capital of France?"}]
            if not stream:
                answer = client.chat.completions.create(model="m", messages=messages)
                return str(answer.choices[0].message.content)
            parts = client.chat.completions.create(model="m", messages=messages, stream=True)
            return "".join(part.choices[0].delta.content or "" for part in parts)

    tasks = [asyncio.create_task(in_thread(partial(chat, stream))) for stream in (False, True)]
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held == 2)
    stack.pod(replica.port)
    assert [await task for task in tasks] == [TEXT, TEXT]
    assert len(replica.posts) == 2


async def test_openai_lists_models_and_never_wakes(stack: Stack) -> None:
    """Sleeping models are in the list; asking for it is no activity."""
    stack.endpoint(model={"uri": "image:///m", "aliases": ["org/m"]})
    stack.endpoint("b")
    stack.key()

    def look() -> tuple[list[str], str]:
        with openai_client(stack) as client:
            return [model.id for model in client.models.list()], client.models.retrieve("org/m").owned_by

    assert await in_thread(look) == (["b", "m", "org/m"], "demo/m")
    assert stack.api.applied == []
    assert stack.tracker.demand("demo/m") is None


async def test_openai_sees_a_truncated_stream(stack: Stack, replica: Replica) -> None:
    """It raises instead of taking what came for the whole answer."""
    replica.behave = truncate
    await stack.awake(replica)

    def read() -> str:
        with openai_client(stack) as client:
            parts = client.chat.completions.create(model="m", messages=[], stream=True)
            return "".join(part.choices[0].delta.content or "" for part in parts)

    with pytest.raises(openai.APIError, match="lost while it answered"):
        await in_thread(read)


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (lambda stack: stack.endpoint(suspend=True), openai.InternalServerError),
        (lambda stack: stack.revoke("k"), openai.AuthenticationError),
        (lambda stack: stack.delete_endpoint(), openai.NotFoundError),
        (lambda stack: stack.key(endpoints=["other"]), openai.NotFoundError),
    ],
)
async def test_openai_does_not_retry_what_is_hopeless(
    stack: Stack, prepare: Callable[[Stack], Any], error: type[Exception]
) -> None:
    """A client with retries sends what cannot succeed only once."""
    stack.endpoint()
    stack.key()
    prepare(stack)
    seen = count_requests(stack)

    def chat() -> None:
        with openai_client(stack, max_retries=2) as client:
            client.chat.completions.create(model="m", messages=[])

    with pytest.raises(error):
        await in_thread(chat)
    assert len(seen) == 1


async def test_openai_retries_what_is_worth_it(stack: Stack, replica: Replica) -> None:
    """It comes back after the time that it was told, and is served."""
    stack.endpoint(hold={"maxRequests": 1})
    stack.key()
    stack.registry.endpoints[next(iter(stack.registry.endpoints))].starts.add(1_000_000)
    held = asyncio.create_task(stack.post())
    seen = count_requests(stack)

    def chat() -> str:
        with openai_client(stack, max_retries=2) as client:
            return str(client.chat.completions.create(model="m", messages=[]).choices[0].message.content)

    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held)
    task = asyncio.create_task(in_thread(chat))
    await until(lambda: seen)
    stack.pod(replica.port)
    assert await task == TEXT
    assert len(seen) == 2
    assert (await held).status == 200


async def test_huggingface_hub(stack: Stack, replica: Replica) -> None:
    """Text generation by URL, plain, with details and streamed; a chat; an error."""
    await stack.awake(replica)

    def use() -> list[Any]:
        client = huggingface_hub.InferenceClient(model=f"{stack.url}/endpoints/demo/m", token=stack.keys["k"])
        chat = huggingface_hub.InferenceClient(base_url=f"{stack.url}/endpoints/demo/m", token=stack.keys["k"])
        messages: Any = [{"role": "user", "content": "x"}]
        details = client.text_generation("x", details=True).details
        parts = chat.chat_completion(messages, model="m", stream=True)
        return [
            client.text_generation("x"),
            details.generated_tokens if details else None,
            "".join(client.text_generation("x", stream=True)),
            chat.chat_completion(messages, model="m").choices[0].message.content,
            "".join(part.choices[0].delta.content or "" for part in parts),
        ]

    assert await in_thread(use) == [TEXT, 7, TEXT, TEXT, TEXT]
    stack.endpoint(suspend=True)
    with pytest.raises(Exception, match="suspended"):
        await in_thread(use)


async def test_text_generation(stack: Stack, replica: Replica) -> None:
    """TGI's own client, from an environment of its own, over a hold with heartbeats."""
    stack.endpoint()
    stack.key()
    script = """
import json, sys
from text_generation import Client
client = Client(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]}, timeout=30)
answer = client.generate("x", max_new_tokens=7)
stream = "".join(response.token.text for response in client.generate_stream("x", max_new_tokens=7))
print(json.dumps([answer.generated_text, answer.details.generated_tokens, stream]))
"""
    process = await asyncio.create_subprocess_exec(
        str(TGI), "-c", script, f"{stack.url}/endpoints/demo/m", stack.keys["k"], stdout=asyncio.subprocess.PIPE
    )
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held, timeout=60)
    stack.pod(replica.port)
    assert process.stdout is not None
    output = await process.stdout.read()
    assert await process.wait() == 0
    assert json.loads(output) == [TEXT, 7, TEXT]


def count_requests(stack: Stack) -> list[str]:
    """Return a list that grows with each request to the activator."""
    seen: list[str] = []
    server = stack.service.server
    handle, express = server.handle, server.express

    def handling(exchange: Any) -> Any:
        seen.append(exchange.request.target)
        return handle(exchange)

    def sending(exchange: Any) -> bool:
        taken = express(exchange)
        if taken:
            seen.append(exchange.request.target)
        return taken

    server.handle, server.express = handling, sending
    return seen
