"""`zerotide completion`: a script that completes commands, options and endpoints' names in the shell."""

from __future__ import annotations

import argparse
import shlex

from zerotide.cli.commands import Subparsers, declare
from zerotide.cli.session import Session

# Words are looked up by what stands before them; names come from the cluster and may take a moment.
SCRIPT = """_zerotide() {
  local current=${COMP_WORDS[COMP_CWORD]} first=${COMP_WORDS[1]} second=${COMP_WORDS[2]} words
  if (( COMP_CWORD == 1 )); then
    words=%(commands)s
  else
    case "$first $second" in
%(pairs)s
      *) case "$first" in
%(cases)s
      esac ;;
    esac
    if [[ $current != -* && " %(named)s " == *" $first "* ]]; then
      words=$(zerotide list --quiet 2>/dev/null)
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _zerotide zerotide
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = declare(
        commands,
        "completion",
        completion,
        "print a script that completes this command in a shell",
        examples='source <(zerotide completion bash)\nzerotide completion zsh > "${fpath[1]}/_zerotide"',
    )
    parser.add_argument("shell", choices=["bash", "zsh"], help="the shell")


async def completion(session: Session, args: argparse.Namespace) -> None:
    """Print the script."""
    text = script(args.parser)
    session.printer.data((ZSH + text if args.shell == "zsh" else text).rstrip())


def script(parser: argparse.ArgumentParser) -> str:
    """Return the bash script for a parser and its commands, two levels deep."""
    commands = _commands(parser)
    cases, pairs, named = [], [], []
    for name, command in commands.items():
        below = _commands(command)
        words = " ".join(below) if below else " ".join(_options(command))
        cases.append(f"        {name}) words={shlex.quote(words)} ;;")
        for inner, deeper in below.items():
            pairs.append(f"      {shlex.quote(f'{name} {inner}')}) words={shlex.quote(' '.join(_options(deeper)))} ;;")
        if any(action.dest == "name" and not action.option_strings for action in command._actions):
            named.append(name)
    values = {"commands": shlex.quote(" ".join(commands)), "named": " ".join(named)}
    return SCRIPT % {**values, "cases": "\n".join(cases), "pairs": "\n".join(pairs)}


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return sorted(option for action in parser._actions for option in action.option_strings if option.startswith("--"))
