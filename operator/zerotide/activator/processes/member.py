"""What a child is told by its parent."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from zerotide.activator.failures import SettingsError
from zerotide.activator.settings import Settings
from zerotide.activator.usage.backlog import Bounds

VARIABLE = "ZEROTIDE_MEMBER"


@dataclass(frozen=True)
class Member:
    """A child's number, of how many it is, and what it has from its parent; descriptors are inherited."""

    number: int
    of: int
    admin: str
    """Path of the socket on which it answers its parent."""
    lifeline: int
    """Readable once the parent is gone."""
    http: int
    https: int | None
    clock_offset_us: int
    """The parent's, so that times within a pod never jump."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Member | None:
        """Return what this process is told, None where it is nobody's child. Raises SettingsError."""
        text = environment.get(VARIABLE)
        if not text:
            return None
        try:
            told: dict[str, Any] = json.loads(text)
            return cls(**told)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{VARIABLE} is set by the parent process and by nobody else: {error}") from error

    def encode(self) -> str:
        """Return the environment variable's value."""
        return json.dumps(asdict(self))

    def listener(self, secure: bool) -> socket.socket:
        """Return an inherited listening socket."""
        descriptor = self.https if secure else self.http
        assert descriptor is not None, "the parent opens what its settings name"
        return socket.socket(fileno=descriptor)

    def settings(self, whole: Settings) -> Settings:
        """Return a child's part of its pod's settings: its name, its usage log, its share of what all may take."""
        limits = whole.limits
        parts = replace(
            limits,
            connections=_part(limits.connections, self.of),
            connections_per_address=_part(limits.connections_per_address, self.of),
            buffered_bytes=max(_part(limits.buffered_bytes, self.of), limits.body_bytes),
        )
        folder = whole.usage_dir / str(self.number) if whole.usage_dir is not None else None
        usage = whole.usage_bounds
        return replace(
            whole,
            pod_name=name_of(whole.pod_name, self.number),
            usage_dir=folder,
            usage_bounds=Bounds(_part(usage.bytes, self.of), _part(usage.records, self.of), usage.age_us),
            limits=parts,
        )


def name_of(pod: str, number: int) -> str:
    """Return the name of a pod's child among all members."""
    return f"{pod}/{number}"


def _part(total: int, of: int) -> int:
    return -(-total // of)
