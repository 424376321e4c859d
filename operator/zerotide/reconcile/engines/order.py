"""What an engine is asked to serve, and what that makes of its container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

HOMELESS: Mapping[str, str] = {"HOME": "/tmp", "USER": "model"}
"""For images made for root: our user has no home folder to cache in and no entry in their list of users."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to serve: a repository of the Hugging Face Hub with its revision, or else a path within the container."""

    uri: str
    """The model's address as the runtime of this project reads it."""
    name: str
    port: int
    repository: str = ""
    revision: str = ""
    path: str = ""
    aliases: tuple[str, ...] = ()
    accelerators: int = 0
    memory_share: Fraction | None = None
    """What part of an accelerator's memory it may take, None for all."""
    max_body_bytes: int = 0
    """The largest request that the activators let through."""
    args: tuple[str, ...] = ()
    cache: str = ""
    """A folder that outlives the container, empty where there is none."""

    @property
    def model(self) -> str:
        """Return what most engines take as one argument: the repository or the path."""
        return self.repository or self.path

    def memory_of(self, usual: str) -> str:
        """Return the share of the memory to give to a flag whose usual value is `usual`, rounded down to a percent."""
        return f"{int(Fraction(usual) * 100 * (self.memory_share or 1)) / 100:.2f}"

    def kept(self, **folders: str) -> dict[str, str]:
        """Return variables that name folders within the cache, none where there is no cache."""
        return {name: f"{self.cache}/{folder}" for name, folder in folders.items()} if self.cache else {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name of the model, the main one first."""
        return tuple(dict.fromkeys((self.name, *self.aliases)))


@dataclass(frozen=True, slots=True)
class Launch:
    """Command (empty: the image's own), arguments and environment; `shared_memory` asks for a large /dev/shm."""

    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shared_memory: bool = False
