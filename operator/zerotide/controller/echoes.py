"""Keep from kopf what is no news: the echo of a status that was written, and whose answer was taken in already.

For kopf each event is a task, a queue and a dozen objects, whatever comes of it, and half of the events of an endpoint
are echoes. kopf takes a session of aiohttp that it did not make, and a session takes a class of answers: this one
leaves those lines out of a watch before anybody parses them. A version belongs to one write of one object, so a line
with a version that is known says nothing new, whichever way it came.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import aiohttp

from zerotide.kube import Credentials

Known = Callable[[int], bool]
"""Tell whether a version came as the answer to a write."""

_MODIFIED = b'{"type":"MODIFIED"'
_VERSION = re.compile(rb'"resourceVersion":"([0-9]+)"')


def session(credentials: Credentials, known: Known) -> aiohttp.ClientSession:
    """Return a session for kopf, which closes it; its token is that of now, and kopf asks anew once it is refused."""

    class Answer(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            if self.status == 200 and self.url.query.get("watch") == "true":
                self.content = cast(aiohttp.StreamReader, News(self.content, known))
            return self

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.tls or False),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {credentials.token()}"} if credentials.token is not None else None,
        response_class=Answer,
    )


class News:
    """What a watch sends, in whole lines, but for echoes; in all else the content that it wraps."""

    def __init__(self, content: aiohttp.StreamReader, known: Known) -> None:
        self._content, self._known = content, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield what is news of each chunk, once its lines are whole."""
        begun = b""
        async for chunk in self._content.iter_chunked(size):
            # An answer that came in the same moment is taken in first, and its echo is known.
            await asyncio.sleep(0)
            whole, newline, rest = chunk.rpartition(b"\n")
            if not newline:
                begun += chunk
                continue
            lines, begun = begun + whole + newline, rest
            if news := b"".join(line for line in lines.splitlines(keepends=True) if not self._echo(line)):
                yield news
        if begun:
            yield begun

    def _echo(self, line: bytes) -> bool:
        if not line.startswith(_MODIFIED):
            return False
        version = _VERSION.search(line)
        return version is not None and self._known(int(version[1]))
