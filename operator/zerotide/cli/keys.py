"""`zerotide key create`, `list` and `revoke`: who may call which endpoints."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from zerotide.api.apikey import SECRET_BYTES, APIKey, digest, format_key
from zerotide.api.base import format_time, parse_time
from zerotide.api.names import API_VERSION, KIND_API_KEY, MANAGER_CLI, is_endpoint_name, is_key_name
from zerotide.api.scalars import Duration
from zerotide.cli.commands import Subparsers, declare, group
from zerotide.cli.errors import CliError, UsageError
from zerotide.cli.output import format_age
from zerotide.cli.session import Session
from zerotide.cli.wait import duration
from zerotide.kube import AlreadyExists, Object
from zerotide.kube.resources import API_KEYS


def add(commands: Subparsers) -> None:
    """Declare the commands."""
    keys = group(commands, "key", "make, list and revoke API keys")
    parser = declare(
        keys,
        "create",
        create,
        "make a key and print it, once",
        text="Make a key and print it on stdout. The cluster keeps its digest only: it cannot be shown again.",
        examples="""export ZEROTIDE_API_KEY=$(zerotide key create my-app)
            zerotide key create ci --endpoint smollm2 --expires 720h --consumer team-a""",
    )
    parser.add_argument("name", help="its public name, which is part of the key: at most 32 characters")
    parser.add_argument("--consumer", metavar="NAME", help="who pays, within the namespace; default: the key's name")
    parser.add_argument(
        "--endpoint", action="append", metavar="NAME", help="open only this endpoint; may be given again"
    )
    parser.add_argument("--expires", type=duration, metavar="TIME", help="stop working after, such as 720h")
    parser.add_argument("--max-in-flight", type=int, metavar="N", help="requests at a time, held ones included")
    declare(keys, "list", list_keys, "list keys, without their secrets", examples="zerotide key list -A")
    parser = declare(
        keys,
        "revoke",
        revoke,
        "delete a key: within a second, nothing accepts it",
        examples="zerotide key revoke my-app",
    )
    parser.add_argument("name", help="the key's name, or the key itself")


def build(
    name: str,
    secret: bytes,
    now_us: int,
    *,
    consumer: str | None = None,
    endpoints: list[str] | None = None,
    expires: Duration | None = None,
    max_in_flight: int | None = None,
) -> Object:
    """Return the APIKey object of a secret.

    Raises UsageError where an argument cannot be part of one.
    """
    if not is_key_name(name):
        raise UsageError(f"{name!r} is no name of a key: at most 32 lower-case letters, digits and '-'")
    for endpoint in endpoints or ():
        if not is_endpoint_name(endpoint):
            raise UsageError(f"{endpoint!r} is no name of an endpoint")
    optional = {
        "endpoints": sorted(set(endpoints)) if endpoints else None,
        "expirationTime": format_time(now_us + expires.us) if expires else None,
        "maxInFlight": max_in_flight,
    }
    spec: dict[str, Any] = {"digest": digest(secret), "consumer": consumer or name}
    spec |= {field: value for field, value in optional.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": KIND_API_KEY, "metadata": {"name": name}, "spec": spec}


async def create(session: Session, args: argparse.Namespace) -> None:
    """Make the object, then print the key."""
    secret = secrets.token_bytes(SECRET_BYTES)
    key = build(
        args.name,
        secret,
        session.clock.now_us(),
        consumer=args.consumer,
        endpoints=args.endpoint,
        expires=args.expires,
        max_in_flight=args.max_in_flight,
    )
    namespace = key["metadata"]["namespace"] = await session.namespace()
    try:
        await (await session.client()).create(API_KEYS, key, manager=MANAGER_CLI)
    except AlreadyExists as error:
        raise CliError(
            f"there is a key {args.name!r} in namespace {namespace!r}, and it cannot be shown again: choose another "
            f"name, or `zerotide key revoke {args.name}` first"
        ) from error
    text = format_key(args.name, secret)
    if session.printer.as_json:
        session.printer.json({"name": args.name, "namespace": namespace, "key": text})
        return
    session.printer.data(text)
    opens = ", ".join(key["spec"].get("endpoints", [])) or "every endpoint"
    session.printer.prose(f"Opens {opens} in namespace {namespace!r}. Keep it: it cannot be shown again.")


async def list_keys(session: Session, args: argparse.Namespace) -> None:
    """Print a table of the keys."""
    items, printer = await session.list(API_KEYS), session.printer
    if printer.as_json:
        printer.json(items)
        return
    if not items:
        printer.prose(f"No keys in {await session.where()}: make one with `zerotide key create`.")
        return
    now_us = session.clock.now_us()
    header = ["NAME", "CONSUMER", "ENDPOINTS", "STATE", "EXPIRES", "AGE"]
    rows = [_row(item, now_us) for item in items]
    if session.all_namespaces:
        header = ["NAMESPACE", *header]
        rows = [[item["metadata"]["namespace"], *row] for item, row in zip(items, rows, strict=True)]
    printer.table(header, rows)


def _row(item: Object, now_us: int) -> list[str]:
    key = APIKey.parse(item)
    expires = key.spec.expiration_time
    expired = expires is not None and parse_time(expires) <= now_us
    state = "Suspended" if key.spec.suspend else "Expired" if expired else "Live"
    return [
        key.metadata.name,
        key.spec.consumer,
        ",".join(key.spec.endpoints or ()) or "all",
        state,
        expires or "never",
        format_age(key.metadata.creation_timestamp, now_us),
    ]


async def revoke(session: Session, args: argparse.Namespace) -> None:
    """Delete the object."""
    # Whoever pastes a whole leaked key means its name, and must not see it echoed.
    name = args.name.split("_")[1] if args.name.startswith("zt_") and args.name.count("_") >= 2 else args.name
    item = await session.get(API_KEYS, name)
    namespace = item["metadata"]["namespace"]
    await (await session.client()).delete(API_KEYS, name, namespace, uid=item["metadata"]["uid"])
    if session.printer.as_json:
        session.printer.json({"name": name, "namespace": namespace, "revoked": True})
        return
    session.printer.data(f"{namespace}/{name}")
    session.printer.prose("Revoked.")
