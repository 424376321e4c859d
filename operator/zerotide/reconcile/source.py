"""Where the weights are, as the container sees them: by repository, or by path with the volume that brings them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from zerotide.api.endpoint import parse_uri

MODELS = "/models"
_VOLUME = "model"


@dataclass(frozen=True, slots=True)
class Source:
    """The weights: `uri` for the project's runtime, `repository` or `path` for others, and what must be mounted."""

    uri: str
    repository: str = ""
    revision: str = ""
    path: str = ""
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()

    @property
    def local(self) -> bool:
        """Tell whether the weights come without the network."""
        return not self.repository


def source_of(uri: str) -> Source:
    """Return how the weights of a `model.uri` reach the container; only what needs a volume gets one."""
    parsed = parse_uri(uri)
    if parsed.scheme == "hf":
        return Source(uri, repository=parsed.path, revision=parsed.revision)
    if parsed.scheme == "image":
        return Source(uri, path=parsed.path)
    if parsed.scheme == "pvc":
        path = f"{MODELS}{parsed.path}"
        volume = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": parsed.claim, "readOnly": True}}
        return _mounted(path, MODELS, volume)
    # The last part of the path is kept, because some engines look at the name of the file.
    path = f"{MODELS}/{PurePosixPath(parsed.path).name}"
    return _mounted(path, path, {"name": _VOLUME, "hostPath": {"path": parsed.path}})


def _mounted(path: str, mount_path: str, volume: dict[str, Any]) -> Source:
    mount = {"name": _VOLUME, "mountPath": mount_path, "readOnly": True}
    return Source(f"file://{path}", path=path, volumes=(volume,), mounts=(mount,))
