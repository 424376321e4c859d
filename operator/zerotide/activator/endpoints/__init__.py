"""Endpoints, keys and replicas, followed from objects in any order of events.

`registry` takes the changes in; `endpoint` is one endpoint with its gate, replicas and measured starts; `dialler`
finds out when a pod can serve; `waker` asks the operator for one; `pods` and `peers` read pods.
"""
