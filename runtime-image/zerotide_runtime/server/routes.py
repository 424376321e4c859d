"""Which handler answers which path, and the small routes that only tell about the server."""

from __future__ import annotations

import logging

from zerotide_runtime import __version__
from zerotide_runtime.server.admin import Admin
from zerotide_runtime.server.api_key import ApiKey, unauthorised
from zerotide_runtime.server.message import Handler, Request, Response, StreamResponse, json_response
from zerotide_runtime.server.openai_api import OpenAI
from zerotide_runtime.server.openai_embeddings import Embeddings
from zerotide_runtime.server.service import Service
from zerotide_runtime.server.tgi_api import TGI
from zerotide_runtime.server.tgi_clouds import Clouds
from zerotide_runtime.server.tgi_text import Tokenization

log = logging.getLogger(__name__)

MODEL_PREFIX = "/v1/models/"
KEYLESS = "/chat_tokenize"  # as in TGI


class Routes:
    """The server's one handler."""

    def __init__(self, service: Service, admin: Admin) -> None:
        self._service = service
        openai, tgi, text = OpenAI(service), TGI(service), Tokenization(service)
        clouds = Clouds(service, tgi, openai)
        self._model = openai.model
        self._key = ApiKey(service.settings.api_key)
        self._table: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": openai.chat},
            "/v1/completions": {"POST": openai.completions},
            "/v1/embeddings": {"POST": Embeddings(service).create},
            "/v1/models": {"GET": openai.models},
            "/generate": {"POST": tgi.generate},
            "/generate_stream": {"POST": tgi.generate_stream},
            "/": {"POST": tgi.root, "GET": self._health},
            "/tokenize": {"POST": text.tokenize},
            "/chat_tokenize": {"POST": text.chat_tokenize},
            "/invocations": {"POST": clouds.invocations},
            "/vertex": {"POST": clouds.vertex},
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health},
            "/info": {"GET": self._info},
            "/docs": {"GET": self._docs},
            "/metrics": {"GET": self._metrics},
            "/startup": {"GET": self._startup},
            **admin.table,
        }
        self._keyless = {KEYLESS, *admin.table}

    async def __call__(self, request: Request) -> Response | StreamResponse:
        """Answer a request."""
        methods = self._table.get(request.path)
        if methods is None and request.path.startswith(MODEL_PREFIX):
            methods = {"GET": self._model}
        if methods is None:
            return _shaped(request, 404, f"There is no {request.path} here.", "route_not_found")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            message = f"{request.path} takes {allowed}, not {request.method}."
            return _shaped(request, 405, message, "method_not_allowed", {"allow": allowed})
        if request.method == "POST" and request.path not in self._keyless and not self._key.fits(request):
            return unauthorised(request)
        try:
            return await handler(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return _shaped(request, 500, "internal error", "server_error")

    async def _health(self, request: Request) -> Response:
        if self._service.healthy:
            return json_response(200, {"status": "ok"})
        return json_response(503, {"error": "unhealthy", "error_type": "healthcheck"})

    async def _info(self, request: Request) -> Response:
        model, settings = await self._service.model(), self._service.settings
        content = {
            "model_id": settings.model_name,
            "model_sha": model.assets.digest,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": settings.max_concurrent,
            "max_best_of": settings.max_best_of,
            "max_stop_sequences": settings.max_stop_sequences,
            "max_input_tokens": model.max_total_tokens - 1,
            "max_total_tokens": model.max_total_tokens,
            "validation_workers": 1,
            "max_client_batch_size": 1,
            "router": "zerotide-runtime",
            "version": __version__,
            "sha": None,
            "docker_label": None,
        }
        return json_response(200, content)

    async def _docs(self, request: Request) -> Response:
        """List what is served, for people."""
        rows = [f"{' '.join(methods)} {path}" for path, methods in self._table.items()]
        return Response(200, "\n".join([*rows, ""]).encode(), "text/plain; charset=utf-8")

    async def _metrics(self, request: Request) -> Response:
        return Response(200, self._service.telemetry.page(), "text/plain; version=0.0.4; charset=utf-8")

    async def _startup(self, request: Request) -> Response:
        startup = self._service.startup
        stages = [{"name": name, "ms": round(ms, 1)} for name, ms in startup.stages().items()]
        model = {"model": self._service.identity} if self._service.identity else {}
        content = {"process_start_unix_ms": startup.process_start_unix_ms, "stages": stages, **model}
        return json_response(200, content)


def _shaped(request: Request, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the shape of the protocol that the path belongs to."""
    if not request.path.startswith("/v1/"):
        return json_response(status, {"error": message, "error_type": code}, headers)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json_response(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)
