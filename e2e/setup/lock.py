"""Lock the dependencies of every environment, with hashes and without naming an index.

`uv` is installed into a tools environment of its own; it writes plain requirements files that pip checks.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".build" / "lock"
UV = "uv==0.13.9"

LOCKS = (
    ("tests/requirements.txt", ("--group", "dev", "pyproject.toml")),
    ("operator/requirements.txt", ("pyproject.toml",)),
    ("tests/requirements-tgi.txt", ("tests/requirements-tgi.in",)),
    ("bench/requirements-peers.txt", ("bench/requirements-peers.in",)),
)


def main() -> None:
    """Write every lock file again."""
    python = TOOLS / "bin" / "python"
    if not python.exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", UV], check=True)
    for target, sources in LOCKS:
        print(f"locking {target}", file=sys.stderr)
        options = ["--generate-hashes", "--no-emit-index-url", "--no-header", "-q", "--python-version", "3.11"]
        subprocess.run([TOOLS / "bin" / "uv", "pip", "compile", *options, *sources, "-o", target], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
