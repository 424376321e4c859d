"""Put a built image into a running cluster, sending only the layers that it does not have; or into a file."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from e2e.cluster.errors import CommandFailed
from e2e.cluster.shell import run
from e2e.images import storage
from e2e.images.archive import static_image
from e2e.images.table import IMAGES, StaticImage, in_cluster

if TYPE_CHECKING:
    from e2e.cluster.cluster import Cluster


def digest_in_cluster(cluster: Cluster, reference: str) -> str:
    """Return the digest of an image's manifest in the cluster; empty when it is not there."""
    listed = run(*cluster.ctr("images", "ls", f"name=={in_cluster(reference)}"))
    return next((line.split()[2] for line in listed.splitlines()[1:]), "")


def push_into(cluster: Cluster, reference: str) -> None:
    """Push an image of the project's storage into a cluster. Raises CommandFailed."""
    reference = reference.removeprefix("localhost/")
    storage.push(reference)
    load(cluster, storage.folder_of(reference), reference)


def load(cluster: Cluster, image: Path, reference: str) -> bool:
    """Import a pushed image; return whether the cluster lacked it. Raises CommandFailed."""
    manifest = storage.manifest(image)
    if digest_in_cluster(cluster, reference) == manifest["digest"]:
        return False
    present = set(run(*cluster.ctr("content", "ls", "--quiet")).split())
    command = cluster.ctr("images", "import", "--digests=false", "-")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as importer:
        assert importer.stdin is not None and importer.stdout is not None
        try:
            write(importer.stdin, image, reference, present)
            importer.stdin.close()
        except BrokenPipeError:
            pass  # the importer says below why it ended early
        said = importer.stdout.read().decode(errors="replace")
    if importer.returncode != 0:
        raise CommandFailed(f"importing {reference} into cluster {cluster.name!r} failed: {said.strip()[-2000:]}")
    return True


def write(file: IO[bytes], image: Path, reference: str, present: Collection[str] = ()) -> None:
    """Write a pushed image as an OCI archive, but for the blobs that are present where it goes."""
    manifest = storage.manifest(image)
    with tarfile.open(fileobj=file, mode="w|") as tar:
        for digest in dict.fromkeys(blob["digest"] for blob in storage.blobs(image)):
            if digest not in present:
                tar.add(storage.blob_path(image, digest), _blob(digest))
        tar.add(image / "manifest.json", _blob(manifest["digest"]))
        _add(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(tar, "index.json", index(manifest, reference))


def save(name: str, folder: Path) -> Path:
    """Write a built image into a folder as an archive for `ctr images import`, and so for kind; return its path."""
    table = IMAGES[name]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{table.reference.replace('/', '-').replace(':', '-')}.tar"
    part = target.with_suffix(f".{os.getpid()}.part")
    if isinstance(table, StaticImage):
        shutil.copyfile(static_image(table.reference, table.source, dict(table.config)), part)
    else:
        with part.open("wb") as file:
            write(file, storage.folder_of(table.reference), table.reference)
    part.rename(target)
    return target


def index(manifest: dict[str, Any], reference: str) -> dict[str, Any]:
    """Render the index of an archive that holds one image, named as the kubelet looks for it."""
    name = in_cluster(reference)
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    return {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
