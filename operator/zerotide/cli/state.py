"""`zerotide wake`, `sleep`, `suspend`, `resume` and `scale`: say what an endpoint should do, and let the operator."""

from __future__ import annotations

import argparse

from zerotide.api.base import format_micro_time, format_time, parse_duration
from zerotide.api.failures import InvalidDuration
from zerotide.api.names import ANNOTATION_SLEEP, ANNOTATION_WAKE, MANAGER_CLI
from zerotide.cli.commands import Handler, Subparsers, declare
from zerotide.cli.errors import CliError
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
        "pin the number of replicas, or keep some for a while; 0 lets Zerotide decide again",
        text="Pin the number of replicas, whatever the load; 0 hands back to Zerotide and ends an override.\n"
        "With --for, nothing is pinned: so many are kept at least until the time is over, in place of minReplicas\n"
        "and schedules.",
        examples="zerotide scale smollm2 2\nzerotide scale smollm2 0\nzerotide scale smollm2 1 --for 2h",
    )
    parser.add_argument("name", help="the endpoint")
    parser.add_argument("replicas", type=_replicas, help="exactly so many replicas; 0 hands back")
    parser.add_argument("--for", dest="span", type=_span, metavar="TIME", help="keep at least so many for this time")


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


def _span(text: str) -> int:
    try:
        us = parse_duration(text)
    except InvalidDuration as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not us:
        raise argparse.ArgumentTypeError("the time must be longer than 0s; `zerotide scale NAME 0` ends an override")
    return us


async def wake(session: Session, args: argparse.Namespace) -> None:
    """Ask for one wake by annotation; raise CliError where nothing can wake it."""
    item = await session.get(INFERENCE_ENDPOINTS, args.name)
    if item["spec"].get("suspend"):
        raise CliError(f"{args.name} is suspended, and nothing wakes it: `zerotide resume {args.name}` first")
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
    """Pin the replicas through /scale, as kubectl scale does, or keep some for a while; raise CliError for both."""
    item = await session.get(INFERENCE_ENDPOINTS, args.name)
    scaling = item["spec"].get("scaling") or {}
    namespace, client = await session.namespace(), await session.client()
    if args.span:
        if pinned := scaling.get("pinnedReplicas"):
            raise CliError(f"{args.name} is pinned to {pinned}, whatever is kept: `zerotide scale {args.name} 0` first")
        until = format_time(session.clock.now_us() + args.span)
        floor: Object = {"spec": {"scaling": {"override": {"minReplicas": args.replicas, "until": until}}}}
        changed = await client.patch(INFERENCE_ENDPOINTS, args.name, namespace, floor, manager=MANAGER_CLI)
        _print(session, changed, namespace, args.name, f"at least {args.replicas} until {until}")
        return
    if not args.replicas and "override" in scaling:
        ended: Object = {"spec": {"scaling": {"override": None}}}
        await client.patch(INFERENCE_ENDPOINTS, args.name, namespace, ended, manager=MANAGER_CLI)
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
