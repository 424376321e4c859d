"""The project's images: how each is called, what it is made from, and what its content depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.render import PAUSE_IMAGE

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BASE = "localhost/zerotide/base:bookworm"


@dataclass(frozen=True)
class StaticImage:
    """An image with one static C program in it."""

    name: str
    reference: str
    source: Path
    config: tuple[tuple[str, Any], ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class DockerImage:
    """An image from an ordinary Dockerfile; `arguments` name images that it is built on."""

    name: str
    reference: str
    context: Path
    dockerfile: str = "Dockerfile"
    arguments: tuple[tuple[str, str], ...] = (("BASE", BASE),)
    needs: tuple[str, ...] = ()

    def inputs(self) -> list[Path]:
        """List the files that decide the image's content, in a stable order."""
        skipped = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
        files = (path for path in self.context.rglob("*") if path.is_file())
        return sorted(path for path in files if not any(part in skipped for part in path.parts))

    def fingerprint(self, bases: str) -> str:
        """Hash the inputs, their modes, the build arguments and the images it is built on."""
        digest = hashlib.sha256(repr((self.reference, self.dockerfile, self.arguments, bases)).encode())
        for path in self.inputs():
            digest.update(f"{path.relative_to(self.context)} {path.stat().st_mode:o}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


RUNTIME = "zerotide/runtime:dev"

IMAGES: dict[str, StaticImage | DockerImage] = {
    image.name: image
    for image in (
        StaticImage("pause", PAUSE_IMAGE, HERE / "pause" / "pause.c", (("User", "65535:65535"),)),
        StaticImage("trivial", "zerotide/trivial:dev", HERE / "trivial" / "trivial.c", (("User", "65532:65532"),)),
        DockerImage("operator", "zerotide/operator:dev", ROOT / "operator"),
        DockerImage("runtime", RUNTIME, ROOT / "runtime-image"),
        DockerImage(
            "smollm2",
            "zerotide/runtime-smollm2:dev",
            ROOT / "runtime-image",
            "Dockerfile.smollm2",
            (("BASE", BASE), ("RUNTIME", f"localhost/{RUNTIME}")),
            needs=("runtime",),
        ),
    )
}


def in_cluster(reference: str) -> str:
    """Return the name under which the kubelet looks for an image: Docker's defaults spelled out."""
    first = reference.partition("/")[0]
    return reference if "." in first or ":" in first or first == "localhost" else f"docker.io/{reference}"
