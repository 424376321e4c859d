"""Where the weights are, as the container sees them: by repository, or by path with the volume that brings them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from zerotide.api.endpoint import parse_uri
from zerotide.api.spec_model import ModelSpec

MODELS, ADAPTERS = "/models", "/adapters"
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
    adapters: tuple[Source, ...] = ()

    @property
    def local(self) -> bool:
        """Tell whether the weights come without the network, those of adapters too."""
        return not self.repository and all(adapter.local for adapter in self.adapters)


def source_of_model(model: ModelSpec) -> Source:
    """Return a model's weights with its adapters' beside them; these have volumes of their own where they need one."""
    adapters = tuple(adapter_source(number, adapter.uri) for number, adapter in enumerate(model.adapters))
    source = source_of(model.uri)
    return replace(
        source,
        volumes=(*source.volumes, *chain.from_iterable(adapter.volumes for adapter in adapters)),
        mounts=(*source.mounts, *chain.from_iterable(adapter.mounts for adapter in adapters)),
        adapters=adapters,
    )


def adapter_source(number: int, uri: str) -> Source:
    """Return how an adapter reaches the container: one from a claim has a volume of its own."""
    parsed = parse_uri(uri)
    if parsed.scheme != "pvc":
        return source_of(uri)
    folder = f"{ADAPTERS}/{number}"
    volume = {"name": f"adapter-{number}", "persistentVolumeClaim": {"claimName": parsed.claim, "readOnly": True}}
    return _mounted(f"{folder}{parsed.path}", folder, volume)


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
    mount = {"name": volume["name"], "mountPath": mount_path, "readOnly": True}
    return Source(f"file://{path}", path=path, volumes=(volume,), mounts=(mount,))
