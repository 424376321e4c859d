"""Knative Serving 0.50 by version, with the ordinary Go client: its programs in the cache, its manifests read in place.

Nothing of it is part of this project; the module's folder in Go's own cache holds the manifests.
"""

from __future__ import annotations

from pathlib import Path

from bench.goprogram import installed, module_folder
from e2e.tools.table import ToolError

MODULE = "knative.dev/serving"
VERSION = "0.50.0"
PROGRAMS = ("activator", "autoscaler", "controller", "webhook", "queue")


def programs(*names: str) -> dict[str, Path]:
    """Return programs of Knative by name, installed where they are missing. Raises ToolError."""
    packages = {name: f"{MODULE}/cmd/{name}" for name in names}
    return installed("Knative", VERSION, packages, instead="; without Knative: --no-knative")


def sources() -> Path:
    """Return the folder of serving's module. Raises ToolError."""
    return module_folder(MODULE, f"v{VERSION}")


def beside(module: str) -> Path:
    """Return the folder of a module at the version that serving asks for. Raises ToolError."""
    for line in (sources() / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == [module]:
            return module_folder(module, words[1])
    raise ToolError(f"{MODULE} {VERSION} does not ask for {module}")
