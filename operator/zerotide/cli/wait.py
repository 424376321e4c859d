"""`zerotide wait`: return when an endpoint is in a state, with an exit code that says why not."""

from __future__ import annotations

import argparse
import asyncio
from enum import StrEnum

from zerotide.api.conditions import VERIFIED, State
from zerotide.api.endpoint import Status
from zerotide.api.scalars import SECOND, Duration
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.errors import CliError, Missing, StartFailed, TimedOut
from zerotide.cli.session import Session
from zerotide.kube import Change, NotFound, Object, Reflector
from zerotide.kube.resources import INFERENCE_ENDPOINTS


class Goal(StrEnum):
    """What can be waited for."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    READY = "ready"
    ACCEPTING = "accepting"
    VERIFIED = "verified"
    SUSPENDED = "suspended"
    DELETED = "deleted"


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "wait",
        wait,
        "wait until an endpoint is awake, asleep, ready, accepting, verified, suspended or deleted",
        text="Wait until an endpoint is in a state. It wakes nothing: `zerotide wake --wait` does both.\n"
        "verified: its present spec was proven to start, where `start.verify` is OnChange.",
        examples="zerotide wait smollm2 --for asleep --timeout 10m\nzerotide wait smollm2 --for deleted",
    )
    parser.add_argument("name", help="the endpoint")
    parser.add_argument(
        "--for",
        dest="goal",
        type=Goal,
        choices=list(Goal),
        default=Goal.READY,
        metavar="STATE",
        help=f"{', '.join(Goal)}; default: ready, which a sleeping endpoint is as well",
    )
    add_timeout(parser)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add the option that bounds every wait."""
    parser.add_argument(
        "--timeout", type=duration, default=Duration("5m"), metavar="TIME", help="give up after; default: %(default)s"
    )


def duration(text: str) -> Duration:
    """Parse a duration of the command line, such as `90s` or `5m`."""
    try:
        return Duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def wait(session: Session, args: argparse.Namespace) -> None:
    """Wait, then print the endpoint's name."""
    if args.goal is not Goal.DELETED:
        await session.get(INFERENCE_ENDPOINTS, args.name)
    item = await wait_for(session, args.name, args.goal, args.timeout)
    if session.printer.as_json:
        session.printer.json(item)
    else:
        session.printer.data(f"{await session.namespace()}/{args.name}")


def reached(item: Object, goal: Goal) -> bool:
    """Tell whether an endpoint is where it should be; a status of an older spec proves nothing.

    Raises StartFailed when it cannot get there without help.
    """
    status = Status.read(item.get("status"))
    if (status.observed_generation or 0) < item["metadata"].get("generation", 0):
        return False
    stalled = status.condition("Stalled")
    if goal in (Goal.AWAKE, Goal.READY, Goal.ACCEPTING) and stalled is not None and stalled.status == "True":
        raise StartFailed(f"{item['metadata']['name']} cannot start: {stalled.reason}: {status.explanation(stalled)}")
    match goal:
        case Goal.AWAKE:
            return status.state == State.AWAKE
        case Goal.ASLEEP:
            return status.state == State.ASLEEP and not status.replicas
        case Goal.SUSPENDED:
            return status.state == State.SUSPENDED
        case Goal.READY | Goal.ACCEPTING:
            condition = status.condition(goal.value.capitalize())
            return condition is not None and condition.status == "True"
        case Goal.VERIFIED:
            return _verified(item, status)
    return False


def _where(item: Object, goal: Goal) -> str:
    """Return the state that is told to who waited in vain."""
    status = Status.read(item.get("status"))
    condition = status.condition(VERIFIED) if goal is Goal.VERIFIED else None
    return f"{status.state or 'unknown'}{f' ({condition.message})' if condition else ''}"


def _verified(item: Object, status: Status) -> bool:
    name, condition = item["metadata"]["name"], status.condition(VERIFIED)
    if condition is None:
        raise CliError(f"{name} is not verified: set spec.start.verify to OnChange, or wait for another state")
    if condition.status == "False":
        raise StartFailed(f"{name} cannot start: {condition.reason}: {status.explanation(condition)}")
    return condition.status == "True"


async def wait_for(
    session: Session, name: str, goal: Goal, timeout: Duration, *, since: Object | None = None
) -> Object:
    """Follow an endpoint until it reaches the goal and return it as it was then.

    A state that stood before `since`, an object just changed, does not count unless the operator wrote anew.
    Raises TimedOut, StartFailed, or Missing when it is deleted meanwhile.
    """
    done: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
    stale = since["metadata"]["resourceVersion"] if since and goal in (Goal.AWAKE, Goal.ASLEEP) else None
    state = ["unknown"]

    def look(change: Change) -> None:
        if done.done():
            return
        item = change.object
        if change.type == "deleted":
            if goal is Goal.DELETED:
                done.set_result(item)
            else:
                done.set_exception(Missing(f"{name} was deleted meanwhile"))
            return
        state[0] = _where(item, goal)
        try:
            if item["metadata"]["resourceVersion"] != stale and reached(item, goal):
                done.set_result(item)
        except CliError as error:
            done.set_exception(error)

    namespace, client = await session.namespace(), await session.client()
    try:
        # What holds already needs no watch.
        look(Change("set", await client.get(INFERENCE_ENDPOINTS, name, namespace)))
    except NotFound as error:
        if goal is Goal.DELETED:
            return {}
        raise Missing(f"no InferenceEndpoint {name!r} in namespace {namespace!r}") from error
    if done.done():
        return await done
    reflector = Reflector(
        client, INFERENCE_ENDPOINTS, namespace, field_selector=f"metadata.name={name}", on_change=look
    )
    return await _follow(reflector, done, name, goal, timeout, state)


async def _follow(
    reflector: Reflector, done: asyncio.Future[Object], name: str, goal: Goal, timeout: Duration, state: list[str]
) -> Object:
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(timeout.us / SECOND):
            await reflector.synced.wait()
            if not reflector.store and not done.done():
                if goal is Goal.DELETED:
                    return {}
                raise Missing(f"no InferenceEndpoint {name!r}")
            return await done
    except TimeoutError:
        raise TimedOut(f"{name} is not {goal.value} after {timeout}: its state is {state[0]}") from None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
