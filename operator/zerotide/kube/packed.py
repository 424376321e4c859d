"""Keep many objects in little memory: each as its text, read when it is looked at.

An object of the API server as dicts takes five times what its text takes, because every key is a string of its own.
Reading it takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any, TypeVar

from zerotide.kube.encoding import decode, encode

Object = dict[str, Any]
K = TypeVar("K", bound=Hashable)


class Packed(MutableMapping[K, Object]):
    """Objects by key; each look returns a copy of its own, so nothing that is changed in one is kept."""

    def __init__(self) -> None:
        self._packed: dict[K, bytes] = {}

    def __getitem__(self, key: K) -> Object:
        """Return a copy; raise KeyError without one."""
        obj: Object = decode(self._packed[key])
        return obj

    def get(self, key: K, default: Any = None) -> Any:
        """Return a copy, or a default without one: often there is none, and a mapping's own way raises on it."""
        text = self._packed.get(key)
        return default if text is None else decode(text)

    def __setitem__(self, key: K, obj: Object) -> None:
        """Keep an object as it is now."""
        # A copy, because the encoder leaves half as much room again behind the text.
        self._packed[key] = bytes(memoryview(encode(obj)))

    def __delitem__(self, key: K) -> None:
        """Forget an object; raise KeyError without one."""
        del self._packed[key]

    def __contains__(self, key: object) -> bool:
        """Tell whether there is one, without unpacking it."""
        return key in self._packed

    def __iter__(self) -> Iterator[K]:
        """Return the keys."""
        return iter(self._packed)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._packed)
