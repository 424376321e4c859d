"""What every command is given: a connection that opens on first use, where to look, and how to print."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from zerotide.api.names import SYSTEM_NAMESPACE
from zerotide.cli.errors import Missing
from zerotide.cli.output import Printer
from zerotide.kube import Client, Clock, Credentials, NotFound, Object, load_credentials
from zerotide.kube.resources import INFERENCE_ENDPOINTS, Resource


@dataclass
class Session:
    """One run of the command."""

    printer: Printer
    context: str | None = None
    chosen_namespace: str | None = None
    all_namespaces: bool = False
    system_namespace: str = SYSTEM_NAMESPACE
    clock: Clock = field(default_factory=Clock)
    _client: Client | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Open nothing yet: a command that needs no cluster must work without one."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened."""
        await self._stack.aclose()

    async def client(self) -> Client:
        """Return the connection to the API server, opened on the first call."""
        if self._client is None:
            self._client = await self._stack.enter_async_context(Client(await load_credentials(self.context)))
        return self._client

    async def credentials(self) -> Credentials:
        """Return the credentials that the connection uses."""
        return (await self.client()).credentials

    async def namespace(self) -> str:
        """Return the namespace that was asked for, else the one of the kubeconfig's context."""
        return self.chosen_namespace or (await self.credentials()).namespace

    async def scope(self) -> str | None:
        """Return the namespace to list, None for all of them."""
        return None if self.all_namespaces else await self.namespace()

    async def get(self, resource: Resource, name: str) -> Object:
        """Read one object of the namespace; raise Missing with what to do when there is none."""
        namespace = await self.namespace()
        try:
            return await (await self.client()).get(resource, name, namespace)
        except NotFound as error:
            if "could not find the requested resource" in str(error):
                raise
            command = "zerotide list" if resource is INFERENCE_ENDPOINTS else "zerotide key list"
            raise Missing(
                f"no {resource.kind} {name!r} in namespace {namespace!r}: see `{command} -A`, or choose with -n"
            ) from error

    async def list(self, resource: Resource) -> list[Object]:
        """List the objects of the namespace, or of all of them, by namespace and name."""
        listing = await (await self.client()).list(resource, await self.scope())
        return sorted(listing.items, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))

    async def where(self) -> str:
        """Return the words for the namespaces that are listed."""
        return "any namespace" if self.all_namespaces else f"namespace {await self.namespace()!r}"
