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


def build(names: list[str], clusters: list[Cluster], say: Say = print) -> None:
    """Build the named images and load them into the clusters. Raises CommandFailed, NotRunning."""
    debian.ensure(debian.ALL, say)
    storage.folder().mkdir(parents=True, exist_ok=True)
    for name in names:
        image = IMAGES[name]
        started = time.monotonic()
        # One builder at a time for each image, over all processes of this machine.
        with (storage.folder() / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            outcome = _static(image, clusters) if isinstance(image, StaticImage) else _docker(image, clusters, say)
        say(f"  {image.reference:<30} {outcome}, {time.monotonic() - started:.1f} s")


def _static(image: StaticImage, clusters: list[Cluster]) -> str:
    archive = static_image(image.reference, image.source, dict(image.config))
    digest = storage.archived_digest(archive)
    loaded = [cluster for cluster in clusters if digest_in_cluster(cluster, image.reference) != digest]
    for cluster in loaded:
        cluster.load_image(archive)
    return f"{archive.stat().st_size / 1e6:.1f} MB{_into(loaded) if clusters else f' in {archive}'}"


def _docker(image: DockerImage, clusters: list[Cluster], say: Say) -> str:
    record_file = storage.folder() / f"{image.name}.json"
    record: dict[str, Any] = json.loads(record_file.read_text()) if record_file.exists() else {}
    with building():
        fingerprint = image.fingerprint(storage.ensure_base(say), storage.wheels())
    pushed = storage.folder_of(image.reference)
    fresh = record.get("fingerprint") == fingerprint and (pushed / "manifest.json").exists()
    if not fresh:
        # Whatever happens from here on, the next build must not take a half-written image for this one.
        record_file.unlink(missing_ok=True)
        with building():
            storage.bud(image.context, image.target, image.reference, image.build_arguments(storage.wheels()))
            storage.push(image.reference)
        storage.replace(record_file, json.dumps({"fingerprint": fingerprint}))
        prune()
    loaded = [cluster for cluster in clusters if load(cluster, pushed, image.reference)]
    size = storage.compressed_size(pushed) / 1e6
    return f"{'unchanged' if fresh else 'built'}, about {size:.0f} MB compressed{_into(loaded)}"


def _into(clusters: list[Cluster]) -> str:
    return "".join(f", loaded into {cluster.name}" for cluster in clusters)
