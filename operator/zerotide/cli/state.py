"""`zerotide wake`, `sleep`, `suspend`, `resume` and `scale`: say what an endpoint should do, and let the operator."""

from __future__ import annotations

import argparse

from zerotide.api.base import format_micro_time
from zerotide.api.names import ANNOTATION_SLEEP, ANNOTATION_WAKE, MANAGER_CLI
from zerotide.cli.commands import Handler, Subparsers, declare
from zerotide.cli.session import Session
from zerotide.cli.wait import Goal, add_timeout, wait_for
from zerotide.kube import Object
from zerotide.kube.resources import INFERENCE_ENDPOINTS


def add(commands: Subparsers) -> None:
    """Declare the commands."""
    for name, handler, help, goal in (
        ("wake", wake, "start an endpoint without sending it a request", Goal.AWAKE),
        ("sleep", sleep, "give up an endpoint's replicas now; the next request wakes it", Goal.ASLEEP),
        ("suspend", suspend, "make an endpoint sleep and answer requests with an error", Goal.SUSPENDED),
        ("resume", resume, "let a suspended endpoint be called again", Goal.ACCEPTING),
    ):
        _declare(commands, name, handler, help, goal)
    parser = declare(
        commands,
        "scale",
        scale,
        "pin the number of replicas; 0 lets Zerotide decide again",
        examples="zerotide scale smollm2 2\nzerotide scale smollm2 0",
    )
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("replicas", type=_replicas, help="exactly so many replicas, whatever the load; 0 hands back")


def _declare(commands: Subparsers, name: str, handler: Handler, help: str, goal: Goal) -> None:
    parser = declare(commands, name, handler, help, examples=f"zerotide {name} smollm2 --wait")
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("--wait", action="store_true", help=f"return when it is {goal.value}")
    add_timeout(parser)
    parser.set_defaults(goal=goal)


def _replicas(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1000")
    return int(text)


async def wake(session: Session, args: argparse.Namespace) -> None:
    """Ask for one wake by annotation."""
    await _annotate(session, args, ANNOTATION_WAKE, "asked to wake")


async def sleep(session: Session, args: argparse.Namespace) -> None:
    """Ask for one sleep by annotation."""
    await _annotate(session, args, ANNOTATION_SLEEP, "asked to sleep")


async def suspend(session: Session, args: argparse.Namespace) -> None:
    """Set spec.suspend."""
    await _patch(session, args, {"spec": {"suspend": True}}, "suspended")


async def resume(session: Session, args: argparse.Namespace) -> None:
    """Clear spec.suspend."""
    await _patch(session, args, {"spec": {"suspend": False}}, "resumed")


async def scale(session: Session, args: argparse.Namespace) -> None:
    """Pin the replicas through /scale, as kubectl scale does."""
    await session.get(INFERENCE_ENDPOINTS, args.name)
    namespace, client = await session.namespace(), await session.client()
    patch = {"spec": {"replicas": args.replicas}}
    changed = await client.patch(
        INFERENCE_ENDPOINTS, args.name, namespace, patch, subresource="scale", manager=MANAGER_CLI
    )
    said = f"pinned to {args.replicas}" if args.replicas else "left to Zerotide"
    _print(session, changed, namespace, args.name, said)


async def _annotate(session: Session, args: argparse.Namespace, annotation: str, said: str) -> None:
    now = format_micro_time(session.clock.now_us())
    await _patch(session, args, {"metadata": {"annotations": {annotation: now}}}, said)


async def _patch(session: Session, args: argparse.Namespace, patch: Object, said: str) -> None:
    await session.get(INFERENCE_ENDPOINTS, args.name)
    namespace, client = await session.namespace(), await session.client()
    changed = await client.patch(INFERENCE_ENDPOINTS, args.name, namespace, patch, manager=MANAGER_CLI)
    if not args.wait:
        _print(session, changed, namespace, args.name, said)
        return
    session.printer.prose(f"{namespace}/{args.name} {said}, waiting until it is {args.goal.value} …")
    reached = await wait_for(session, args.name, args.goal, args.timeout, since=changed)
    _print(session, reached, namespace, args.name, args.goal.value)


def _print(session: Session, item: Object, namespace: str, name: str, said: str) -> None:
    if session.printer.as_json:
        session.printer.json(item)
        return
    session.printer.data(f"{namespace}/{name}")
    session.printer.prose(f"{said[0].upper()}{said[1:]}.")
