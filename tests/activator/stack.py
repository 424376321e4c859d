"""An activator on loopback without a cluster: objects are put in by hand, the API server is a small fake."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
from yarl import URL

from tests.activator.replica import Replica
from zerotide.activator.admission.naming import Name
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.service import Service
from zerotide.activator.settings import parse
from zerotide.activator.usage.journal import read
from zerotide.activator.wire import Limits, open_socket
from zerotide.api.apikey import digest, format_key
from zerotide.api.usage import Intent, Settlement
from zerotide.kube import Change, Client, Clock, Conflict, NotFound
from zerotide.kube.credentials import Credentials
from zerotide.kube.resources import CONFIG_MAPS, SECRETS, Resource

Json = dict[str, Any]


class FakeApi(Client):
    """Keep endpoints as an API server would: versions grow, stale versions conflict. `down` refuses everything."""

    def __init__(self) -> None:
        super().__init__(Credentials("http://127.0.0.1:1", None))
        self.objects: dict[Name, Json] = {}
        self.applied: list[Json] = []
        self.down: Exception | None = None
        self.versions = itertools.count(1)
        self.reviews = 0
        self.config_maps: dict[Name, dict[str, str]] = {}
        self.secrets: dict[Name, dict[str, str]] = {}
        self.unreadable: Exception | None = None
        """What becomes of reading a Secret, where that is refused."""

    async def apply(
        self, resource: Resource, obj: Json, manager: str, *, force: bool = True, subresource: str = ""
    ) -> Json:
        """Apply a status."""
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        metadata = obj["metadata"]
        stored = self.objects.get(Name(metadata["namespace"], metadata["name"]))
        if stored is None or stored["metadata"]["uid"] != metadata["uid"]:
            raise NotFound(404, "NotFound", "no such endpoint")
        if metadata.get("resourceVersion") != stored["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        self.applied.append(copy.deepcopy(obj))
        stored.setdefault("status", {}).update(copy.deepcopy(obj["status"]))
        stored["metadata"]["resourceVersion"] = str(next(self.versions))
        return copy.deepcopy(stored)

    async def create(self, resource: Resource, obj: Json, *, manager: str = "zerotide", subresource: str = "") -> Json:
        """Review a token: it is the user's name after a word that must be right."""
        await asyncio.sleep(0)
        self.reviews += 1
        word, _, user = obj["spec"]["token"].partition(" ")
        known = word == "token-of" and obj["spec"]["audiences"] == ["zerotide-activator"]
        status = {"authenticated": known, "audiences": obj["spec"]["audiences"], "user": {"username": user}}
        return {"status": status}

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json:
        """Read an endpoint, or a ConfigMap."""
        await asyncio.sleep(0)
        if resource is CONFIG_MAPS:
            return self._config_map(Name(namespace or "", name))
        if resource is SECRETS:
            return self._secret(Name(namespace or "", name))
        stored = self.objects.get(Name(namespace or "", name))
        if stored is None:
            raise NotFound(404, "NotFound", "no such endpoint")
        return copy.deepcopy(stored)

    def _secret(self, name: Name) -> Json:
        if self.unreadable is not None:
            raise self.unreadable
        if name not in self.secrets:
            raise NotFound(404, "NotFound", "no such Secret")
        return {"data": dict(self.secrets[name])}

    def _config_map(self, name: Name) -> Json:
        if self.down is not None:
            raise self.down
        if name not in self.config_maps:
            raise NotFound(404, "NotFound", "no such ConfigMap")
        return {"data": dict(self.config_maps[name])}


@dataclass
class Answer:
    """An HTTP answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Return the error code."""
        return self.headers.get("x-zerotide-error", "")


