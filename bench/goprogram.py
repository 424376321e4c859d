"""Go programs by version, installed with the ordinary Go client into the cache; nothing of them is part of the tree."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.wire.programs import say
from e2e.tools.build import go_program
from e2e.tools.table import ToolError, cache


def installed(title: str, version: str, packages: Mapping[str, str], instead: str = "") -> dict[str, Path]:
    """Return programs by name, each from its package, installed where missing.

    Raises ToolError, which ends with what to do `instead`.
    """
    folder = cache() / "bin" / title.lower() / version
    missing = [name for name in packages if not (folder / name).is_file()]
    if missing:
        started = time.monotonic()
        say(f"  {title} {version}: installing {', '.join(missing)}, 1 to 4 min on two cores …")
        _install(folder, [f"{packages[name]}@v{version}" for name in missing], instead)
        say(f"  {title} {version}: installed in {time.monotonic() - started:.0f} s, in {folder}")
    return {name: folder / name for name in packages}


def _install(folder: Path, packages: list[str], instead: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -trimpath", "GOBIN": str(folder), "GOWORK": "off"}
    command = [go_program(say), "install", "-ldflags", "-s -w", *packages]
    if subprocess.run(command, env={**os.environ, **environment}).returncode != 0:
        raise ToolError(f"`{' '.join(command)}` failed (output above){instead}")


def module_folder(path: str, version: str) -> Path:
    """Return the folder of a module at a version, in Go's own cache. Raises ToolError."""
    command = [go_program(say), "mod", "download", "-json", f"{path}@{version}"]
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    said = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "Dir" not in said:
        raise ToolError(f"`{' '.join(command)}` failed: {said.get('Error') or done.stderr.strip()}")
    return Path(said["Dir"])
