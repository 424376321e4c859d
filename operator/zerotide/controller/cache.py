"""What the operator knows: endpoints, their children and pods, nodes, and what was seen of each start.

Filled by watches, read by the reconciler. The answer to a write is kept beside the watch's copy until the watch has
caught up, so that a decision is never made twice from the same old object.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.names import LABEL_ENDPOINT
from zerotide.controller.recent import Recent
from zerotide.controller.starts import Starts
from zerotide.controller.trimming import alike, trimmed_child
from zerotide.kube import Change, Packed, Reflector
from zerotide.reconcile.child import Kind
from zerotide.reconcile.claims import Claims, claim_of
from zerotide.reconcile.holders import Holders, holders
from zerotide.reconcile.pods import Pod, read

Object = dict[str, Any]
RECENT = 512
"""Endpoints that are kept parsed, and rendered: more than are worked on at a time."""
ECHOES = 4_096
"""Answers to writes whose echo may be on its way."""


def key_of(obj: Mapping[str, Any]) -> str:
    """Return `namespace/name`."""
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def version(obj: Mapping[str, Any]) -> int:
    """Return the resourceVersion as a number; the API server promises that newer is larger."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two copies are of one object, and not of a namesake."""
    return bool(one["metadata"].get("uid") == other["metadata"].get("uid"))


def newer(one: Object | None, other: Object | None) -> Object | None:
    """Return the newer of two copies of an object."""
    if one is None or other is None:
        return one or other
    return one if version(one) >= version(other) else other


class _Version(NamedTuple):
    """What must be known of an endpoint without looking into it."""

    uid: str
    number: int
    arrived_us: int
    awake: bool
    scraped: bool
    pinged: bool


class Endpoints:
    """The endpoints, by key; those that were looked at last are kept parsed.

    `on_rivals` is called with the keys of endpoints whose model names another one took or gave free.
    """

    def __init__(self, on_rivals: Callable[[set[str]], None] = lambda keys: None) -> None:
        self.claims = Claims()
        self._on_rivals = on_rivals
        self._objects: Packed[str] = Packed()
        self._versions: dict[str, _Version] = {}
        self._parsed: Recent[str, tuple[int, InferenceEndpoint]] = Recent(RECENT)
        self._answers: Recent[int, bool] = Recent(ECHOES)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._versions)

    def __iter__(self) -> Iterator[str]:
        """Return the keys as they are now; endpoints may come and go meanwhile."""
        return iter(list(self._versions))

    def __contains__(self, key: object) -> bool:
        """Tell whether there is one of that key."""
        return key in self._versions

    def put(self, obj: Object, now_us: int) -> bool:
        """Take in an endpoint that came just now; False if it is no newer than what is known."""
        key, metadata = key_of(obj), obj["metadata"]
        known = self._versions.get(key)
        # A list is as old as its first page: what it tells of a predecessor comes late.
        if known is not None and version(obj) <= known.number:
            return False
        awake = bool((obj.get("status") or {}).get("desiredReplicas"))
        self._objects[key] = {**obj, "metadata": {name: metadata[name] for name in metadata if name != "managedFields"}}
        scaling = (obj.get("spec") or {}).get("scaling") or {}
        scraped = bool(scaling.get("engineQueue") or scaling.get("tokensInFlight"))
        self._versions[key] = _Version(metadata["uid"], version(obj), now_us, awake, scraped, bool(scaling.get("ping")))
        claim = claim_of(obj)
        self._tell(self.claims.put(claim) if claim else self.claims.drop(key))
        return True

    def answered(self, obj: Object, now_us: int) -> bool:
        """Take in the answer to a write of ours; False if it is no newer than what is known."""
        self._answers.put(version(obj), True)
        return self.put(obj, now_us)

    def is_echo(self, number: int) -> bool:
        """Tell whether a version came as the answer to a write of ours, so that to hear of it again is no news."""
        return self._answers.get(number) is not None

    def replaced_by(self, obj: Object) -> str:
        """Return the uid of the endpoint that an object, which has its name, is the successor of; empty if of none."""
        known = self._versions.get(key_of(obj))
        if known is None or known.uid == obj["metadata"]["uid"] or version(obj) <= known.number:
            return ""
        return known.uid

    def drop(self, key: str, uid: str) -> bool:
        """Forget an endpoint that is gone; False if the key is unknown or has a successor."""
        known = self._versions.get(key)
        if known is None or (uid and known.uid != uid):
            return False
        del self._objects[key], self._versions[key]
        self._parsed.pop(key)
        self._tell(self.claims.drop(key))
        return True

    def older_than(self, number: int, but: Container[str]) -> list[tuple[str, str]]:
        """Return key and uid of each endpoint whose version is no newer than that, but for some keys."""
        old = self._versions.items()
        return [(key, each.uid) for key, each in old if key not in but and each.number <= number]

    def awake(self) -> list[str]:
        """Return the keys of endpoints that were told to have replicas."""
        return [key for key, each in self._versions.items() if each.awake]

    def scraped(self) -> list[str]:
        """Return the keys of those whose engines are to be asked."""
        return [key for key, each in self._versions.items() if each.awake and each.scraped]

    def pinged(self) -> list[str]:
        """Return the keys of those whose replicas are to be pinged."""
        return [key for key, each in self._versions.items() if each.awake and each.pinged]

    def uid(self, key: str) -> str:
        """Return the uid of an endpoint, empty if there is none."""
        known = self._versions.get(key)
        return known.uid if known is not None else ""

    def arrived_us(self, key: str) -> int:
        """Return when the present version came, 0 if there is none."""
        known = self._versions.get(key)
        return known.arrived_us if known is not None else 0

    def get(self, key: str) -> Object | None:
        """Return an endpoint as the API server sent it."""
        obj: Object | None = self._objects.get(key)
        return obj

    def parsed(self, key: str) -> InferenceEndpoint | None:
        """Return an endpoint as a type; raise InvalidObject if it does not parse."""
        known = self._versions.get(key)
        if known is None:
            return None
        parsed = self._parsed.get(key)
        if parsed is None or parsed[0] != known.number:
            parsed = (known.number, InferenceEndpoint.parse(self._objects[key]))
            self._parsed.put(key, parsed)
        return parsed[1]

    def _tell(self, rivals: set[str]) -> None:
        if rivals:
            self._on_rivals(rivals)


