"""Make small images from a static C program, without any image tool: an OCI archive is a tar of a few JSON files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.cluster.errors import CommandFailed
from e2e.cluster.render import PAUSE_IMAGE
from e2e.cluster.shell import run
from e2e.images.table import in_cluster
from e2e.tools.table import cache

if TYPE_CHECKING:
    from e2e.cluster.cluster import Cluster

HERE = Path(__file__).resolve().parent
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def compile_static(source: Path, target: Path) -> None:
    """Compile one C file into a static program. Raises CommandFailed."""
    command = ["gcc", "-O2", "-static", "-s", "-Wall", "-pthread", "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise CommandFailed("gcc is not installed; run `python3 -m e2e.setup.debian`") from None
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()[-2000:]}")


def static_image(reference: str, source: Path, config: dict[str, Any]) -> Path:
    """Return an OCI archive with one program in it, made once for each content of its source."""
    key = hashlib.sha256(source.read_bytes() + json.dumps([reference, config, 1]).encode()).hexdigest()[:16]
    archive = cache() / "images" / f"{source.stem}-{key}.tar"
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    program = archive.with_suffix(f".{os.getpid()}.bin")
    compile_static(source, program)
    part = archive.with_suffix(f".{os.getpid()}.part")
    try:
        write_archive(part, in_cluster(reference), source.stem, program.read_bytes(), config)
        part.rename(archive)
    finally:
        program.unlink()
    return archive


def write_archive(path: Path, reference: str, program: str, content: bytes, config: dict[str, Any]) -> None:
    """Write the OCI archive of an image whose only file is one program."""
    layer = _tar({program: (content, 0o755)})
    image = {
        "architecture": MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": [f"/{program}"], **config},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = {_digest(layer): layer}

    def blob(kind: str, value: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(value).encode()
        blobs[_digest(data)] = data
        return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

    layers = [{"mediaType": LAYER, "digest": _digest(layer), "size": len(layer)}]
    manifest = blob(
        MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(CONFIG, image), "layers": layers}
    )
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}
    files = {
        "oci-layout": (b'{"imageLayoutVersion": "1.0.0"}', 0o644),
        "index.json": (json.dumps(index).encode(), 0o644),
    }
    files |= {f"blobs/{digest.replace(':', '/')}": (data, 0o644) for digest, data in blobs.items()}
    path.write_bytes(_tar(files))


def ensure_pause(cluster: Cluster) -> None:
    """Give the cluster the image that holds every pod's namespaces. Raises CommandFailed."""
    if PAUSE_IMAGE in run(*cluster.ctr("images", "ls", "-q")).split():
        return
    cluster.load_image(static_image(PAUSE_IMAGE, HERE / "pause" / "pause.c", {"User": "65535:65535"}))


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
