"""Build images when their inputs changed, load them where they are missing, and say what it took."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from typing import Any

from e2e.cluster.cluster import Cluster
from e2e.images import storage
from e2e.images.archive import static_image
from e2e.images.load import digest_in_cluster, load
from e2e.images.prune import building, prune
from e2e.images.table import IMAGES, DockerImage, StaticImage
from e2e.setup import debian

Say = Callable[[str], None]


def closure(names: list[str]) -> list[str]:
    """List the named images and what they are built on, in building order."""
    ordered: list[str] = []
    for name in names:
        for one in (*closure(list(IMAGES[name].needs)), name):
            if one not in ordered:
                ordered.append(one)
    return ordered


def build(names: list[str], clusters: list[Cluster], say: Say = print) -> None:
    """Build the named images and load them into the clusters. Raises CommandFailed, NotRunning."""
    debian.ensure(debian.ALL, say)
    storage.folder().mkdir(parents=True, exist_ok=True)
    for name in closure(names):
        image = IMAGES[name]
        started = time.monotonic()
        # One builder at a time for each image, over all processes of this machine.
        with (storage.folder() / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if isinstance(image, StaticImage):
                outcome = _static(image, clusters)
            else:
                outcome = _docker(image, clusters if name in names else [], say)
        say(f"  {image.reference:<30} {outcome}, {time.monotonic() - started:.1f} s")


def _static(image: StaticImage, clusters: list[Cluster]) -> str:
    archive = static_image(image.reference, image.source, dict(image.config))
    digest = storage.archived_digest(archive)
    loaded = [cluster for cluster in clusters if digest_in_cluster(cluster, image.reference) != digest]
    for cluster in loaded:
        cluster.load_image(archive)
    return f"{archive.stat().st_size / 1e6:.1f} MB{_into(loaded)}"


def _docker(image: DockerImage, clusters: list[Cluster], say: Say) -> str:
    record_file = storage.folder() / f"{image.name}.json"
    record: dict[str, Any] = json.loads(record_file.read_text()) if record_file.exists() else {}
    with building():
        base = storage.ensure_base(say)
        bases = " ".join([base, *(storage.image_id(f"localhost/{IMAGES[need].reference}") for need in image.needs)])
    fingerprint = image.fingerprint(bases)
    pushed = storage.folder_of(image.reference)
    fresh = record.get("fingerprint") == fingerprint and (pushed / "manifest.json").exists()
    if not fresh:
        # Whatever happens from here on, the next build must not take a half-written image for this one.
        record_file.unlink(missing_ok=True)
        with building():
            storage.bud(image.context, image.dockerfile, image.reference, dict(image.arguments))
            storage.push(image.reference)
        storage.replace(record_file, json.dumps({"fingerprint": fingerprint}))
        prune()
    loaded = [cluster for cluster in clusters if load(cluster, pushed, image.reference)]
    size = storage.compressed_size(pushed) / 1e6
    return f"{'unchanged' if fresh else 'built'}, {size:.0f} MB compressed{_into(loaded)}"


def _into(clusters: list[Cluster]) -> str:
    return "".join(f", loaded into {cluster.name}" for cluster in clusters)
