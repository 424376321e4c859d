"""A thin asynchronous client of the API server that speaks plain dicts.

One method per verb; every refusal is an exception of `errors`. Writes name their field manager. Nothing is
cached and nothing is retried here: callers know whether a retry is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from zerotide import __version__
from zerotide.kube.credentials import Credentials
from zerotide.kube.encoding import decode, decode_page, encode
from zerotide.kube.errors import ConnectionFailed, KubeError, error_from
from zerotide.kube.resources import SERVICE_ACCOUNTS, Resource
from zerotide.kube.wire import KEEP, Wire

Object = dict[str, Any]

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
TOGETHER = 25
"""Objects of a list that are handed on before others have their turn."""
_NOT_OPEN = "the client is not open: use it as `async with Client(...)`"
_HEADERS = {"User-Agent": f"zerotide/{__version__}", "Accept": "application/json"}


@dataclass(frozen=True)
class Listing:
    """A consistent list of objects and the version to watch from."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True)
class Page:
    """A part of a list, whose items are read one by one and once, and the version of the whole list."""

    items: Iterator[Object]
    resource_version: str


class Client:
    """Talk to one API server; an asynchronous context manager that owns its connections."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool; connections themselves are made on first use."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self.credentials.tls or False, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            trust_env=False,
        )
        self._wire = Wire(self.credentials.server, self.credentials.tls, _HEADERS)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._wire is not None:
            await self._wire.close()
        if self._session is not None:
            await self._session.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """List objects; items carry apiVersion and kind as single reads do."""
        items: list[Object] = []
        version = ""
        async for page in self.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[Page]:
        """List objects in parts of one consistent list, so that neither memory nor the event loop has all at once."""
        params = {"limit": "500", "labelSelector": label_selector, "fieldSelector": field_selector}
        while True:
            metadata, items = decode_page(await self._answer("GET", resource.path(namespace), params=params))
            kind = {"apiVersion": resource.api_version, "kind": resource.kind}
            for begin in range(0, max(len(items), 1), TOGETHER):
                part = items[begin : begin + TOGETHER]
                yield Page(({**kind, **decode(item)} for item in part), metadata["resourceVersion"])
                await asyncio.sleep(0)
            proceed = metadata.get("continue")
            if not proceed:
                return
            params = {**params, "continue": proceed}

    async def create(
        self, resource: Resource, obj: Object, *, manager: str = "zerotide", subresource: str = ""
    ) -> Object:
        """Create an object; raise AlreadyExists when the name is taken."""
        metadata = obj.get("metadata") or {}
        name = metadata["name"] if subresource else ""
        path = resource.path(metadata.get("namespace"), name, subresource)
        return await self.request("POST", path, body=obj, params={"fieldManager": manager})

    async def apply(
        self, resource: Resource, obj: Object, manager: str, *, force: bool = True, subresource: str = ""
    ) -> Object:
        """Apply an object server-side as the owner of exactly the fields it holds."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        path = resource.path_of(obj, subresource)
        return await self.request("PATCH", path, body=body, params=params, content_type="application/apply-patch+yaml")

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        patch: Any,
        *,
        kind: str = "merge",
        subresource: str = "",
        manager: str = "zerotide",
    ) -> Object:
        """Patch an object; kind is merge, json or strategic."""
        path = resource.path(namespace, name, subresource)
        params = {"fieldManager": manager}
        return await self.request("PATCH", path, body=patch, params=params, content_type=_PATCH_TYPES[kind])

    async def replace(
        self, resource: Resource, obj: Object, *, subresource: str = "", manager: str = "zerotide"
    ) -> Object:
        """Replace an object; its resourceVersion, when present, must still be the current one."""
        return await self.request("PUT", resource.path_of(obj, subresource), body=obj, params={"fieldManager": manager})

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str = "",
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object, only the one with that uid when given (Conflict otherwise)."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self.request("DELETE", resource.path(namespace, name), body=options)

    async def token(self, account: str, namespace: str, audience: str = "", *, seconds: int = 3600) -> str:
        """Mint a token for a ServiceAccount, for one audience (the API server's own when empty)."""
        spec: Object = {"expirationSeconds": seconds}
        if audience:
            spec["audiences"] = [audience]
        path = SERVICE_ACCOUNTS.path(namespace, account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.request("POST", path, body=body)
        return str(answer["status"]["token"])

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """Send one request and return the decoded JSON object; raise a KubeError for anything but success."""
        text = await self._answer(method, path, body, params, content_type, headers)
        decoded: Any = decode(text) if text else {}
        return decoded if isinstance(decoded, dict) else {"items": decoded}

    async def keep_ready(self, spare: int) -> None:
        """Keep connections open for so many requests at once, for ever: making one takes as long as twenty requests."""
        while True:
            # Nobody waits for this: whoever asks next is told what is wrong.
            with suppress(KubeError):
                if self._wire is not None:
                    await self._wire.refresh(spare, self._parts(None, None, "", None)[0])
            await asyncio.sleep(KEEP / 4 / spare)

    async def _answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        if self._wire is None:
            raise ConnectionFailed(_NOT_OPEN)
        sent, data, query = self._parts(body, params, content_type, headers)
        answer = await self._wire.send(method, path, query=query, headers=sent, body=data)
        if answer.status >= 300:
            raise error_from(answer.status, answer.body, answer.headers.get(b"retry-after", b"").decode("latin-1"))
        return answer.body

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a request and yield its successful response unread (for watches, logs and proxied calls)."""
        if self._session is None:
            raise ConnectionFailed(_NOT_OPEN)
        sent, data, query = self._parts(body, params, content_type, headers)
        url = self.credentials.server + path
        try:
            response = await self._session.request(
                method,
                url,
                data=data,
                params=query,
                headers=sent,
                timeout=timeout or aiohttp.ClientTimeout(sock_connect=5),
                allow_redirects=False,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ConnectionFailed(f"{method} {self.credentials.server}{path}: {error!r}") from error
        try:
            if response.status >= 300:
                content = await response.read()
                raise error_from(response.status, content, response.headers.get("Retry-After", ""))
            yield response
        finally:
            _end(response)

    def _parts(
        self, body: Any, params: Mapping[str, str] | None, content_type: str, headers: Mapping[str, str] | None
    ) -> tuple[dict[str, str], bytes | None, dict[str, str]]:
        """Return headers, body and query as they are sent."""
        sent = dict(headers or {})
        if self.credentials.token is not None:
            sent["Authorization"] = f"Bearer {self.credentials.token()}"
        if body is not None:
            sent["Content-Type"] = content_type
        query = {key: value for key, value in (params or {}).items() if value}
        return sent, None if body is None else encode(body), query


def _end(response: aiohttp.ClientResponse) -> None:
    """Give the connection back, or, with the answer half read, cut it: a TLS goodbye would outlive the event loop."""
    connection = response.connection
    if connection is not None and connection.transport is not None and not response.content.at_eof():
        connection.transport.abort()
    response.release()