class Children:
    """The children of all endpoints: the watches' copies, and answers to our writes that are newer.

    `on_news` is called with an endpoint's key where a write turns out not to be what the watch told meanwhile.
    """

    def __init__(self, watched: Mapping[Kind, Reflector], on_news: Callable[[str], None] = lambda key: None) -> None:
        self._watched, self._on_news = watched, on_news
        self._written: dict[tuple[Kind, str], Object] = {}
        self._early: dict[tuple[Kind, str], list[int]] = {}

    def of(self, key: str) -> dict[Kind, Object]:
        """Return the live objects of an endpoint's name, by kind."""
        return {kind: obj for kind in self._watched if (obj := self.one(kind, key)) is not None}

    def one(self, kind: Kind, key: str) -> Object | None:
        """Return the live object of a kind and an endpoint's name."""
        namespace, _, name = key.partition("/")
        return newer(self._written.get((kind, key)), self._watched[kind].store.get((namespace, name)))

    @contextmanager
    def writing(self, kind: Kind, key: str) -> Iterator[None]:
        """Keep what a watch tells of an object while it is written: the echo may come before the answer."""
        self._early[kind, key] = []
        try:
            yield
        finally:
            early, written = self._early.pop((kind, key)), self._written.get((kind, key))
            answer = version(written) if written is not None else 0
            if written is not None and any(number >= answer for number in early):
                del self._written[kind, key]
            if any(number != answer for number in early):
                self._on_news(key)

    def wrote(self, kind: Kind, key: str, obj: Object) -> None:
        """Remember the API server's answer to a write."""
        self._written[kind, key] = trimmed_child(obj)

    def answered(self, kind: Kind, key: str, number: str) -> Object | None:
        """Return the answer to a write that has a version, where it is not forgotten."""
        written = self._written.get((kind, key))
        return written if written is not None and written["metadata"]["resourceVersion"] == number else None

    def lost(self, kind: Kind, key: str) -> None:
        """Forget an answer: the object is gone, or not what it was."""
        self._written.pop((kind, key), None)

    def caught_up(self, kind: Kind, change: Change) -> bool:
        """Forget the answer that a watch has caught up with; return whether the change is news."""
        key = key_of(change.object)
        written = self._written.get((kind, key))
        known = newer(written, change.previous)
        gone = change.type == "deleted"
        if written is not None and (
            version(change.object) >= version(written) or (gone and same(change.object, written))
        ):
            del self._written[kind, key]
        if not gone and known is not None and (version(change.object) <= version(known) or alike(change.object, known)):
            return False
        early = self._early.get((kind, key))
        if early is not None:
            early.append(version(change.object))
        return gone or early is None

    def listed(self, kind: Kind, number: int) -> None:
        """Forget answers about objects that a list of that version does not hold: they were deleted in a gap."""
        store = self._watched[kind].store
        for of, key in [each for each in self._written if each[0] is kind]:
            namespace, _, name = key.partition("/")
            if version(self._written[of, key]) <= number and (namespace, name) not in store:
                del self._written[of, key]
                self._on_news(key)


class Pods:
    """The pods of endpoints, read once per version, with what was seen of their starts."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, Pod]] = {}
        self._gated: dict[str, str] = {}
        self._freed: dict[str, int] = {}
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
            gone = pods.pop(metadata["uid"], None)
            if gone is not None and not gone.ended:
                self._freed[key] = now_us
            self._gated.pop(metadata["uid"], None)
            if not pods:
                # Whoever comes next is younger.
                self._pods.pop(key, None)
                self._freed.pop(key, None)
            self.starts.forget(metadata["uid"])
            return key
        pod, pods = read(change.object), self._pods.setdefault(key, {})
        if pod.ended and (before := pods.get(pod.uid)) is not None and not before.ended:
            self._freed[key] = now_us
        pods[pod.uid] = pod
        if pod.proof is not None:
            self._gated[pod.uid] = key
        self.starts.observe(pod, now_us)
        return key

    def stepped(self, step_us: int) -> None:
        """Move what was seen along with a clock that was set."""
        self.starts.stepped(step_us)
        self._freed = {key: time_us + step_us for key, time_us in self._freed.items()}

    def freed_us(self, key: str) -> int:
        """Return when a pod of an endpoint gave its room back last, 0 where that was before all that are there."""
        return self._freed.get(key, 0)

    def holders(self) -> Holders:
        """Return which endpoints hold devices."""
        return holders((key, pod) for key, pods in self._pods.items() for pod in pods.values())

    def gated(self) -> Iterator[tuple[str, Pod]]:
        """Yield those that are ready only once a token was generated, with the keys of their endpoints."""
        for uid, key in self._gated.items():
            yield key, self._pods[key][uid]

    def of(self, key: str) -> tuple[Pod, ...]:
        """Return the pods of an endpoint, oldest first."""
        return tuple(sorted(self._pods.get(key, {}).values(), key=lambda pod: (pod.created_us, pod.name)))
