"""`zerotide call`: ask a model something, and see what the answer took."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import aiohttp

from zerotide.api.endpoint import Status
from zerotide.api.scalars import SECOND
from zerotide.cli import gateway
from zerotide.cli.chat import Answer, Question, ask
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import UsageError
from zerotide.cli.output import format_span
from zerotide.cli.session import Session
from zerotide.cli.ticker import Ticker
from zerotide.kube import KubeError
from zerotide.kube.resources import INFERENCE_ENDPOINTS


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "call",
        call,
        "ask a model something; a sleeping endpoint wakes",
        text="Send one chat message to an endpoint and print the answer as it comes. A sleeping endpoint wakes.",
        examples="""zerotide call smollm2 "What is the capital of France?"
            echo "Summarise this" | zerotide call smollm2 - --max-tokens 100
            zerotide call smollm2 "Hello" --json | jq .usage""",
    )
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("prompt", help="the message; - reads stdin")
    parser.add_argument("--key", metavar="KEY", help="API key or token; default: $ZEROTIDE_API_KEY")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--model", metavar="NAME", help="model to name in the request; default: the endpoint's")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="longest answer")
    parser.add_argument("--temperature", type=float, metavar="X", default=0.0, help="default: 0, the likeliest answer")
    parser.add_argument("--no-stream", action="store_true", help="wait for the whole answer")
    parser.add_argument("--wait", type=int, metavar="SECONDS", help="fail when nothing came after; 0: do not hold")


async def call(session: Session, args: argparse.Namespace) -> None:
    """Print the answer on stdout as it streams, and how it went on stderr."""
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    if not prompt.strip():
        raise UsageError("the message is empty")
    namespace, printer = await session.namespace(), session.printer
    async with gateway.reach(session) as address, aiohttp.ClientSession(timeout=_patient(), trust_env=False) as http:
        question = build(gateway.endpoint_url(address, namespace, args.name), args, prompt)
        async with _progress(session, args.name) as ticker:

            def show(text: str) -> None:
                ticker.stop()
                if not printer.as_json:
                    print(text, end="", file=printer.out, flush=True)

            answer = await ask(http, question, show, ticker.heard)
    if printer.as_json:
        printer.json(asdict(answer))
        return
    printer.data("")
    printer.prose(summary(answer))


def build(url: str, args: argparse.Namespace, prompt: str) -> Question:
    """Return the request of a command line."""
    messages = [{"role": "system", "content": args.system}] if args.system else []
    body: dict[str, Any] = {
        "model": args.model or args.name,
        "messages": [*messages, {"role": "user", "content": prompt}],
        "temperature": args.temperature,
        "stream": not args.no_stream,
    }
    if args.max_tokens is not None:
        body["max_tokens"] = args.max_tokens
    headers = {}
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
        headers["X-Zerotide-Events"] = "phases"
    key = args.key or os.environ.get("ZEROTIDE_API_KEY", "")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if args.wait is not None:
        headers["Prefer"] = f"wait={args.wait}"
    return Question(f"{url}/v1/chat/completions", body, headers)


def summary(answer: Answer) -> str:
    """Return one line about an answer: whether it woke the model, how long it took, how many tokens."""
    # A held stream's first comment sends the headers, before anybody knows how long it will be held.
    waited = f", held for {answer.queue_ms} ms" if answer.queue_ms not in ("", "0") else ""
    parts = [f"{'cold start' if answer.cold == 'true' else 'warm'}{waited}"]
    if answer.first_token is not None:
        parts.append(f"first token after {format_span(round(answer.first_token * SECOND))}")
    parts.append(f"done after {format_span(round(answer.total * SECOND))}")
    tokens = answer.usage.get("completion_tokens")
    if tokens:
        spent = answer.total - (answer.first_token or 0.0)
        rate = f", {(tokens - 1) / spent:.1f}/s" if answer.chunks > 1 and spent > 0 else ""
        parts.append(f"{answer.usage.get('prompt_tokens', 0)} + {tokens} tokens{rate}")
    return f"[{' · '.join(parts)}]"


def _patient() -> aiohttp.ClientTimeout:
    # The gateway ends every hold and every answer in its own time, and says why: the client does not cut it short.
    return aiohttp.ClientTimeout(total=None, sock_connect=10)


@asynccontextmanager
async def _progress(session: Session, name: str) -> AsyncIterator[Ticker]:
    ticker = Ticker(name, session.printer.err)

    async def draw() -> None:
        while True:
            # Whoever has a key but no right to read the endpoint is still served; the stream tells enough.
            with suppress(KubeError):
                item = await (await session.client()).get(INFERENCE_ENDPOINTS, name, await session.namespace())
                ticker.state(Status.read(item.get("status")).state or "")
            for _ in range(5):
                ticker.tick()
                await asyncio.sleep(0.1)

    # Only a terminal shows the state of a request that is no stream: elsewhere nobody would look at it.
    task = asyncio.create_task(draw()) if session.printer.err.isatty() else None
    try:
        yield ticker
    finally:
        ticker.stop()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
