"""Lock the runtime's Python packages with hashes: `python3 runtime-image/lock.py [path of uv]`.

The index's torch needs two gigabytes of CUDA libraries, its CPU build none, so torch is locked apart from the
rest and whoever installs takes one of the two:

    requirements.txt             what the image needs, without torch
    requirements-test.txt        the same and what the tests need, without torch
    requirements-torch-cpu.txt   the CPU build, from a wheel in `~/.cache/zerotide/wheels` or where pip finds it
    requirements-torch-cuda.txt  the index's build and its CUDA libraries, which runs on CPUs too

One file with both hashes would not do: under --require-hashes pip prefers the index, whose page names hashes,
to a folder, whose listing has none.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerotide"
PYTHON = "3.11"
ENTRY = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==.*?(?=^[a-z0-9]|\Z)", re.MULTILINE | re.DOTALL)


def compile_lock(uv: str, source: Path, *options: str) -> dict[str, str]:
    """Resolve one requirements file; return each package's lock entry by name."""
    command = [uv, "pip", "compile", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header"]
    command += ["--no-annotate", "-q", "--python-version", PYTHON, *options, source.name]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=source.parent).stdout
    return {match["name"]: match.group().rstrip() + "\n" for match in ENTRY.finditer(text)}


def cpu_wheel() -> Path:
    """Return the CPU build of torch in the cache."""
    wheels = sorted((CACHE / "wheels").glob("torch-*+cpu-cp311-*.whl"))
    if not wheels:
        raise SystemExit(f"lock: no CPU build of torch in {CACHE / 'wheels'}; put torch-…+cpu-cp311-….whl there")
    return wheels[-1]


def write(name: str, entries: dict[str, str]) -> None:
    """Write one lock file, sorted by name."""
    (HERE / name).write_text("".join(entry for _, entry in sorted(entries.items())))


def main(uv: str) -> None:
    """Write the four lock files."""
    wheel = cpu_wheel()
    links = ("--find-links", str(wheel.parent))
    plain = {}
    for name in ("requirements", "requirements-test"):
        plain[name] = compile_lock(uv, HERE / f"{name}.in", *links)
        write(f"{name}.txt", {package: entry for package, entry in plain[name].items() if package != "torch"})
    version, digest = wheel.name.split("-")[1], hashlib.sha256(wheel.read_bytes()).hexdigest()
    write("requirements-torch-cpu.txt", {"torch": f"torch=={version} \\\n    --hash=sha256:{digest}\n"})
    with tempfile.TemporaryDirectory() as folder:
        only_torch = Path(folder) / "torch.in"
        only_torch.write_text("\n".join(re.findall(r"^torch==.*$", (HERE / "requirements.in").read_text(), re.M)))
        cuda = compile_lock(uv, only_torch)
    write(
        "requirements-torch-cuda.txt",
        {package: cuda[package] for package in cuda.keys() - (plain["requirements"].keys() - {"torch"})},
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "uv")
