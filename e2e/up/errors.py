"""What can stop `make up`.

UpError
├── StepFailed      a program of a step failed; its output is above or in the message
└── NoCluster       KUBECONFIG names a cluster that does not answer
"""

from __future__ import annotations


class UpError(Exception):
    """Say what stopped, why, and what to do."""


class StepFailed(UpError):
    """A program that a step runs failed."""


class NoCluster(UpError):
    """The cluster that KUBECONFIG names does not answer."""
