"""Put a built image into a running cluster, sending only the layers that it does not have."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.cluster.errors import CommandFailed
from e2e.cluster.shell import run
from e2e.images import storage
from e2e.images.table import in_cluster

if TYPE_CHECKING:
    from e2e.cluster.cluster import Cluster


def digest_in_cluster(cluster: Cluster, reference: str) -> str:
    """Return the digest of an image's manifest in the cluster; empty when it is not there."""
    listed = run(*cluster.ctr("images", "ls", f"name=={in_cluster(reference)}"))
    return next((line.split()[2] for line in listed.splitlines()[1:]), "")


def push_into(cluster: Cluster, reference: str) -> None:
    """Push an image of the project's storage into a cluster. Raises CommandFailed."""
    load(cluster, storage.layout_of(reference), storage.push(reference.removeprefix("localhost/")), reference)


def load(cluster: Cluster, layout: Path, manifest: dict[str, Any], reference: str) -> bool:
    """Import an image from its OCI layout; return whether the cluster lacked it. Raises CommandFailed."""
    if digest_in_cluster(cluster, reference) == manifest["digest"]:
        return False
    present = set(run(*cluster.ctr("content", "ls", "--quiet")).split())
    wanted = [manifest, *storage.blobs(layout, manifest)]
    command = cluster.ctr("images", "import", "--digests=false", "-")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as importer:
        assert importer.stdin is not None and importer.stdout is not None
        try:
            with tarfile.open(fileobj=importer.stdin, mode="w|") as tar:
                for digest in dict.fromkeys(blob["digest"] for blob in wanted):
                    if digest not in present:
                        tar.add(storage.blob_path(layout, digest), f"blobs/{digest.replace(':', '/')}")
                _add(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
                _add(tar, "index.json", index(manifest, reference))
            importer.stdin.close()
        except BrokenPipeError:
            pass  # the importer says below why it ended early
        said = importer.stdout.read().decode(errors="replace")
    if importer.returncode != 0:
        raise CommandFailed(f"importing {reference} into cluster {cluster.name!r} failed: {said.strip()[-2000:]}")
    return True


def index(manifest: dict[str, Any], reference: str) -> dict[str, Any]:
    """Render the index of an archive that holds one image, named as the kubelet looks for it."""
    name = in_cluster(reference)
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    return {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}


def _add(tar: tarfile.TarFile, name: str, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
