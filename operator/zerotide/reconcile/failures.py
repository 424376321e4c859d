"""What can be wrong with a spec that only rendering, or the API server's answer to it, finds out.

RenderError                 has the condition reason under which it is reported
├── InvalidMerge            podTemplate does not merge into a pod
├── PolicyViolation         the pod asks for more than the cluster's policy allows
├── UnsupportedModel        the engine cannot take this model.uri
├── NoImage                 neither the spec nor the chart names an image for the engine
├── TooManyAccelerators     a replica asks for more accelerators than a node of the class has
├── SharedAccelerators      a replica asks for several devices of which it can use one
├── ClassNotAllowed         the namespace may not use the class of accelerators
├── PodInvalid              the API server finds the pod template invalid
└── PodForbidden            a policy or quota of the cluster refuses the Deployment
"""

from __future__ import annotations

from typing import ClassVar

from zerotide.api.conditions import Reason


class RenderError(Exception):
    """A spec that cannot be turned into pods; the message says what, why and what to do."""

    reason: ClassVar[Reason] = Reason.INVALID_POD_TEMPLATE


class InvalidMerge(RenderError):
    """A podTemplate that does not merge into a pod."""


class PolicyViolation(RenderError):
    """A pod that asks for more than the cluster's policy allows."""

    reason = Reason.POD_REFUSED


class UnsupportedModel(RenderError):
    """A model.uri that the engine cannot take."""


class NoImage(RenderError):
    """An engine for which neither the spec nor the chart names an image."""


class TooManyAccelerators(RenderError):
    """A replica that asks for more accelerators than a node of the class has."""


class SharedAccelerators(RenderError):
    """A replica that asks for several parts of devices, or turns on them, of which it can use one."""


class ClassNotAllowed(RenderError):
    """A class of accelerators that is not for this namespace."""

    reason = Reason.POD_REFUSED


class PodInvalid(RenderError):
    """A pod template that the API server finds invalid."""


class PodForbidden(RenderError):
    """A Deployment that a policy or quota of the cluster refuses."""

    reason = Reason.POD_REFUSED
