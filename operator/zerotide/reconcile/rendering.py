"""Render everything that an endpoint is made of, and tell specs and renderings apart by digests.

The digest of the spec is an annotation of the pod template: it says which spec a pod runs. The digest of the
rendering is an annotation of the Deployment: it says which version of this code rendered it. When only the second
one changed, the operator was upgraded; that must not roll a running model, and waits for the next wake.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from zerotide.api.endpoint import Engine, InferenceEndpoint, Request
from zerotide.api.names import GROUP
from zerotide.reconcile import pod
from zerotide.reconcile.config import Config
from zerotide.reconcile.failures import RenderError

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


def render(endpoint: InferenceEndpoint, config: Config) -> Rendering:
    """Return the rendering of an endpoint; an error in the spec is part of the answer, not an exception."""
    spec_digest = digest_of_spec(endpoint)
    try:
        template = pod.template(endpoint, config)
    except RenderError as error:
        return Rendering(spec_digest, error=error)
    annotations = template["metadata"].setdefault("annotations", {})
    annotations[ANNOTATION_SPEC_DIGEST] = spec_digest
    return Rendering(spec_digest, template, _digest(template))


def digest_of_spec(endpoint: InferenceEndpoint) -> str:
    """Return the digest of the part of the spec that pods are made from.

    Fields that have their default do not count, so that a field that a newer version adds changes no digest.
    """
    part = endpoint.spec.model_dump(mode="json", by_alias=True, include=_POD_FIELDS, exclude_defaults=True)
    limit = endpoint.spec.request.max_body_bytes
    if endpoint.spec.runtime.engine is Engine.ZEROTIDE and limit.value != Request().max_body_bytes.value:
        part["request"] = {"maxBodyBytes": limit.units}
    return _digest({"name": endpoint.metadata.name, **part})


def _digest(document: Object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
