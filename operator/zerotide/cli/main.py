"""The entry point: parse, run one command, turn every failure into a sentence and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from zerotide.api.failures import ApiError as BadInput
from zerotide.cli import (
    bench,
    bill,
    call,
    completion,
    deploy,
    doctor,
    endpoints,
    keys,
    logs,
    plan,
    state,
    version,
    wait,
)
from zerotide.cli.commands import Parser
from zerotide.cli.errors import CliError, from_kube
from zerotide.cli.output import Printer
from zerotide.cli.session import Session
from zerotide.kube import KubeError

EPILOG = """exit codes:
  0 ok · 1 error · 2 usage · 3 not found · 4 denied · 5 timed out · 6 start failed · 7 verify found a difference

environment:
  KUBECONFIG        the cluster
  ZEROTIDE_GATEWAY  address of the gateway, such as http://127.0.0.1:31080; default: through kubectl port-forward
  ZEROTIDE_API_KEY  key that `zerotide call` shows

Also as `kubectl zerotide`. `zerotide COMMAND --help` has examples.
"""


def build() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = Parser(
        prog="zerotide",
        description="Model endpoints on Kubernetes that cost nothing while nobody calls them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (endpoints, deploy, wait, call, logs, state, keys, bill, plan, bench, doctor, version, completion):
        module.add(commands)
    parser.set_defaults(parser=parser)
    return parser


async def run(args: argparse.Namespace) -> int:
    """Run the command that was parsed and return its exit code."""
    session = Session(
        Printer(as_json=args.json),
        context=args.context,
        chosen_namespace=args.namespace,
        all_namespaces=args.all_namespaces,
        system_namespace=args.system_namespace,
    )
    async with session:
        return await args.handler(session, args) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code tells what happened."""
    args = build().parse_args(argv)
    try:
        return asyncio.run(run(args))
    except KubeError as error:
        return _fail(from_kube(error))
    except CliError as error:
        return _fail(error)
    except BadInput as error:
        return _fail(CliError(str(error)))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our pipe left; Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(error: CliError) -> int:
    print(f"zerotide: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
