"""Lock the dependencies of every environment, with hashes and without naming an index.

`uv` is installed into a tools environment of its own; it writes plain requirements files that pip checks. What was
released within the last days is not taken: a release that somebody else made with a stolen account is mostly found and
withdrawn by then.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".build" / "lock"
UV = "uv==0.13.9"
PAUSE = "5 days"
"""How long a release waits before it is locked."""

LOCKS = (
    ("tests/requirements.txt", ("--group", "dev", "pyproject.toml")),
    ("operator/requirements.txt", ("pyproject.toml",)),
    ("tests/requirements-tgi.txt", ("tests/requirements-tgi.in",)),
    ("bench/requirements-peers.txt", ("bench/requirements-peers.in",)),
)


def command(target: str, sources: Sequence[str]) -> list[str]:
    """Return what writes a lock file."""
    options = ["--generate-hashes", "--no-emit-index-url", "--no-header", "-q", "--python-version", "3.11"]
    return [str(TOOLS / "bin" / "uv"), "pip", "compile", "--exclude-newer", PAUSE, *options, *sources, "-o", target]


def main() -> None:
    """Write every lock file again."""
    python = TOOLS / "bin" / "python"
    if not python.exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", UV], check=True)
    for target, sources in LOCKS:
        print(f"locking {target}", file=sys.stderr)
        subprocess.run(command(target, sources), cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
