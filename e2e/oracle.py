"""When pods held their node, as others saw it: a plain `kubectl get --watch`, and containerd's own events.

It shares no code with the ledger: a start is what the API server says of the scheduling, an end is when containerd saw
the last of the pod's containers exit. Both are whole seconds, as the kubelet reports them.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

PREFIX = "containerd://"


@dataclass
class Seen:
    """What was seen of one pod; by the kubelet, `starts` of its containers, and `reported`, when all had ended."""

    name: str
    scheduled: int | None = None
    reported: int | None = None
    containers: set[str] = field(default_factory=set)
    starts: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Held:
    """A pod that held its node from one second to another; neither is known of one that never was on any."""

    name: str
    start: int | None
    end: int | None

    @property
    def seconds(self) -> int:
        """Return the length."""
        return max(self.end - self.start, 0) if self.start is not None and self.end is not None else 0


class Oracle:
    """Watch the replicas of a namespace while it is open; `ctr` is the command line of the node's containerd."""

    def __init__(self, kubectl: str | Path, kubeconfig: Path, namespace: str, ctr: Sequence[str] = ()) -> None:
        watch = ("get", "pods", "-n", namespace, "-l", "zerotide.dev/endpoint", "--watch", "--output-watch-events")
        self._commands = [[str(kubectl), *watch, "-o", "json"], *([[*ctr, "events"]] if ctr else [])]
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._pods: dict[str, Seen] = {}
        self._exits: dict[str, int] = {}
        self._lock = threading.Lock()
        self._running: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def __enter__(self) -> Self:
        """Begin to watch."""
        for command, read in zip(self._commands, (self._read_pods, self._read_exits), strict=False):
            process = subprocess.Popen(
                command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            assert process.stdout is not None
            thread = threading.Thread(target=read, args=(process.stdout,), daemon=True)
            thread.start()
            self._running.append((process, thread))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no longer."""
        for process, thread in self._running:
            process.terminate()
            process.wait(10)
            thread.join(10)
            if process.stdout is not None:
                process.stdout.close()

    @property
    def watching(self) -> bool:
        """Tell whether every witness is still there: what none of them saw did not happen."""
        return all(process.poll() is None for process, _ in self._running)

    def held(self) -> dict[str, Held]:
        """Return what each pod held, by uid.

        Where containerd tells, it decides; that the kubelet says the same, where it says anything, is checked.
        """
        with self._lock:
            return {uid: self._held(pod) for uid, pod in self._pods.items()}

    def runs(self, uid: str) -> list[tuple[int, int]]:
        """Return when each container of a pod that has one at a time began, by the kubelet, and exited, by containerd.

        Nothing while one has not exited. No two may begin in one second.
        """
        with self._lock:
            pod = self._pods[uid]
            exits = sorted(self._exits[name] for name in pod.containers if name in self._exits)
            return list(zip(sorted(pod.starts), exits, strict=True)) if len(exits) == len(pod.starts) else []

    def _held(self, pod: Seen) -> Held:
        exits = [self._exits[name] for name in pod.containers if name in self._exits]
        known = len(exits) == len(pod.containers) and exits
        end = max(exits) if known else pod.reported
        assert not known or pod.reported in (None, end), f"{pod.name}: containerd {end}, the kubelet {pod.reported}"
        return Held(pod.name, pod.scheduled, end)

    def _read_pods(self, stream: IO[str]) -> None:
        for line in stream:
            self._see(json.loads(line)["object"])

    def _see(self, pod: dict[str, Any]) -> None:
        status = pod.get("status") or {}
        with self._lock:
            seen = self._pods.setdefault(pod["metadata"]["uid"], Seen(pod["metadata"]["name"]))
            for condition in status.get("conditions") or ():
                if (condition["type"], condition["status"]) == ("PodScheduled", "True"):
                    seen.scheduled = _second(condition["lastTransitionTime"])
            statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
            for each in statuses:
                for state in (each.get("state") or {}, each.get("lastState") or {}):
                    for part in (state.get("running"), state.get("terminated")):
                        if part:
                            seen.starts.add(_second(part["startedAt"]))
                if each.get("containerID", "").startswith(PREFIX):
                    seen.containers.add(each["containerID"].removeprefix(PREFIX))
            ends = [each["state"]["terminated"].get("finishedAt") for each in statuses if "terminated" in each["state"]]
            if len(ends) == len(statuses) and status.get("phase") in ("Succeeded", "Failed"):
                seen.reported = max((_second(end) for end in ends if end), default=None)

    def _read_exits(self, stream: IO[str]) -> None:
        for line in stream:
            _, found, told = line.partition(" /tasks/exit ")
            if not found:
                continue
            event = json.loads(told)
            if event["id"] == event["container_id"]:
                with self._lock:
                    self._exits[event["container_id"]] = int(event["exited_at"]["seconds"])


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
