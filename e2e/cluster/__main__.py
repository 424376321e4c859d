"""Command line of the local cluster."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from e2e.cluster.cluster import DEFAULT_NAME, Cluster, is_ready
from e2e.cluster.errors import ClusterError
from e2e.tools import ToolError


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help=f"the cluster's name (default: {DEFAULT_NAME})")
    top = argparse.ArgumentParser(prog="python3 -m e2e.cluster", description="A real single-node Kubernetes, locally.")
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[named], help="start it, or do nothing when it runs")
    up.add_argument("--gpus", type=int, default=4, help="nvidia.com/gpu that the node advertises (default: 4)")
    commands.add_parser("down", parents=[named], help="remove it and everything it made")
    commands.add_parser("status", parents=[named], help="say what runs, and where it answers")
    logs = commands.add_parser("logs", parents=[named], help="print a component's log")
    logs.add_argument("component", nargs="?", help="one of the names printed without it")
    logs.add_argument("-f", "--follow", action="store_true")
    load = commands.add_parser("load-image", parents=[named], help="import image archives, or images built by buildah")
    load.add_argument("images", nargs="+", metavar="FILE_OR_NAME")
    shell = commands.add_parser("shell", parents=[named], help="run a command (or a shell) inside its network")
    shell.add_argument("inside", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    commands.add_parser("kubeconfig", parents=[named], help="print the path of its kubeconfig")
    return top


def status(cluster: Cluster) -> int:
    """Print what runs."""
    record = cluster.record
    client = cluster.client(timeout=5)
    node = client.get(f"/api/v1/nodes/{cluster.name}") or {"status": {}, "spec": {}}
    pods = client.call("GET", "/api/v1/pods")["items"]
    state = "Ready" if is_ready(node) else "not Ready"
    print(f"cluster     {cluster.name} ({state}), {record.gpus} GPUs, {len(pods)} pods")
    print(f"API server  {cluster.api_url}\ngateway     {cluster.gateway_url}")
    print(f"KUBECONFIG  {cluster.kubeconfig}\nstate       {cluster.state_dir}")
    return 0


def logs(cluster: Cluster, component: str | None, follow: bool) -> int:
    """Print a component's log, or the names of all."""
    found = sorted(path.stem for path in cluster.logs_dir.glob("*.log"))
    if component not in found:
        print("\n".join(found) if component is None else f"no log of {component!r}; there are: {', '.join(found)}")
        return 0 if component is None else 1
    path = str(cluster.logs_dir / f"{component}.log")
    return subprocess.call(["tail", "-n", "+1", *(["-f"] if follow else []), path])


def shell(cluster: Cluster, command: list[str]) -> int:
    """Become a command inside the cluster's network."""
    command = command[1:] if command[:1] == ["--"] else command
    line = cluster.inside_command(command or [os.environ.get("SHELL", "/bin/bash")])
    os.environ["KUBECONFIG"] = str(cluster.inside_kubeconfig)
    os.execvp(line[0], line)


def dispatch(arguments: argparse.Namespace) -> int:
    """Do what was asked. Raises ClusterError, ToolError."""
    cluster = Cluster(arguments.name)
    match arguments.command:
        case "up":
            stages = cluster.up(gpus=arguments.gpus)
            print(f"cluster {cluster.name} is Ready in {stages.total:.1f} s; KUBECONFIG={cluster.kubeconfig}")
        case "down":
            cluster.down()
            print(f"cluster {cluster.name} is gone")
        case "status":
            return status(cluster)
        case "logs":
            return logs(cluster, arguments.component, arguments.follow)
        case "load-image":
            for image in arguments.images:
                cluster.load_image(Path(image) if Path(image).is_file() else image)
        case "shell":
            return shell(cluster, arguments.inside)
        case "kubeconfig":
            print(cluster.kubeconfig)
    return 0


def main() -> int:
    """Run one command and return its exit status."""
    try:
        return dispatch(parser().parse_args())
    except (ClusterError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
