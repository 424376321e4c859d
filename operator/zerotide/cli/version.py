"""`zerotide version`: of this command and of what runs on the cluster."""

from __future__ import annotations

import argparse

from zerotide import __version__
from zerotide.api.names import MANAGER_OPERATOR
from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.output import format_fields
from zerotide.cli.session import Session
from zerotide.kube import KubeError
from zerotide.kube.resources import DEPLOYMENTS


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "version",
        version,
        "print the versions of this command, of Zerotide on the cluster, and of the cluster",
        examples="zerotide version --client",
    )
    parser.add_argument("--client", action="store_true", help="ask no cluster")


async def version(session: Session, args: argparse.Namespace) -> None:
    """Print the versions; a cluster that cannot be asked is said so and is no failure."""
    found = {"client": __version__, "zerotide": "", "kubernetes": ""}
    if not args.client:
        try:
            client = await session.client()
            found["kubernetes"] = str((await client.request("GET", "/version")).get("gitVersion", ""))
            deployment = await client.get(DEPLOYMENTS, MANAGER_OPERATOR, session.system_namespace)
            found["zerotide"] = deployment["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")
        except KubeError as error:
            session.printer.prose(f"The cluster does not say: {error}")
    if session.printer.as_json:
        session.printer.json(found)
        return
    fields = [("Client", found["client"]), ("Zerotide", found["zerotide"]), ("Kubernetes", found["kubernetes"])]
    for line in format_fields(fields):
        session.printer.data(line)
