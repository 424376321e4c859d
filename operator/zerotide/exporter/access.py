"""Who may deliver usage, who may read which bill, and who is told what every endpoint costs."""

from __future__ import annotations

from aiohttp import web

from zerotide.api.names import AUDIENCE_EXPORTER
from zerotide.exporter.answers import Refusal
from zerotide.kube import Client, Identity, KubeError, TokenReviewer, allowed
from zerotide.kube.resources import INFERENCE_ENDPOINTS

TOKEN_HEADER = "X-Zerotide-Token"
"""Readers come through the API server's proxy, which keeps Authorization to itself."""


class Access:
    """Check callers with the API server: our own by their audience-bound token, readers by what they may get."""

    def __init__(self, client: Client, activator_user: str, operator_user: str) -> None:
        self._client = client
        self._activator_user, self._operator_user = activator_user, operator_user
        self._ours = TokenReviewer(client, AUDIENCE_EXPORTER)
        self._readers = TokenReviewer(client)

    async def check_delivery(self, request: web.Request) -> None:
        """Let only the activators' account pass. Raises Refusal."""
        identity = await self._identity(self._ours, request)
        if identity.username != self._activator_user:
            raise Refusal(403, "Forbidden", f"{identity.username} may not deliver usage: only {self._activator_user}")

    async def check_operator(self, request: web.Request) -> None:
        """Let only the operator's account pass. Raises Refusal."""
        identity = await self._identity(self._ours, request)
        if identity.username != self._operator_user:
            raise Refusal(403, "Forbidden", f"{identity.username} is not told this: only {self._operator_user}")

    async def check_reader(self, request: web.Request, namespace: str) -> None:
        """Let pass who may get inferenceendpoints in the namespace (empty: in all of them). Raises Refusal."""
        identity = await self._identity(self._readers, request)
        try:
            permitted = await allowed(self._client, identity, "get", INFERENCE_ENDPOINTS, namespace)
        except KubeError as error:
            raise Refusal(503, "ServiceUnavailable", f"the API server cannot be asked: {error}") from error
        if not permitted:
            where = f"in namespace {namespace}" if namespace else "in all namespaces: name one with ?namespace="
            raise Refusal(403, "Forbidden", f"{identity.username} may not get inferenceendpoints {where}")

    async def _identity(self, reviewer: TokenReviewer, request: web.Request) -> Identity:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = request.headers.get(TOKEN_HEADER) or (bearer.strip() if scheme.lower() == "bearer" else "")
        if not token:
            raise Refusal(401, "Unauthorized", f"send a token as `Authorization: Bearer …` or `{TOKEN_HEADER}: …`")
        try:
            identity = await reviewer.review(token)
        except KubeError as error:
            raise Refusal(503, "ServiceUnavailable", f"the API server cannot be asked: {error}") from error
        if identity is None:
            raise Refusal(401, "Unauthorized", "the API server does not accept the token")
        return identity