class Stack:
    """The activator's parts as the process has them, the reflectors aside."""

    def __init__(
        self,
        usage: Path | None = None,
        limits: Limits | None = None,
        name: str = "act-0",
        api: FakeApi | None = None,
        token: Path | None = None,
        exporter: tuple[str, Path] | None = None,
    ) -> None:
        """`token` is the file of the token that it shows to other activators; without it talks to none.

        `exporter` is an exporter's address and the file of the token for it.
        """
        self.api = api or FakeApi()
        environment = {"POD_NAME": name, "ZEROTIDE_EXPORTER_URL": "none"}
        if exporter is not None:
            environment["ZEROTIDE_EXPORTER_URL"] = exporter[0]
            environment["ZEROTIDE_EXPORTER_TOKEN_FILE"] = str(exporter[1])
        if token is not None:
            environment["ZEROTIDE_COUNCIL_TOKEN_FILE"] = str(token)
        if usage is not None:
            environment["ZEROTIDE_USAGE_DIR"] = str(usage)
        self.service = Service(parse([], environment), self.api, Clock(), limits)
        self.registry = self.service.registry
        self.tracker = self.service.tracker
        self.url = ""
        self.keys: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Serve on a free port."""
        service = self.service
        service.port = await service.server.listen(open_socket("127.0.0.1", 0))
        service._run(service.holder.run())
        if service.links is not None:
            self.registry.council_port = await service.links.listen("127.0.0.1", 0)
            service._run(service.links.run())
        service._run(service.gateway.run())
        for work in service._records.work() if service._records is not None else ():
            service._run(work)
        if service.quota is not None:
            service._run(service.quota.office.run())
        self.url = f"http://127.0.0.1:{service.port}"
        self.session = aiohttp.ClientSession(auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.session.close()
        await self.service.stop()

    # Objects

    def endpoint(self, name: str = "m", namespace: str = "demo", status: Json | None = None, **spec: Any) -> Endpoint:
        """Create or replace an endpoint; a status of None keeps the one that it has."""
        key = Name(namespace, name)
        before = self.api.objects.get(key)
        obj: Json = {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "InferenceEndpoint",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": before["metadata"]["uid"] if before else f"uid-{namespace}-{name}-{secrets.token_hex(2)}",
                "generation": before["metadata"]["generation"] if before else 1,
                "resourceVersion": str(next(self.api.versions)),
                "creationTimestamp": "2026-11-22T10:00:00Z",
            },
            "spec": {"model": {"uri": "image:///m"}, **spec} if spec or before is None else before["spec"],
            "status": status if status is not None else (before or {}).get("status", {}),
        }
        self.api.objects[key] = obj
        self.registry.endpoint_changed(Change("set", copy.deepcopy(obj)))
        return self.registry.endpoints[key]

    def delete_endpoint(self, name: str = "m", namespace: str = "demo") -> None:
        """Delete an endpoint."""
        self.registry.endpoint_changed(Change("deleted", self.api.objects.pop(Name(namespace, name))))

    def key(self, name: str = "k", namespace: str = "demo", **spec: Any) -> str:
        """Create a key and return its text."""
        secret = secrets.token_bytes(32)
        obj = {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "APIKey",
            "metadata": {"namespace": namespace, "name": name, "uid": f"key-{name}"},
            "spec": {"digest": digest(secret), "consumer": "team-a", **spec},
        }
        self.registry.key_changed(Change("set", obj))
        self.keys[name] = format_key(name, secret)
        return self.keys[name]

    def budget(
        self,
        action: str | None,
        name: str = "month",
        namespace: str = "demo",
        *,
        said: str | None = None,
        spec: Json | None = None,
        **scope: Any,
    ) -> None:
        """Set a budget of which the exporter says that an action holds until the end of 2100; None: nothing does.

        `said` is when it said so, and `spec` what the spec has beside scope and limit.
        """
        status: Json = {"observedGeneration": 1, "message": "5.00 USD of 5.00 USD are used up (100 %)"}
        if action is not None:
            status |= {"action": action, "windowEnd": "2101-01-01T00:00:00Z"}
        if said is not None:
            status["updateTime"] = said
        limit = {"type": "Cost", "cost": {"amount": "5.00", "currency": "USD"}}
        obj = {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "Budget",
            "metadata": {"namespace": namespace, "name": name, "uid": name, "generation": 1},
            "spec": {"scope": scope, "limit": limit, **(spec or {})},
            "status": status,
        }
        self.registry.budget_changed(Change("set", obj))

    def revoke(self, name: str, namespace: str = "demo") -> None:
        """Delete a key."""
        self.registry.key_changed(Change("deleted", {"metadata": {"namespace": namespace, "name": name}}))

    def pod(self, port: int, endpoint: str = "m", namespace: str = "demo", name: str = "m-1", **metadata: Any) -> Json:
        """Create a pod whose container is on loopback, or change it."""
        obj: Json = {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": f"pod-{name}",
                "labels": {"zerotide.dev/endpoint": endpoint},
                **metadata,
            },
            "spec": {
                "containers": [{"name": "model", "readinessProbe": {"httpGet": {"path": "/health", "port": port}}}]
            },
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }
        self.registry.pod_changed(Change("set", obj))
        return obj

    async def awake(self, replica: Replica, **spec: Any) -> Endpoint:
        """Have an endpoint with one replica that can serve, and a key to it."""
        endpoint = self.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, **spec)
        self.key()
        self.pod(replica.port)
        await until(lambda: not endpoint.gate.cold)
        return endpoint

    def delete_pod(self, name: str = "m-1", namespace: str = "demo", endpoint: str = "m") -> None:
        """Delete a pod."""
        metadata = {"namespace": namespace, "name": name, "labels": {"zerotide.dev/endpoint": endpoint}}
        self.registry.pod_changed(Change("deleted", {"metadata": metadata}))

    # Requests

    async def post(
        self, path: str = "/v1/chat/completions", body: Any = None, *, key: str = "k", **headers: str
    ) -> Answer:
        """Send a POST and read the answer; a body of None is a small chat."""
        content = {"model": "m", "messages": []} if body is None else body
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.request("POST", path, data, key=key, **{"content_type": "application/json", **headers})

    async def request(
        self, method: str, path: str, data: bytes | None = None, *, key: str = "k", **headers: str
    ) -> Answer:
        """Send a request and read the answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key in self.keys:
            sent["authorization"] = f"Bearer {self.keys[key]}"
        async with self.session.request(
            method, URL(self.url + path, encoded=True), data=data, headers=sent
        ) as response:
            body = await response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)

    # What is seen

    def records(self) -> tuple[list[Intent], list[Settlement]]:
        """Return what the usage log holds."""
        assert self.service.journal is not None
        records = [record for path in self.service.journal.segments() for record in read(path)]
        intents = [record for record in records if isinstance(record, Intent)]
        return intents, [record for record in records if isinstance(record, Settlement)]


async def until(look: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Return what `look` returns as soon as it is true."""
    async with asyncio.timeout(timeout):
        while not (seen := look()):
            await asyncio.sleep(0.002)
        return seen


async def gather(*work: Awaitable[Any]) -> list[Any]:
    """Wait for all."""
    return list(await asyncio.gather(*work))
