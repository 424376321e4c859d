"""Knative Serving 0.50 by version, with the ordinary Go client: its programs in the cache, its manifests read in place.

Nothing of it is part of this project; the module's folder in Go's own cache holds the manifests.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from bench.wire.programs import say
from e2e.tools.build import go_program
from e2e.tools.table import ToolError, cache

MODULE = "knative.dev/serving"
VERSION = "0.50.0"
PROGRAMS = ("activator", "autoscaler", "controller", "webhook", "queue")


def programs(*names: str) -> dict[str, Path]:
    """Return programs of Knative by name, installed where they are missing. Raises ToolError."""
    folder = cache() / "bin" / "knative" / VERSION
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        _install(folder, missing)
    return {name: folder / name for name in names}


def _install(folder: Path, names: list[str]) -> None:
    started = time.monotonic()
    say(f"  Knative {VERSION}: installing {', '.join(names)}, 1 to 4 min on two cores …")
    folder.mkdir(parents=True, exist_ok=True)
    packages = [f"{MODULE}/cmd/{name}@v{VERSION}" for name in names]
    environment = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -trimpath", "GOBIN": str(folder), "GOWORK": "off"}
    command = [go_program(say), "install", "-ldflags", "-s -w", *packages]
    if subprocess.run(command, env={**os.environ, **environment}).returncode != 0:
        raise ToolError(f"`{' '.join(command)}` failed (output above); without Knative: --no-knative")
    say(f"  Knative {VERSION}: installed in {time.monotonic() - started:.0f} s, in {folder}")


def sources() -> Path:
    """Return the folder of serving's module. Raises ToolError."""
    return _module(MODULE, f"v{VERSION}")


def beside(module: str) -> Path:
    """Return the folder of a module at the version that serving asks for. Raises ToolError."""
    for line in (sources() / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == [module]:
            return _module(module, words[1])
    raise ToolError(f"{MODULE} {VERSION} does not ask for {module}")


def _module(path: str, version: str) -> Path:
    command = [go_program(say), "mod", "download", "-json", f"{path}@{version}"]
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    said = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "Dir" not in said:
        raise ToolError(f"`{' '.join(command)}` failed: {said.get('Error') or done.stderr.strip()}")
    return Path(said["Dir"])
