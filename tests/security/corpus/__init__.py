"""Hostile requests, each as its bytes, by what is wrong with them.

GROUPS hold what must never reach a replica, and must be answered with an error, or with the end of the connection.
TIMED are those of them that only the clock tells from good ones: they announce more than they bring.
NORMALISED reach one, as a request that can be read in one way only.
"""

from __future__ import annotations

from tests.security.corpus.first import NORMALISED
from tests.security.corpus.first import REFUSED as FIRST
from tests.security.corpus.framing import CHUNKS, CODINGS, LENGTHS
from tests.security.corpus.lines import LINES, SIZES
from tests.security.corpus.parts import BODY
from tests.security.corpus.places import HOSTS, METHODS, PROTOCOLS, TARGETS, VERSIONS

__all__ = ["BODY", "GROUPS", "NORMALISED", "TIMED"]

GROUPS: dict[str, dict[str, bytes]] = {
    "first": FIRST,
    "lengths": LENGTHS,
    "codings": CODINGS,
    "chunks": CHUNKS,
    "lines": LINES,
    "sizes": SIZES,
    "hosts": HOSTS,
    "targets": TARGETS,
    "methods": METHODS,
    "versions": VERSIONS,
    "protocols": PROTOCOLS,
}
TIMED = frozenset(("size of all bits", "size of a sign bit", "body of a chunk larger than allowed"))
