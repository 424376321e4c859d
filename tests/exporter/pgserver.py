"""A PostgreSQL server for a module's tests, with a database for each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.postgres import Database


@contextmanager
def serving() -> Iterator[str]:
    """Serve until left; yield the address of an empty server."""
    with Database() as server:
        yield server.address


def database(server: str, name: str) -> str:
    """Return the address of another database of a server."""
    return re.sub(r"/[a-z0-9_]+\?", f"/{name}?", server)
