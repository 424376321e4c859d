"""Run the small commands that a cluster is made of."""

from __future__ import annotations

import subprocess

from e2e.cluster.errors import CommandFailed


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command and return its standard output. Raises CommandFailed with what it said."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise CommandFailed(f"`{command[0]}` is not installed; run `python3 -m e2e.setup.debian`") from None
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout
