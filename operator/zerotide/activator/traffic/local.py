"""What is answered here, asleep or not: it never wakes anything and is never activity."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from zerotide.activator.admission.catalogue import must_serve
from zerotide.activator.admission.profile import Profile
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.traffic.replies import identity, send_json
from zerotide.activator.traffic.visit import Visit
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.failures import InvalidTime
from zerotide.api.protocol import MODELS_PATH, model_id
from zerotide.api.scalars import SECOND, parse_time

_ALLOW = b"GET, HEAD, OPTIONS, POST"


def answer(visit: Visit, profile: Profile | None, registry: Registry) -> None:
    """Answer a request that needs no replica.

    Raises model_not_found, ambiguous_model, endpoint_mismatch or endpoint_not_found.
    """
    method, path = visit.exchange.request.method, visit.path
    if method == "OPTIONS":
        visit.status = 204
        visit.exchange.send(204, [(b"allow", _ALLOW), *identity(visit)])
    elif method == "GET" and path == MODELS_PATH:
        profiles = [profile] if profile is not None else _callable(visit, registry)
        data = [model_card(each, name) for each in profiles for name in _names(each)]
        send_json(visit, {"object": "list", "data": data})
    elif method == "GET" and model_id(path):
        model = unquote(model_id(path))
        send_json(visit, model_card(_by_model(visit, profile, registry, model), model))
    elif method == "GET" and path == "/info":
        send_json(visit, info(_single(visit, profile, registry)))
    else:
        visit.status = 200
        visit.exchange.send(200, [(b"content-type", b"text/plain; charset=utf-8"), *identity(visit)])


def _names(profile: Profile) -> Iterator[str]:
    """Yield what can be asked for: the model by each of its names, and its adapters."""
    yield from profile.model_names
    for adapter in profile.adapters:
        yield f"{profile.model_name}:{adapter}"


def model_card(profile: Profile, name: str) -> dict[str, object]:
    """Return a model as OpenAI's list has it."""
    try:
        created = parse_time(profile.created) // SECOND
    except InvalidTime:
        created = 0
    return {"id": name, "object": "model", "created": created, "owned_by": profile.owner}


def info(profile: Profile) -> dict[str, object]:
    """Return what TGI tells of itself, as far as it is known while nothing runs; the rest is null."""
    unknown = (
        "model_sha",
        "model_pipeline_tag",
        "max_concurrent_requests",
        "max_best_of",
        "max_stop_sequences",
        "max_input_tokens",
        "max_total_tokens",
        "validation_workers",
        "max_client_batch_size",
        "version",
        "sha",
        "docker_label",
    )
    return {"model_id": profile.model_name, **dict.fromkeys(unknown), "router": "zerotide"}


def _callable(visit: Visit, registry: Registry) -> list[Profile]:
    return list(registry.catalogue.open_to(visit.caller)) if visit.caller is not None else []


def _by_model(visit: Visit, profile: Profile | None, registry: Registry, model: str) -> Profile:
    if profile is not None:
        must_serve(profile, model)
        return profile
    if visit.caller is None:
        raise Rejection(ErrorCode.MODEL_NOT_FOUND)
    return registry.catalogue.by_model(visit.caller, model)


def _single(visit: Visit, profile: Profile | None, registry: Registry) -> Profile:
    if profile is not None:
        return profile
    profiles = _callable(visit, registry)
    if len(profiles) != 1:
        raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, "name the endpoint by host, path or X-Zerotide-Endpoint")
    return profiles[0]
