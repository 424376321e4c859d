"""Compile the backend and the load generator, and find what a benchmark takes from Debian."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from e2e.setup import debian
from e2e.tools.table import cache

HERE = Path(__file__).resolve().parent
COMPILER = {"gcc": "gcc", "libc6-dev": "/usr/include/stdlib.h", "util-linux": "taskset"}
PROXIES = {"haproxy": "haproxy", "nginx-light": "nginx"}


class CompilerFailed(SystemExit):
    """A program of the benchmark's own could not be compiled; the compiler's words are in it."""


def say(text: str) -> None:
    """Tell the progress where it does not mix with results."""
    print(text, file=sys.stderr, flush=True)


def ensure_packages(names: dict[str, str]) -> None:
    """Install Debian packages that are missing, without starting what they bring. Raises PackagesMissing."""
    debian.ensure(names, say)


def compiled(name: str) -> Path:
    """Return a program of this folder, compiled once for each text of it. Raises CompilerFailed, PackagesMissing."""
    ensure_packages(COMPILER)
    source = HERE / f"{name}.c"
    text = source.read_bytes() + (HERE / "http.h").read_bytes()
    program = cache() / "bench" / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    part = program.with_suffix(f".{os.getpid()}")
    done = subprocess.run(["gcc", "-O2", "-o", str(part), str(source)], capture_output=True, text=True)
    if done.returncode != 0:
        raise CompilerFailed(f"bench: gcc could not compile {source}:\n{done.stderr}")
    part.rename(program)
    return program
