"""Everything that can go wrong with a local cluster.

ClusterError
├── NotRoot            namespaces and mounts need root
├── BadName            a cluster's name is part of paths, cgroups and certificates
├── Exhausted          the machine has too little left of something that a cluster needs
├── NotRunning         asked for a cluster that is not up
├── CommandFailed      a helper command (ip, openssl, ctr, …) said no
├── StartFailed        a component did not become ready; carries the end of its log
└── ApiError           the API server refused a request; carries its status
"""

from __future__ import annotations


class ClusterError(Exception):
    """Say what is wrong with the local cluster and what to do."""


class NotRoot(ClusterError):
    """Report that the local cluster needs root."""


class BadName(ClusterError):
    """Report a name that cannot be a cluster's."""


class Exhausted(ClusterError):
    """Report that the machine has too little left of something that a cluster needs."""


class NotRunning(ClusterError):
    """Report that the cluster is not up."""


class CommandFailed(ClusterError):
    """Report a helper command that failed, with its output."""


class StartFailed(ClusterError):
    """Report a component that did not become ready."""


class ApiError(ClusterError):
    """Report a request that the API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
