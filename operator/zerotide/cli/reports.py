"""Fetch reports of the exporter through the API server's proxy, so that kubeconfig is all that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from zerotide.api.names import SERVICE_ACCOUNT_READER, SERVICE_EXPORTER
from zerotide.billing.reports import Report
from zerotide.cli.errors import Denied, GatewayError, Missing
from zerotide.cli.session import Session
from zerotide.kube import Client, Forbidden, NotFound, TooManyRequests, Unauthorized, Unavailable
from zerotide.kube.resources import SERVICES

TOKEN_HEADER = "X-Zerotide-Token"
"""The proxy keeps Authorization to itself, so the exporter takes the caller's token from here as well."""

R = TypeVar("R", bound=Report)


async def fetch(session: Session, kind: type[R], path: str, params: Mapping[str, str]) -> R:
    """Ask the exporter for one report.

    Raises Denied, Missing or GatewayError with what to do.
    """
    client = await session.client()
    proxied = SERVICES.path(session.system_namespace, f"{SERVICE_EXPORTER}:http", f"proxy/api/v1/{path}")
    headers = {TOKEN_HEADER: await _token(session, client)}
    try:
        answer = await client.request("GET", proxied, params=params, headers=headers)
    except Forbidden as error:
        raise Denied(
            f"you may not read this bill: {error}. You need `get inferenceendpoints` there, and an entry in the chart "
            "value exporter.reports.subjects"
        ) from error
    except Unauthorized as error:
        raise Denied(f"the exporter does not accept your token: {error}") from error
    except NotFound as error:
        raise Missing(
            f"no exporter in namespace {session.system_namespace}: {error}. Name Zerotide's with --system-namespace"
        ) from error
    except (Unavailable, TooManyRequests) as error:
        raise GatewayError(f"the exporter gives no answer: {error}. See `zerotide doctor`") from error
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise GatewayError(f"the exporter answers in a form that this version does not know: {error}") from error


async def _token(session: Session, client: Client) -> str:
    """Return the kubeconfig's token; with a client certificate there is none, so borrow the readers' account."""
    if client.credentials.token is not None:
        return client.credentials.token()
    try:
        return await client.token(SERVICE_ACCOUNT_READER, session.system_namespace, seconds=600)
    except Forbidden as error:
        raise Denied(
            "your kubeconfig has a client certificate and no token to show to the exporter, and you may not make one "
            f"for the ServiceAccount {SERVICE_ACCOUNT_READER}: {error}"
        ) from error
