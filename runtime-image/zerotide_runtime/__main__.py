"""The command line: serve a model, or publish one."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run the command that the arguments name; return the exit status."""
    if arguments[:1] == ["publish"]:
        from zerotide_runtime.commands import publish

        return publish(arguments[1:])
    from zerotide_runtime.commands import serve

    return serve(arguments[1:] if arguments[:1] == ["serve"] else arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
