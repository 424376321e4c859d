"""An API server that can be broken on purpose: list, watch, patch and reviews over real HTTP, state in memory.

It keeps to what the exporter relies on: versions rise by one, watches start where a list ended, an object that is
being deleted stays while it has finalizers, and a JSON patch is tested before it is applied.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

from aiohttp import web

Object = dict[str, Any]

KINDS = {
    "pods": "Pod",
    "nodes": "Node",
    "inferenceendpoints": "InferenceEndpoint",
    "leases": "Lease",
    "pricebooks": "PriceBook",
    "budgets": "Budget",
    "secrets": "Secret",
}


class FakeApi:
    """Hold objects and serve them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in KINDS}
        self.events: dict[str, list[tuple[int, str, Object]]] = {plural: [] for plural in KINDS}
        self.version = 1
        self.patches: list[tuple[str, list[Object]]] = []
        self.told: dict[str, Object] = {}
        self.refuse_patches = False
        self.managed: dict[tuple[str, ...], Object] = {}
        """The status of an object as each field manager applied it last."""
        self.unreadable: set[tuple[str, str]] = set()
        """Secrets that the caller has no right to."""
        self.tokens: dict[str, Object] = {}
        self.readers: set[tuple[str, str]] = set()
        self.changed = asyncio.Condition()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Return the address to connect to."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FakeApi:
        """Listen on a free port of loopback."""
        app = web.Application()
        for prefix in ("/api/v1", "/apis/zerotide.dev/v1alpha1", "/apis/coordination.k8s.io/v1"):
            app.router.add_get(prefix + "/{plural}", self._list)
            app.router.add_get(prefix + "/{plural}/{name}", self._get)
            app.router.add_get(prefix + "/namespaces/{namespace}/{plural}/{name}", self._get)
            app.router.add_patch(prefix + "/namespaces/{namespace}/{plural}/{name}", self._patch)
            app.router.add_patch(prefix + "/namespaces/{namespace}/{plural}/{name}/status", self._apply_status)
        app.router.add_post("/api/v1/namespaces/{namespace}/events", self._tell)
        leases = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/{plural}"
        app.router.add_post(leases, self._write)
        app.router.add_put(leases + "/{name}", self._write)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._token_review)
        app.router.add_post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._access_review)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut every watch."""
        assert self._runner is not None
        await self._runner.cleanup()

    def kubeconfig(self, token: str = "exporter") -> str:
        """Return a kubeconfig that points here."""
        cluster = {"name": "fake", "cluster": {"server": self.url}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": "me"}}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "contexts": [context],
                "current-context": "fake",
                "users": [{"name": "me", "user": {"token": token}}],
            }
        )

    async def put(self, plural: str, obj: Object) -> Object:
        """Create or replace an object; one that is being deleted and has no finalizer goes away."""
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        known = key in self.objects[plural]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self.objects[plural].pop(key, None)
            await self._emit(plural, "DELETED", obj)
        else:
            self.objects[plural][key] = obj
            await self._emit(plural, "MODIFIED" if known else "ADDED", obj)
        return obj

    async def drop(self, plural: str, namespace: str, name: str) -> None:
        """Remove an object, finalizers or not, as a restored etcd does."""
        obj = self.objects[plural].pop((namespace, name))
        for applied in [key for key in self.managed if key[:3] == (plural, namespace, name)]:
            del self.managed[applied]
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        await self._emit(plural, "DELETED", obj)

    async def until(self, condition: Any, timeout: float = 30) -> None:
        """Wait until a condition holds after some change of an object."""
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(condition)

    async def _emit(self, plural: str, type_: str, obj: Object) -> None:
        async with self.changed:
            self.events[plural].append((self.version, type_, copy.deepcopy(obj)))
            self.changed.notify_all()

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if plural not in KINDS:
            raise web.HTTPNotFound
        if request.query.get("watch") == "true":
            return await self._watch(request, plural)
        items = [copy.deepcopy(obj) for obj in self.objects[plural].values()]
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"kind": f"{KINDS[plural]}List", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            async with self.changed:
                while not (due := [event for event in self.events[plural] if event[0] > seen]):
                    await self.changed.wait()
            for version, type_, obj in due:
                seen = version
                try:
                    await response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")
                except ConnectionResetError:
                    return response

    async def _get(self, request: web.Request) -> web.Response:
        key = (request.match_info.get("namespace", ""), request.match_info["name"])
        if key in self.unreadable:
            return web.json_response({"reason": "Forbidden", "message": "no such right"}, status=403)
        obj = self.objects.get(request.match_info["plural"], {}).get(key)
        if obj is None:
            raise web.HTTPNotFound
        return web.json_response(obj)

    async def _write(self, request: web.Request) -> web.Response:
        obj = json.loads(await request.read())
        key = (request.match_info["namespace"], obj["metadata"]["name"])
        known = self.objects[request.match_info["plural"]].get(key)
        version = (known or {"metadata": {}})["metadata"].get("resourceVersion")
        if version != obj["metadata"].get("resourceVersion"):
            return web.json_response({"reason": "Conflict", "message": "it has changed"}, status=409)
        return web.json_response(await self.put(request.match_info["plural"], obj))

    async def _patch(self, request: web.Request) -> web.Response:
        plural, name = request.match_info["plural"], request.match_info["name"]
        patch = json.loads(await request.read())
        self.patches.append((name, patch))
        if self.refuse_patches:
            return web.json_response({"reason": "Forbidden", "message": "refused"}, status=403)
        obj = self.objects[plural].get((request.match_info["namespace"], name))
        if obj is None:
            raise web.HTTPNotFound
        obj = copy.deepcopy(obj)
        for step in patch:
            *path, last = step["path"].strip("/").split("/")
            parent: Any = obj
            for part in path:
                parent = parent[part]
            index: Any = int(last) if isinstance(parent, list) else last
            if step["op"] == "test" and parent[index] != step["value"]:
                return web.json_response({"reason": "Invalid", "message": "the test failed"}, status=422)
            if step["op"] == "remove":
                del parent[index]
        return web.json_response(await self.put(plural, obj))

    async def _apply_status(self, request: web.Request) -> web.Response:
        plural, key = request.match_info["plural"], (request.match_info["namespace"], request.match_info["name"])
        applied = json.loads(await request.read())
        if self.refuse_patches:
            return web.json_response({"reason": "Forbidden", "message": "refused"}, status=403)
        obj = self.objects[plural].get(key)
        if obj is None:
            raise web.HTTPNotFound
        if applied["metadata"].get("uid", obj["metadata"].get("uid")) != obj["metadata"].get("uid"):
            return web.json_response({"reason": "Conflict", "message": "it has another uid"}, status=409)
        # What a manager applied before and does not any more goes away; what is another's stays.
        before = self.managed.get((plural, *key, manager := request.query["fieldManager"]), {})
        self.managed[plural, *key, manager] = applied["status"]
        kept = {name: value for name, value in (obj.get("status") or {}).items() if name not in before}
        return web.json_response(await self.put(plural, {**obj, "status": {**kept, **applied["status"]}}))

    async def _tell(self, request: web.Request) -> web.Response:
        event = await request.json()
        name = event["metadata"]["name"]
        if name in self.told:
            return web.json_response({"reason": "AlreadyExists", "message": "it is there"}, status=409)
        async with self.changed:
            self.told[name] = event
            self.changed.notify_all()
        return web.json_response(event, status=201)

    async def _token_review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        known = self.tokens.get(spec["token"])
        audiences = spec.get("audiences")
        fits = known is not None and (audiences is None or known["audience"] in audiences)
        status: Object = {"authenticated": bool(fits)}
        if fits and known is not None:
            status |= {"user": {"username": known["username"]}, "audiences": audiences or []}
        return web.json_response({"status": status}, status=201)

    async def _access_review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        attributes = spec["resourceAttributes"]
        right = (spec["user"], attributes.get("namespace", "")) in self.readers
        right = right and attributes["verb"] == "get" and attributes["resource"] == "inferenceendpoints"
        return web.json_response({"status": {"allowed": right}}, status=201)
