"""`zerotide bench`: send load to an endpoint as its clients would, and measure what they would feel and pay."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import aiohttp

from zerotide.api.base import format_time
from zerotide.api.names import ANNOTATION_SLEEP, MANAGER_CLI
from zerotide.api.scalars import SECOND, Duration, format_micro_time
from zerotide.billing.reports import CostReport
from zerotide.cli import gateway
from zerotide.cli.bench_text import HEADER, cost_line, document, known, measured, rows, span, summary
from zerotide.cli.chat import Answer, Question, ask
from zerotide.cli.commands import Subparsers, declare, defaulted, lasting, positive, whole
from zerotide.cli.errors import CliError, UsageError
from zerotide.cli.load import MOST, Load, Sample, drive
from zerotide.cli.reports import fetch
from zerotide.cli.session import Session
from zerotide.cli.wait import Goal, reached, wait_for
from zerotide.kube import KubeError
from zerotide.kube.resources import INFERENCE_ENDPOINTS

PROMPT = "Tell me something about the number {number}."
WORDS = ("river", "stone", "garden", "winter", "market", "letter", "engine", "harbour", "window", "silver", "morning")
BILLED_S = 15
"""How long the bill is asked again for requests that it has not heard of."""


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "bench",
        bench,
        "send load to an endpoint, and measure what clients feel and what it costs",
        text="Send streamed chats to an endpoint, so many at once or so many a second, and print how long they took\n"
        "to the first token, between pieces and to the end, what failed, and what the endpoint cost meanwhile. One\n"
        "request comes first and is not counted, so that a sleeping endpoint is awake; --cold counts its start.",
        examples="""zerotide bench smollm2
            zerotide bench smollm2 --at-once 16 --duration 2m --max-tokens 200
            zerotide bench smollm2 --rate 3 --words 500 --json
            zerotide bench smollm2 --cold --at-once 1 --requests 20""",
    )
    parser.add_argument("name", help="the endpoint")
    load = parser.add_argument_group("load")
    much = load.add_mutually_exclusive_group()
    defaulted(much, "--at-once", whole, 4, "requests at once")
    much.add_argument("--rate", type=positive, metavar="N", help=f"requests a second (Poisson), up to {MOST} at once")
    defaulted(load, "--duration", lasting, "30s", "how long", "TIME")
    load.add_argument("--requests", type=whole, metavar="N", help="no more than so many")
    defaulted(load, "--grace", lasting, "1m", "wait for the last ones", "TIME")
    defaulted(load, "--seed", int, 1, "of times and words")
    load.add_argument("--cold", action="store_true", help="put it to sleep before, and count its start")
    load.add_argument("--no-warm-up", action="store_true", help="count the first request, too, asleep or not")
    asked = parser.add_argument_group("requests")
    asked.add_argument("--prompt", metavar="TEXT", help="the same message each time; default: another one each time")
    asked.add_argument("--words", type=whole, metavar="N", help="words of a made-up message instead")
    defaulted(asked, "--max-tokens", whole, 64, "longest answer")
    asked.add_argument("--model", metavar="NAME", help="model to name in the request; default: the endpoint's")
    asked.add_argument("--key", metavar="KEY", help="API key or token; default: $ZEROTIDE_API_KEY")


async def bench(session: Session, args: argparse.Namespace) -> int:
    """Print what was measured; 1 where nothing was answered."""
    load = _load(args)
    namespace, printer = await session.namespace(), session.printer
    if args.cold:
        await _to_sleep(session, args.name)
    connections = aiohttp.TCPConnector(limit=0)
    patient = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with (
        gateway.reach(session) as address,
        aiohttp.ClientSession(timeout=patient, connector=connections, trust_env=False) as http,
    ):
        url = f"{gateway.endpoint_url(address, namespace, args.name)}/v1/chat/completions"
        asking = _Asking(http, url, args)
        if not (args.cold or args.no_warm_up):
            first = await asking.once(0, lambda text: None)
            woke = " and woke it" if first.cold == "true" else ""
            printer.prose(f"One request came first{woke}: first token after {span(first.first_token or 0.0)}.")
        began_us, began_s = session.clock.now_us(), asyncio.get_running_loop().time()
        samples = await drive(load, asking.sample)
        found = measured(samples, asyncio.get_running_loop().time() - began_s)
    bill, why = await _bill(session, args.name, began_us, found.answered)
    if printer.as_json:
        printer.json(document(found, bill))
        return int(not found.answered)
    if found.answered:
        printer.table(HEADER, rows(found), right=" ".join(HEADER[1:]))
    how = f"{args.rate:g} a second asked for" if args.rate else f"{args.at_once} at once"
    for line in [
        *summary(found, how),
        cost_line(bill, found.answered) if bill else f"What it cost is not known: {why}",
    ]:
        printer.prose(line)
    return int(not found.answered)


def _load(args: argparse.Namespace) -> Load:
    if not args.duration:
        raise UsageError("--duration must be longer than 0s: nothing would be sent")
    if args.prompt and args.words:
        raise UsageError("--prompt and --words exclude each other: a message is given or made up")
    return Load(args.at_once, args.duration / SECOND, args.rate, args.requests, args.grace / SECOND, args.seed)


class _Asking:
    """One endpoint, and how it is asked."""

    def __init__(self, http: aiohttp.ClientSession, url: str, args: argparse.Namespace) -> None:
        self._http, self._url, self._args = http, url, args
        key = args.key or os.environ.get("ZEROTIDE_API_KEY", "")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._now = asyncio.get_running_loop().time

    async def once(self, number: int, on_text: Callable[[str], None]) -> Answer:
        """Ask once; raise the CliError of what went wrong."""
        body: dict[str, Any] = {
            "model": self._args.model or self._args.name,
            "messages": [{"role": "user", "content": self._message(number)}],
            "temperature": 0.0,
            "max_tokens": self._args.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        question = Question(self._url, body, self._headers)
        return await ask(self._http, question, on_text, lambda comment: None, clock=self._now)

    async def sample(self, number: int, due_s: float) -> Sample:
        """Ask once, and return how it went, counted from when it was due."""
        pieces: list[float] = []
        sent_s = self._now()
        try:
            answer = await self.once(number, lambda text: pieces.append(self._now()))
        except CliError as error:
            return Sample(0.0, self._now() - due_s, code=error.code or "broken")
        late_s = sent_s - due_s
        return Sample(
            0.0,
            answer.total + late_s,
            (answer.first_token or 0.0) + late_s,
            tuple(after - before for before, after in pairwise(pieces)),
            answer.cold == "true",
            int(answer.usage.get("prompt_tokens") or 0),
            int(answer.usage.get("completion_tokens") or 0),
        )

    def _message(self, number: int) -> str:
        # Messages begin differently, or an engine that keeps beginnings would be measured on what it kept.
        if self._args.prompt:
            return str(self._args.prompt)
        if self._args.words is None:
            return f"{number}: {PROMPT.format(number=number)}"
        dice = random.Random(self._args.seed * 1_000_003 + number)
        return " ".join([f"{number}:", *(dice.choice(WORDS) for _ in range(self._args.words))])


async def _to_sleep(session: Session, name: str) -> None:
    """Put an endpoint to sleep, and wait until it does."""
    item = await session.get(INFERENCE_ENDPOINTS, name)
    if reached(item, Goal.ASLEEP):
        return
    session.printer.prose(f"{name} is put to sleep …")
    patch = {"metadata": {"annotations": {ANNOTATION_SLEEP: format_micro_time(session.clock.now_us())}}}
    client = await session.client()
    changed = await client.patch(INFERENCE_ENDPOINTS, name, await session.namespace(), patch, manager=MANAGER_CLI)
    await wait_for(session, name, Goal.ASLEEP, Duration("5m"), since=changed)


async def _bill(session: Session, name: str, began_us: int, answered: int) -> tuple[CostReport | None, str]:
    """Return what the endpoint cost since then, once the bill knows of all answers; else why nobody knows."""
    try:
        # Times of a query are whole seconds: the last one is taken whole.
        ended_us = session.clock.now_us() + SECOND
        query = {
            "namespace": await session.namespace(),
            "endpoint": name,
            "from": format_time(began_us),
            "to": format_time(ended_us),
        }
        for _ in range(BILLED_S):
            report = await fetch(session, CostReport, "cost", query)
            if known(report) >= answered:
                break
            await asyncio.sleep(1)
        return await fetch(session, CostReport, "cost", query), ""
    except (CliError, KubeError) as error:
        return None, str(error)
