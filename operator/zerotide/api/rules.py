"""Rules that span fields: one CEL expression for the API server, one predicate for Python, one message for both.

A model class lists its rules in `RULES`; the base model runs the predicates after validation and the CRD
generator writes the expressions. A property test holds the two against each other on a real API server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of one object: `cel` and `holds` must agree on every object that the schema admits."""

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    """Path of the field that the message is about, relative to the object, such as `.scaling.maxReplicas`."""

    def validation(self) -> dict[str, str]:
        """Return the rule as an item of `x-kubernetes-validations`."""
        path = {"fieldPath": self.field} if self.field else {}
        return {"rule": self.cel, "message": self.message, **path}
