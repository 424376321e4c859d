"""Who an object belongs to: only what this endpoint's uid controls may be changed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from zerotide.api.names import API_VERSION, KIND_ENDPOINT

Object = dict[str, Any]


class Owner(Enum):
    """To whom a live object belongs, seen from one endpoint."""

    OURS = "ours"
    PREDECESSOR = "an endpoint of the same name that is gone; the garbage collector will remove it"
    FOREIGN = "somebody else"


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the owner reference that controls the object, if any."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def owner(obj: Mapping[str, Any], name: str, uid: str) -> Owner:
    """Tell to whom a live object belongs, for the endpoint of that name and uid."""
    reference = controller_of(obj)
    if reference is None:
        return Owner.FOREIGN
    if reference.get("uid") == uid:
        return Owner.OURS
    ours = str(reference.get("apiVersion", "")).split("/")[0] == API_VERSION.split("/")[0]
    same = ours and reference.get("kind") == KIND_ENDPOINT and reference.get("name") == name
    return Owner.PREDECESSOR if same else Owner.FOREIGN


def reference_to(name: str, uid: str) -> Object:
    """Return the owner reference that makes an endpoint the controller of an object.

    It does not block the deletion of the endpoint: its name is free again at once, and children follow.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND_ENDPOINT,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
