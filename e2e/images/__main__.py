"""Command line of the images: `python3 -m e2e.images build operator --load zerotide`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2e.cluster import Cluster, ClusterError
from e2e.images.build import build
from e2e.images.load import save
from e2e.images.table import IMAGES
from e2e.tools import ToolError


def main() -> int:
    """Run one command and return its exit status."""
    top = argparse.ArgumentParser(prog="python3 -m e2e.images", description="The project's images, without Docker.")
    commands = top.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build what changed")
    builder.add_argument("names", nargs="+", choices=[*IMAGES, "all"], metavar="NAME", help=", ".join([*IMAGES, "all"]))
    builder.add_argument(
        "--load", action="append", default=[], metavar="CLUSTER", help="import them into this cluster, if it runs"
    )
    saver = commands.add_parser("save", help="build what changed and write archives for `kind load image-archive`")
    saver.add_argument("names", nargs="+", choices=[*IMAGES, "all"], metavar="NAME", help=", ".join([*IMAGES, "all"]))
    saver.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where; the present folder if absent")
    arguments = top.parse_args()
    names = list(IMAGES) if "all" in arguments.names else arguments.names
    try:
        if arguments.command == "save":
            build(names, [], lambda text: print(text, file=sys.stderr))
            for name in names:
                print(save(name, arguments.to))
            return 0
        clusters = [Cluster(name) for name in arguments.load]
        for cluster in [cluster for cluster in clusters if not cluster.running]:
            print(f"  cluster {cluster.name} does not run: nothing is loaded into it")
        build(names, [cluster for cluster in clusters if cluster.running])
    except (ClusterError, ToolError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
