"""`python3 -m e2e.up [down|env]`: check the Python before anything that needs a new one is imported."""

import sys


def main() -> int:
    """Run the command, or say which Python is needed."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the reason why this file exists
        print(f"make up: Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    from e2e.up.command import run

    return run(sys.argv[1:])


sys.exit(main())
