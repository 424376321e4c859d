"""`zerotide logs`: what the model's container writes, of every replica."""

from __future__ import annotations

import argparse
import asyncio

import aiohttp

from zerotide.api.names import CONTAINER_MODEL, selector_text
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import CliError
from zerotide.cli.session import Session
from zerotide.kube import Client, Invalid, Object
from zerotide.kube.resources import INFERENCE_ENDPOINTS, PODS


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "logs",
        logs,
        "print the logs of an endpoint's replicas",
        examples="zerotide logs smollm2 --tail 50\nzerotide logs smollm2 -f\nzerotide logs smollm2 --previous",
    )
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as they are written")
    parser.add_argument("--tail", type=int, metavar="N", help="only the last N lines")
    parser.add_argument("--previous", action="store_true", help="of the container before its last restart")


async def logs(session: Session, args: argparse.Namespace) -> None:
    """Print each line, with the pod before it where there are several."""
    await session.get(INFERENCE_ENDPOINTS, args.name)
    client, namespace = await session.client(), await session.namespace()
    pods = (await client.list(PODS, namespace, label_selector=selector_text(args.name))).items
    if not pods:
        session.printer.prose(
            f"{namespace}/{args.name} has no replica: it sleeps. `zerotide wake {args.name}` starts one."
        )
        return
    width = max(len(pod["metadata"]["name"]) for pod in pods)
    prints = [_print(session, client, pod, args, width if len(pods) > 1 else 0) for pod in pods]
    if args.follow:
        await asyncio.gather(*prints)
        return
    for one in prints:
        await one


async def _print(session: Session, client: Client, pod: Object, args: argparse.Namespace, width: int) -> None:
    name = pod["metadata"]["name"]
    params = {
        "container": CONTAINER_MODEL,
        "follow": "true" if args.follow else "",
        "tailLines": str(args.tail) if args.tail is not None else "",
        "previous": "true" if args.previous else "",
    }
    prefix = f"{name:<{width}}  " if width else ""
    path = PODS.path(pod["metadata"]["namespace"], name, "log")
    try:
        async with client.stream("GET", path, params=params) as response:
            async for line in response.content:
                session.printer.data(prefix + line.decode("utf-8", "replace").rstrip("\n"))
    except Invalid as error:
        # The container has not started, or there is no previous one: the server's message says which.
        session.printer.prose(f"{name}: {error}")
    except aiohttp.ClientError as error:
        raise CliError(f"the log of {name} broke off: {error}") from error
