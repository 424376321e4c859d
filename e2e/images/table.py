"""The project's images: how each is called, what it is made from, and what its content depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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


@dataclass(frozen=True)
class DockerImage:
    """An image from an ordinary Dockerfile, or from one stage (`target`) of it."""

    name: str
    reference: str
    context: Path
    target: str = ""
    arguments: tuple[tuple[str, str], ...] = (("BASE", BASE),)
    torch: bool = False
    """Whether it holds torch, whose CPU build comes from the cache where that has it."""

    def inputs(self) -> list[Path]:
        """List the files that decide the image's content, in a stable order."""
        skipped = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
        files = (path for path in self.context.rglob("*") if path.is_file())
        return sorted(path for path in files if not any(part in skipped for part in path.parts))

    def build_arguments(self, wheels: Sequence[str]) -> dict[str, str]:
        """Return what the build is told; `wheels` are those of the cache."""
        return {**dict(self.arguments), **({"WHEELS": " ".join(wheels)} if self.torch and wheels else {})}

    def fingerprint(self, base: str, wheels: Sequence[str] = ()) -> str:
        """Hash the inputs, their modes, the build arguments and the base it is built on."""
        told = (self.reference, self.target, self.build_arguments(wheels), base)
        digest = hashlib.sha256(repr(told).encode())
        for path in self.inputs():
            digest.update(f"{path.relative_to(self.context)} {path.stat().st_mode:o}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


IMAGES: dict[str, StaticImage | DockerImage] = {
    image.name: image
    for image in (
        StaticImage("pause", PAUSE_IMAGE, HERE / "pause" / "pause.c", (("User", "65535:65535"),)),
        StaticImage("trivial", "zerotide/trivial:dev", HERE / "trivial" / "trivial.c", (("User", "65532:65532"),)),
        DockerImage("operator", "zerotide/operator:dev", ROOT / "operator"),
        DockerImage("runtime", "zerotide/runtime:dev", ROOT / "runtime-image", "runtime", torch=True),
        DockerImage("smollm2", "zerotide/runtime-smollm2:dev", ROOT / "runtime-image", "smollm2", torch=True),
    )
}


def in_cluster(reference: str) -> str:
    """Return the name under which the kubelet looks for an image: Docker's defaults spelled out."""
    first = reference.partition("/")[0]
    return reference if "." in first or ":" in first or first == "localhost" else f"docker.io/{reference}"
