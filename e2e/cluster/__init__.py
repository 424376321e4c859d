"""A real single-node Kubernetes in namespaces of its own: `python3 -m e2e.cluster up`. Stdlib only."""

from __future__ import annotations

from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError"]
