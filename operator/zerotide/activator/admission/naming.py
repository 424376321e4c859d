"""Where a request names its endpoint: host, path prefix, header. The model in its body comes later."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.names import is_endpoint_name

PREFIX = "/endpoints/"


class Name(NamedTuple):
    """An endpoint's namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class HostName(NamedTuple):
    """What a host says: `certain` where it can be nothing but a Service of the cluster."""

    name: Name
    certain: bool


@lru_cache(maxsize=4096)
def of_host(host: str) -> HostName | None:
    """Return the endpoint of `<name>.<namespace>[.svc…]`, None for any other host.

    A host of two labels may as well be a domain that leads here, so it is not certain; one label (a Service as its
    own namespace calls it) names an endpoint without namespace.
    """
    labels = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name, *rest = labels.lower().rstrip(".").split(".")
    if not is_endpoint_name(name) or len(rest) == 0:
        return HostName(Name("", name), False) if is_endpoint_name(name) else None
    if len(rest) == 1 and rest[0]:
        return HostName(Name(rest[0], name), False)
    return HostName(Name(rest[0], name), True) if rest[1] == "svc" and rest[0] else None


def of_path(target: str) -> tuple[Name | None, str]:
    """Return the endpoint of a target `/endpoints/<namespace>/<name>/…`, and the target without that prefix."""
    if not target.startswith(PREFIX):
        return None, target
    namespace, _, rest = target[len(PREFIX) :].partition("/")
    end = min((index for index in (rest.find("/"), rest.find("?")) if index >= 0), default=len(rest))
    name, remaining = rest[:end], rest[end:]
    if not namespace or not name:
        raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, "the path must be /endpoints/<namespace>/<name>/…")
    return Name(namespace, name), remaining if remaining.startswith("/") else f"/{remaining}"


def of_header(value: str) -> Name | None:
    """Return the endpoint of `X-Zerotide-Endpoint: namespace/name`, None where the header is absent."""
    if not value:
        return None
    namespace, slash, name = value.partition("/")
    if not namespace or not slash or not name:
        raise Rejection(ErrorCode.INVALID_REQUEST, "X-Zerotide-Endpoint must be namespace/name")
    return Name(namespace, name)
