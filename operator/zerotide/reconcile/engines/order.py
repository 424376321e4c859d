"""What an engine is asked to serve, and what that makes of its container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from zerotide.reconcile.failures import UnsupportedModel

HOMELESS: Mapping[str, str] = {"HOME": "/tmp", "USER": "model"}
"""For images made for root: our user has no home folder to cache in and no entry in their list of users."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter: its address as the runtime of this project reads it, and a repository or a path for others."""

    name: str
    uri: str
    repository: str = ""
    revision: str = ""
    path: str = ""

    @property
    def place(self) -> str:
        """Return where it is, as other engines take it: the repository or the path.

        Raises UnsupportedModel for a pinned revision, which they cannot be told of an adapter.
        """
        if self.revision:
            raise UnsupportedModel(
                f"model.adapters[{self.name}].uri: this engine cannot fetch the revision {self.revision} of an adapter:"
                " leave it out, or bring the adapter in a volume with pvc://"
            )
        return self.repository or self.path


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
    adapters: tuple[Adapter, ...] = ()
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
