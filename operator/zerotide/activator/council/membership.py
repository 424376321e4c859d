"""Who takes part, and who of them owns what: rendezvous hashing, so that a member that goes moves only what it had."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple


class Member(NamedTuple):
    """An activator, or one process of it.

    It `leads` where it is ready and stays, so that it may own lines; one that only starts `counts` not yet: nobody
    leaves it a share while it cannot be reached.
    """

    name: str
    address: str = ""
    port: int = 0
    leads: bool = True
    counts: bool = True


def owner_of(key: str, members: Iterable[str]) -> str:
    """Return the owner of an endpoint's line among members, of whom there is at least one."""
    return max(members, key=lambda name: (_score(key, name), name))


@lru_cache(maxsize=65536)
def _score(key: str, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest())
