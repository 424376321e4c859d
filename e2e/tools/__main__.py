"""Command line of the tools: list them, fetch or build what is missing, prove that they build."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from e2e.tools.build import build, ensure
from e2e.tools.table import TOOLS, ToolError, find


def names(asked: list[str]) -> list[str]:
    """Resolve the names of tools; none or `all` is every one. Raises ToolError."""
    if not asked or asked == ["all"]:
        return list(TOOLS)
    for name in asked:
        if name not in TOOLS:
            raise ToolError(f"no tool is called {name!r}; there are: {', '.join(TOOLS)}")
    return asked


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = argparse.ArgumentParser(prog="python3 -m e2e.tools", description="The pinned programs of the local cluster.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print each tool, its version and where it is")
    fetch = commands.add_parser("ensure", help="build what is not in the cache yet")
    fetch.add_argument("names", nargs="*", metavar="NAME")
    source = commands.add_parser("build", help="build from source, whether cached or not")
    source.add_argument("names", nargs="*", metavar="NAME")
    source.add_argument("--into", type=Path, required=True, metavar="DIR", help="each tool gets DIR/TOOL/VERSION/")
    return top


def main() -> int:
    """Run one command and return its exit status."""
    arguments = parser().parse_args()
    try:
        if arguments.command == "list":
            for tool in TOOLS.values():
                print(f"{tool.name:<12}{tool.version:<10}{find(tool.name) or 'not built yet'}")
        elif arguments.command == "ensure":
            ensure(names(arguments.names))
        else:
            for tool in map(TOOLS.__getitem__, names(arguments.names)):
                build(tool, arguments.into / tool.name / tool.version)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
