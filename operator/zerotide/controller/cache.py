"""What the operator knows: endpoints, their children and pods, nodes, and what was seen of each start.

Filled by watches, read by the reconciler. The answer to a write is kept beside the watch's copy until the watch has
caught up, so that a decision is never made twice from the same old object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.names import LABEL_ENDPOINT
from zerotide.controller.starts import Starts
from zerotide.kube import Change, Reflector
from zerotide.reconcile.child import Kind
from zerotide.reconcile.claims import Claims, claim_of
from zerotide.reconcile.external import writers
from zerotide.reconcile.pods import Pod, read

Object = dict[str, Any]


def key_of(obj: Mapping[str, Any]) -> str:
    """Return `namespace/name`."""
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def version(obj: Mapping[str, Any]) -> int:
    """Return the resourceVersion as a number; the API server promises that newer is larger."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def newer(one: Object | None, other: Object | None) -> Object | None:
    """Return the newer of two copies of an object."""
    if one is None or other is None:
        return one or other
    return one if version(one) >= version(other) else other


class Endpoints:
    """The endpoints, by key; parsed at most once per version.

    `on_rivals` is called with the keys of endpoints whose model names another one took or gave free.
    """

    def __init__(self, on_rivals: Callable[[set[str]], None] = lambda keys: None) -> None:
        self.claims = Claims()
        self._on_rivals = on_rivals
        self._objects: dict[str, Object] = {}
        self._arrived: dict[str, int] = {}
        self._parsed: dict[str, tuple[int, InferenceEndpoint]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._objects)

    def __iter__(self) -> Iterator[str]:
        """Return the keys as they are now; endpoints may come and go meanwhile."""
        return iter(list(self._objects))

    def put(self, obj: Object, now_us: int) -> bool:
        """Take in an endpoint that came just now; False if it is no newer than what is known."""
        key = key_of(obj)
        known = self._objects.get(key)
        same = known is not None and known["metadata"]["uid"] == obj["metadata"]["uid"]
        if known is not None and same and version(obj) <= version(known):
            return False
        metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
        self._objects[key] = {**obj, "metadata": metadata}
        self._arrived[key] = now_us
        claim = claim_of(obj)
        self._tell(self.claims.put(claim) if claim else self.claims.drop(key))
        return True

    def drop(self, key: str, uid: str) -> bool:
        """Forget an endpoint that is gone; False if the key is unknown or has a successor."""
        known = self._objects.get(key)
        if known is None or (uid and known["metadata"]["uid"] != uid):
            return False
        del self._objects[key]
        self._arrived.pop(key, None)
        self._parsed.pop(key, None)
        self._tell(self.claims.drop(key))
        return True

    def arrived_us(self, key: str) -> int:
        """Return when the present version came, 0 if there is none."""
        return self._arrived.get(key, 0)

    def get(self, key: str) -> Object | None:
        """Return an endpoint as the API server sent it."""
        return self._objects.get(key)

    def parsed(self, key: str) -> InferenceEndpoint | None:
        """Return an endpoint as a type; raise InvalidObject if it does not parse."""
        obj = self._objects.get(key)
        if obj is None:
            return None
        known = self._parsed.get(key)
        if known is None or known[0] != version(obj):
            known = (version(obj), InferenceEndpoint.parse(obj))
            self._parsed[key] = known
        return known[1]

    def _tell(self, rivals: set[str]) -> None:
        if rivals:
            self._on_rivals(rivals)


class Children:
    """The children of all endpoints: the watches' copies, and answers to our writes that are newer."""

    def __init__(self, watched: Mapping[Kind, Reflector]) -> None:
        self._watched = watched
        self._written: dict[tuple[Kind, str], Object] = {}

    def of(self, key: str) -> dict[Kind, Object]:
        """Return the live objects of an endpoint's name, by kind."""
        namespace, _, name = key.partition("/")
        found: dict[Kind, Object] = {}
        for kind, reflector in self._watched.items():
            obj = newer(self._written.get((kind, key)), reflector.store.get((namespace, name)))
            if obj is not None:
                found[kind] = obj
        return found

    def wrote(self, kind: Kind, key: str, obj: Object) -> None:
        """Remember the API server's answer to a write."""
        self._written[kind, key] = obj

    def lost(self, kind: Kind, key: str) -> None:
        """Forget an answer: the object is gone, or not what it was."""
        self._written.pop((kind, key), None)

    def caught_up(self, kind: Kind, change: Change) -> None:
        """Forget the answer that a watch has caught up with."""
        key = key_of(change.object)
        written = self._written.get((kind, key))
        if written is not None and version(change.object) >= version(written):
            del self._written[kind, key]


class Pods:
    """The pods of endpoints, read once per version, with what was seen of their starts."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Pod]] = {}
        self.starts = Starts()

    def take(self, change: Change, now_us: int) -> str | None:
        """Take in a change of a pod; return the key of its endpoint."""
        metadata = change.object["metadata"]
        name = (metadata.get("labels") or {}).get(LABEL_ENDPOINT)
        if not name:
            return None
        key = f"{metadata.get('namespace', '')}/{name}"
        if change.type == "deleted":
            pods = self._pods.get(key, {})
            pods.pop(metadata["uid"], None)
            if not pods:
                self._pods.pop(key, None)
            self.starts.forget(metadata["uid"])
            return key
        pod = read(change.object)
        self._pods.setdefault(key, {})[pod.uid] = pod
        self.starts.observe(pod, now_us)
        return key

    def of(self, key: str) -> tuple[Pod, ...]:
        """Return the pods of an endpoint, oldest first."""
        return tuple(sorted(self._pods.get(key, {}).values(), key=lambda pod: (pod.created_us, pod.name)))


def trimmed_pod(obj: Object) -> Object:
    """Keep of a pod what is read of it."""
    metadata, status, spec = obj["metadata"], obj.get("status") or {}, obj.get("spec") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
    return {
        "metadata": {
            **{key: metadata[key] for key in kept if key in metadata},
            "annotations": _own(metadata.get("annotations") or {}),
        },
        "spec": {
            "containers": [_resources(container) for container in spec.get("containers") or []],
            "initContainers": [_resources(container) for container in spec.get("initContainers") or []],
        },
        "status": {
            key: status[key]
            for key in (
                "phase",
                "podIP",
                "startTime",
                "conditions",
                "containerStatuses",
                "initContainerStatuses",
            )
            if key in status
        },
    }


def trimmed_node(obj: Object) -> Object:
    """Keep of a node what is read of it."""
    metadata = obj["metadata"]
    return {
        "metadata": {key: metadata[key] for key in ("name", "uid", "resourceVersion")},
        "status": {"allocatable": (obj.get("status") or {}).get("allocatable") or {}},
    }


def trimmed_child(obj: Object) -> Object:
    """Drop of a child what is large and never read; of its managers, those who write replicas are."""
    entries = writers(obj["metadata"].pop("managedFields", None) or ())
    if entries:
        obj["metadata"]["managedFields"] = entries
    return obj


def _own(annotations: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in annotations.items() if name.startswith("zerotide.dev/")}


def _resources(container: Mapping[str, Any]) -> Object:
    return {"name": container.get("name"), "resources": container.get("resources") or {}}
