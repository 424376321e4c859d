"""What the AcceleratorClasses say, as endpoints are rendered by it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from zerotide.api.accelerator_class import AcceleratorClass, AcceleratorClassSpec
from zerotide.api.failures import InvalidObject
from zerotide.kube import Change

log = logging.getLogger(__name__)


class AcceleratorClasses:
    """The classes by name; `on_change` is called with the name of each that changed."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self.known: Mapping[str, AcceleratorClassSpec] = {}
        self._on_change = on_change

    @property
    def selective(self) -> bool:
        """Tell whether any class is for some namespaces alone."""
        return any(spec.namespace_selector is not None for spec in self.known.values())

    def take(self, change: Change) -> None:
        """Take in a change of a class; one that this operator does not understand is as if it were not there."""
        name = change.object["metadata"]["name"]
        known = {other: spec for other, spec in self.known.items() if other != name}
        if change.type == "set":
            try:
                known[name] = AcceleratorClass.parse(change.object).spec
            except InvalidObject as error:
                log.error("AcceleratorClass not understood", extra={"class": name, "error": str(error)})
        if known != self.known:
            self.known = known
            self._on_change(name)


def class_names(endpoint: Mapping[str, Any]) -> set[str]:
    """Return the classes that an endpoint of the API server names."""
    asked = (endpoint.get("spec") or {}).get("accelerator") or {}
    return {str(each["className"]) for each in (asked, *(asked.get("alternatives") or ())) if each.get("className")}
