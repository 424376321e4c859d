"""How commands are declared: one function per command, with its help, its examples and its arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zerotide.api.failures import InvalidDuration
from zerotide.api.names import SYSTEM_NAMESPACE
from zerotide.api.scalars import parse_duration
from zerotide.cli.session import Session
from zerotide.scaling.replay.simulate import LEAST, MOST

Handler = Callable[[Session, argparse.Namespace], Awaitable[int | None]]
# argparse's own types are private.
Subparsers = Any
Options = Any


class Parser(argparse.ArgumentParser):
    """A parser that refuses what it does not know itself: argparse leaves that to the parser of all commands."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; end with the usage of this very command where something is left."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)} (`{self.prog} --help` lists what there is)")
        return found, left


def common() -> argparse.ArgumentParser:
    """Return the options that every command takes."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("common options")
    group.add_argument("-n", "--namespace", metavar="NS", help="namespace; default: that of the kubeconfig's context")
    group.add_argument("-A", "--all-namespaces", action="store_true", help="look in every namespace")
    group.add_argument("--json", action="store_true", help="print JSON on stdout")
    group.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    group.add_argument(
        "--system-namespace",
        metavar="NS",
        default=SYSTEM_NAMESPACE,
        help="where Zerotide runs; default: %(default)s",
    )
    return parser


def declare(
    commands: Subparsers, name: str, handler: Handler, help: str, *, examples: str = "", text: str = ""
) -> argparse.ArgumentParser:
    """Add one command and return its parser for its own arguments; `examples` has one per line."""
    lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=text or f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{lines}" if lines else None,
        parents=[common()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def defaulted(
    options: Options, name: str, kind: Callable[[str], Any], default: float | str, help: str, metavar: str = "N"
) -> None:
    """Declare an option whose help ends with its default, on a parser or a group of one."""
    told = default if isinstance(default, str) else f"{default:g}"
    options.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{help}; {told}")


def positive(text: str) -> float:
    """Read a positive number, as a type of an argument."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def figure(text: str) -> float:
    """Read a price, or what is weighed with one, as a type of an argument."""
    value = float(text)
    if not LEAST <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number from {LEAST:g} to {MOST:g}")
    return value


def whole(text: str) -> int:
    """Read a positive whole number, as a type of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def lasting(text: str) -> int:
    """Read a duration as the API writes it, as a type of an argument; in microseconds."""
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def group(commands: Subparsers, name: str, help: str) -> Subparsers:
    """Add a command that has commands of its own, such as `key create`."""
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
