"""Render everything that an endpoint is made of, and tell specs and renderings apart by digests.

The digest of the spec is an annotation of the pod template: it says which spec a pod runs. The digest of the
rendering is an annotation of the Deployment: it says which version of this code rendered it. When only the second
one changed, the operator was upgraded; that must not roll a running model, and waits for the next wake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from zerotide.api.endpoint import Engine, InferenceEndpoint, Request
from zerotide.api.names import GROUP
from zerotide.api.spec_runtime import DEFAULT_PATH
from zerotide.reconcile import pod
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import Device
from zerotide.reconcile.failures import RenderError

_SORTED = msgspec.json.Encoder(order="sorted")
ANNOTATION_SPEC_DIGEST = f"{GROUP}/spec-digest"

Object = dict[str, Any]

_POD_FIELDS = {"model", "runtime", "accelerator", "resources", "drain", "cache", "pod_template"}


@dataclass(frozen=True, slots=True)
class Rendering:
    """The pod template of an endpoint, by which spec and as which rendering; or why there is none."""

    spec_digest: str
    template: Object | None = None
    digest: str = ""
    error: RenderError | None = None
    device: Device | None = None
    """The accelerators that the template asks for."""
    whole_digest: str = ""
    """Digest of the part of the spec that pods are made from, whichever accelerators are taken."""

    @property
    def on_demand(self) -> bool:
        """Tell whether nodes that could hold such pods are added when these wait."""
        return self.device is not None and self.device.on_demand


def render_all(endpoint: InferenceEndpoint, config: Config, choices: Iterable[Device | None]) -> tuple[Rendering, ...]:
    """Return a rendering for each choice of accelerators, in order."""
    return tuple(render(endpoint, config, device) for device in choices)


def render(endpoint: InferenceEndpoint, config: Config, device: Device | None) -> Rendering:
    """Return the rendering of an endpoint; an error in the spec is part of the answer, not an exception."""
    spec_digest = digest_of_spec(endpoint, device)
    whole = spec_digest if device is None else digest_of_spec(endpoint, None)
    try:
        template = pod.template(endpoint, config, device)
    except RenderError as error:
        return Rendering(spec_digest, error=error, device=device, whole_digest=whole)
    annotations = template["metadata"].setdefault("annotations", {})
    annotations[ANNOTATION_SPEC_DIGEST] = spec_digest
    return Rendering(spec_digest, template, _digest(template), device=device, whole_digest=whole)


def digest_of_spec(endpoint: InferenceEndpoint, device: Device | None) -> str:
    """Return the digest of the part of the spec that pods are made from, with one choice of accelerators, or all.

    Fields that have their default do not count, so that a field that a newer version adds changes no digest. What an
    AcceleratorClass says is no part of the spec: it holds from the next start on.
    """
    part = endpoint.spec.model_dump(mode="json", by_alias=True, include=_POD_FIELDS, exclude_defaults=True)
    _forget_default_path(part)
    if device is not None:
        chosen = {"className": device.class_name, "count": None if device.count == 1 else device.count}
        part["accelerator"] = {name: value for name, value in chosen.items() if value is not None}
    limit = endpoint.spec.request.max_body_bytes
    if endpoint.spec.runtime.engine is Engine.ZEROTIDE and limit.value != Request().max_body_bytes.value:
        part["request"] = {"maxBodyBytes": limit.units}
    return _digest({"name": endpoint.metadata.name, **part})


def _forget_default_path(part: Object) -> None:
    """Leave out a path that is written although it is the default: the schema used to fill it in."""
    readiness = part.get("runtime", {}).get("readiness", {})
    if readiness.get("path") == DEFAULT_PATH:
        del readiness["path"]
        if not readiness:
            del part["runtime"]["readiness"]
        if not part["runtime"]:
            del part["runtime"]


def _digest(document: Object) -> str:
    return hashlib.sha256(_text(document)).hexdigest()[:16]


def _text(document: Object) -> bytes:
    """Return the one text that digests are made of: a digest that changed would restart every model.

    The quick encoder writes the same but for what is escaped, and refuses a few things.
    """
    with suppress(UnicodeEncodeError, OverflowError):
        text = _SORTED.encode(document)
        if text.isascii() and b"\\" not in text:
            return text
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
