"""An API server that is none: lists, watches and reviews over HTTP, enough for an activator in another process."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from pathlib import Path
from typing import Any, Self

from aiohttp import web

Json = dict[str, Any]
ENDPOINTS = "/apis/zerotide.dev/v1alpha1/inferenceendpoints"
ONE = "/apis/zerotide.dev/v1alpha1/namespaces/{namespace}/inferenceendpoints/{name}"
KEYS = "/apis/zerotide.dev/v1alpha1/apikeys"
BUDGETS = "/apis/zerotide.dev/v1alpha1/budgets"
PODS = "/api/v1/pods"
OPERATOR = "system:serviceaccount:zerotide-system:zerotide-operator"


class Api:
    """Keep objects by collection; the token `operator` is the operator's. `wishes` are the wake requests that came."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.wishes: list[Json] = []
        self.away = False
        """Whether it answers nothing but 503 from now on; watches that are open go on."""
        self._objects: dict[str, dict[tuple[str, str], Json]] = {ENDPOINTS: {}, KEYS: {}, BUDGETS: {}, PODS: {}}
        self._watchers: dict[str, set[asyncio.Queue[Json]]] = {path: set() for path in self._objects}
        self._past: dict[str, list[Json]] = {path: [] for path in self._objects}
        self._versions = itertools.count(1)

    async def __aenter__(self) -> Self:
        """Serve on a free port and write a kubeconfig."""
        app = web.Application()
        for path in self._objects:
            app.router.add_get(path, self._list)
        app.router.add_get(ONE, self._get)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self._list)
        app.router.add_patch(ONE + "/status", self._wish)
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        server = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "x"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        self.kubeconfig.write_text(json.dumps(content))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    def set(self, path: str, obj: Json) -> None:
        """Create an object or change it."""
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(next(self._versions))
        self._objects[path][metadata["namespace"], metadata["name"]] = obj
        event = {"type": "MODIFIED", "object": copy.deepcopy(obj)}
        self._past[path].append(event)
        for watcher in self._watchers[path]:
            watcher.put_nowait(event)

    def endpoint(self, **status: Any) -> None:
        """Have the endpoint demo/m with a status."""
        metadata = {"namespace": "demo", "name": "m", "uid": "uid-m", "generation": 1}
        metadata["creationTimestamp"] = "2026-11-22T10:00:00Z"
        spec = {"model": {"uri": "image:///m"}, "access": {"auth": "Open"}, "scaling": {"concurrency": {"limit": 0}}}
        kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint"}
        self.set(ENDPOINTS, {**kind, "metadata": metadata, "spec": spec, "status": status})

    def pod(self, port: int) -> None:
        """Have a pod of it on loopback."""
        metadata = {"namespace": "demo", "name": "m-1", "uid": "pod-1", "labels": {"zerotide.dev/endpoint": "m"}}
        probe = {"httpGet": {"path": "/health", "port": port}}
        spec = {"containers": [{"name": "model", "readinessProbe": probe}]}
        self.set(PODS, {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": "127.0.0.1"}})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        # Pods in one namespace are the activators themselves: none is needed.
        if self.away:
            return web.json_response({"reason": "ServiceUnavailable", "message": "away"}, status=503)
        path = request.path if request.path in self._objects else ""
        if "watch" not in request.query:
            items = list(self._objects.get(path, {}).values())
            return web.json_response({"metadata": {"resourceVersion": str(next(self._versions))}, "items": items})
        since, events = int(request.query["resourceVersion"]), asyncio.Queue[Json]()
        for event in self._past.get(path, ()):
            if int(event["object"]["metadata"]["resourceVersion"]) > since:
                events.put_nowait(event)
        watchers = self._watchers.get(path, set())
        watchers.add(events)
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            while True:
                await response.write(json.dumps(await events.get()).encode() + b"\n")
        finally:
            watchers.discard(events)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._objects[ENDPOINTS][request.match_info["namespace"], request.match_info["name"]])

    async def _wish(self, request: web.Request) -> web.Response:
        """Take a wake request to the object's newest version."""
        asked = await request.json()
        wish = asked["status"]["wakeRequest"]
        obj = self._objects[ENDPOINTS][request.match_info["namespace"], request.match_info["name"]]
        if asked["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            return web.json_response({"reason": "Conflict", "message": "the object has been modified"}, status=409)
        self.wishes.append(wish)
        obj["status"]["wakeRequest"] = wish
        self.set(ENDPOINTS, obj)
        return web.json_response(obj)

    async def _review(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        known = spec["token"] == "operator"
        status = {"authenticated": known, "audiences": spec["audiences"], "user": {"username": OPERATOR}}
        return web.json_response({"status": status if known else {"authenticated": False}})
