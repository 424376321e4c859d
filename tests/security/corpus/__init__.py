"""Hostile requests, each as its bytes, by what is wrong with them.

GROUPS hold what must never reach a replica, and must be answered with an error, or with the end of the connection.
NORMALISED reach one, as a request that can be read in one way only.
"""

from __future__ import annotations

from tests.security.corpus.first import NORMALISED
from tests.security.corpus.first import REFUSED as FIRST
from tests.security.corpus.framing import CHUNKS, CODINGS, LENGTHS
from tests.security.corpus.lines import LINES, SIZES
from tests.security.corpus.parts import BODY
from tests.security.corpus.places import HOSTS, METHODS, PROTOCOLS, TARGETS, VERSIONS

__all__ = ["BODY", "GROUPS", "NORMALISED"]

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
