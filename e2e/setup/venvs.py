"""Make the project's virtual environments, once per change of their locked requirements.

Stdlib only: it runs on a bare Python before anything is installed. Each environment is described by a lock
file with hashes; a stamp of that file inside the environment tells whether it is up to date.

    .venv          operator, checks, unit and end-to-end tests
    .venv-runtime  torch and the runtime's own tests
    .venv-tgi      the text-generation client, which needs huggingface-hub < 1.0
    .venv-peers    other engines, for `make bench-runtime`; made by name only
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerotide"


@dataclass(frozen=True)
class Environment:
    """One virtual environment: its folder, its lock file and the local packages on its path."""

    folder: str
    lock: str
    editable: tuple[str, ...] = ()
    torch: bool = False
    usual: bool = True


ENVIRONMENTS = {
    "dev": Environment(".venv", "tests/requirements.txt", ("operator", "runtime-image")),
    "runtime": Environment(".venv-runtime", "runtime-image/requirements-test.txt", ("runtime-image",), torch=True),
    "tgi": Environment(".venv-tgi", "tests/requirements-tgi.txt"),
    "peers": Environment(".venv-peers", "bench/requirements-peers.txt", usual=False),
}


class SetupError(SystemExit):
    """Say what is missing on this machine and how to get it."""


def stamp(environment: Environment) -> str:
    """Hash everything that decides the content of an environment."""
    content = b"".join((ROOT / lock).read_bytes() for lock in locks(environment))
    parts = (content, sys.version.encode(), " ".join(environment.editable).encode(), str(ROOT).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def locks(environment: Environment) -> list[str]:
    """Name the lock files to install; torch's is the CPU build where the cache has its wheel."""
    variant = "cpu" if list((CACHE / "wheels").glob("torch-*+cpu-*.whl")) else "cuda"
    return [environment.lock] + [f"runtime-image/requirements-torch-{variant}.txt"] * environment.torch


def make(name: str) -> None:
    """Create or renew one environment; return at once when its stamp matches."""
    environment = ENVIRONMENTS[name]
    folder = ROOT / environment.folder
    wanted, mark = stamp(environment), folder / ".stamp"
    if mark.exists() and mark.read_text() == wanted:
        return
    started = time.monotonic()
    print(f"  {environment.folder}: installing {environment.lock} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    wheels = CACHE / "wheels"
    links = ["--find-links", str(wheels)] if wheels.is_dir() else []
    files = [word for lock in locks(environment) for word in ("-r", str(ROOT / lock))]
    run(python, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", *links, *files)
    add_sources(folder, environment.editable)
    mark.write_text(wanted)
    print(f"  {environment.folder}: ready in {time.monotonic() - started:.0f} s", flush=True)


def add_sources(folder: Path, sources: tuple[str, ...]) -> None:
    """Put the local source roots on the environment's path and the zerotide command in its bin folder."""
    for site in folder.glob("lib/python3*/site-packages"):
        (site / "zerotide-sources.pth").write_text("".join(f"{ROOT / source}\n" for source in sources))
    if "operator" in sources:
        for command in ("zerotide", "kubectl-zerotide"):
            script = folder / "bin" / command
            script.write_text(
                f"#!{folder}/bin/python\nfrom zerotide.cli.main import main\n\nraise SystemExit(main())\n"
            )
            script.chmod(0o755)


def run(*command: str) -> None:
    """Run a command; on failure, stop with its name."""
    if subprocess.run(command).returncode != 0:
        raise SetupError(f"setup: `{' '.join(command)}` failed; its output is above")


def main(names: list[str]) -> None:
    """Make the named environments, or all usual ones."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything is checked
        raise SetupError(f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        raise SetupError("setup: Python's venv module is missing; install it (apt-get install python3-venv)") from None
    wanted = names or [name for name, environment in ENVIRONMENTS.items() if environment.usual]
    # Side by side: pip unpacks and compiles on one core, whatever there is to install.
    with ThreadPoolExecutor() as pool:
        for made in [pool.submit(make, name) for name in wanted]:
            made.result()


if __name__ == "__main__":
    main(sys.argv[1:])
