"""Who calls, which endpoint, what is asked: everything that is settled before anything waits or wakes."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from zerotide.activator.admission.callers import Caller, credential, is_key, refuse
from zerotide.activator.admission.catalogue import must_serve
from zerotide.activator.admission.naming import Name, of_header, of_host, of_path
from zerotide.activator.admission.payload import Payload, asked
from zerotide.activator.admission.profile import Profile
from zerotide.activator.admission.waits import is_batch, longest_hold
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import KeysAwaited
from zerotide.activator.traffic.special import is_upgrade, take_special_way
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import Request
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.protocol import FORWARDED_PATHS, Action, protocol_of, route

SMALLEST_BODY = 1024 * 1024
_NOT_JSON = ("/v1/audio/",)


class Care(Enum):
    """What is done about a token that is new."""

    QUICK = "nothing: it is taken for none"
    PATIENT = "it is judged, and where keys are awaited, its caller is told so"
    FINAL = "it is judged by the keys that are there"


class Intake:
    """Read requests; every refusal is a Rejection."""

    def __init__(self, registry: Registry, wall_us: Callable[[], int], body_bytes: int) -> None:
        """`body_bytes` is the largest body that is read, whatever its endpoint allows."""
        self._registry, self._wall_us, self._body_bytes = registry, wall_us, body_bytes

    async def meet(self, visit: Visit) -> tuple[Action, Profile | None]:
        """Do what `locate` does, and wait for a moment for keys that a token needs to be judged by."""
        try:
            return self.locate(visit)
        except KeysAwaited as awaited:
            await awaited.ready()
        return self.locate(visit, Care.FINAL)

    def locate(self, visit: Visit, care: Care = Care.PATIENT) -> tuple[Action, Profile | None]:
        """Say what happens to a request, and which endpoint its head names; its caller is checked by then.

        The body is not touched. Raises invalid_api_key, forbidden, endpoint_not_found, endpoint_mismatch,
        route_not_found, credentials_missing or invalid_request; and KeysAwaited where there is patience.
        """
        request = visit.exchange.request
        path_name, visit.target = of_path(request.target)
        path = visit.path
        visit.protocol = protocol_of(path)
        found = route(request.method, path)
        if found.action is Action.LOCAL and not _asks_for_endpoints(request.method, path):
            return Action.LOCAL, None
        header, host = of_header(request.get(b"x-zerotide-endpoint")), of_host(request.get(b"host"))
        catalogue = self._registry.catalogue
        visit.caller = self._caller(request, catalogue.told(host, path_name, header), care)
        profile = catalogue.named(visit.caller, host, path_name, header)
        if profile is None and visit.caller is None:
            # A host of two labels is refused as an endpoint would be that is there.
            raise refuse(unnamed=host is None or not host.name.namespace)
        if found.action is Action.NOT_FOUND and not self._is_extra(request, path, profile, visit.caller):
            raise Rejection(
                ErrorCode.ROUTE_NOT_FOUND, f"{request.method} {path[:256]} is not served: only inference routes are"
            )
        return (Action.LOCAL if found.action is Action.LOCAL else Action.FORWARD), profile

    async def read(self, visit: Visit, profile: Profile | None) -> Profile:
        """Read the body of a request that is to be forwarded and return its endpoint, now beyond doubt.

        Raises request_too_large, invalid_request, model_not_found, ambiguous_model or endpoint_mismatch, and
        PeerFault where the body does not arrive.
        """
        request = visit.exchange.request
        if request.get(b"content-encoding").lower() not in ("", "identity"):
            raise Rejection(ErrorCode.INVALID_REQUEST, "compressed request bodies are not taken: send it as it is")
        visit.longest = longest_hold(request.headers)
        visit.batch = is_batch(request.get(b"x-zerotide-priority"))
        special = take_special_way(visit, profile, self._registry)
        if special is not None:
            return special
        body = await visit.exchange.read_body(self.longest_body(profile, visit.caller))
        return self.understand(visit, profile, body)

    def longest_body(self, profile: Profile | None, caller: Caller | None) -> int:
        """Return the size of the longest body that is read at all."""
        limit = profile.max_body_bytes if profile is not None else self._largest_body(caller)
        return min(limit, self._body_bytes)

    def understand(self, visit: Visit, profile: Profile | None, body: bytes) -> Profile:
        """Read a body that is here, set what it asks for and return its endpoint; raises as `read` does."""
        request = visit.exchange.request
        if not is_json(visit.path, request):
            if profile is None:
                raise Rejection(
                    ErrorCode.INVALID_REQUEST,
                    "name the endpoint by host, path or X-Zerotide-Endpoint: this body is not JSON with a `model`",
                )
            visit.payload = Payload(body)
            return profile
        wish = asked(body, visit.path)
        profile = self._agreed(profile, wish.model, visit.caller)
        if len(body) > profile.max_body_bytes:
            raise Rejection(ErrorCode.REQUEST_TOO_LARGE, f"the body is larger than {profile.max_body_bytes} bytes")
        if visit.path not in FORWARDED_PATHS and visit.path not in profile.extra_paths:
            raise Rejection(ErrorCode.ROUTE_NOT_FOUND, f"endpoint {profile.key} does not serve {visit.path[:256]}")
        visit.payload = wish.payload(body, visit.path, profile.engine_name(wish.model))
        return profile

    def _caller(self, request: Request, told: Profile | None, care: Care) -> Caller | None:
        text = credential(request.headers)
        if not text:
            return None
        trust = told.trust if told is not None else None
        if trust is None or is_key(text):
            return self._registry.keyring.find(text, self._wall_us())
        tokens = self._registry.tokens
        if care is Care.QUICK:
            return tokens.recall(text, trust, self._wall_us())
        return tokens.find(text, trust, self._wall_us(), patient=care is Care.PATIENT)

    def _agreed(self, profile: Profile | None, model: str, caller: Caller | None) -> Profile:
        if profile is not None:
            if model:
                must_serve(profile, model)
            return profile
        if caller is None:
            raise refuse()
        if not model:
            raise Rejection(
                ErrorCode.INVALID_REQUEST,
                "name the endpoint: by `model`, host, path or X-Zerotide-Endpoint",
                param="model",
            )
        return self._registry.catalogue.by_model(caller, model)

    def _is_extra(self, request: Request, path: str, profile: Profile | None, caller: Caller | None) -> bool:
        if request.method != "POST" and not is_upgrade(request):
            return False
        if profile is not None:
            return path in profile.extra_paths
        return caller is not None and any(path in each.extra_paths for each in self._registry.catalogue.open_to(caller))

    def _largest_body(self, caller: Caller | None) -> int:
        if caller is None:
            return SMALLEST_BODY
        sizes = (profile.max_body_bytes for profile in self._registry.catalogue.open_to(caller))
        return max(sizes, default=SMALLEST_BODY)


def name_of(profile: Profile) -> Name:
    """Return an endpoint's namespace and name."""
    return Name(profile.namespace, profile.name)


def _asks_for_endpoints(method: str, path: str) -> bool:
    return method == "GET" and (path == "/info" or path.startswith("/v1/"))


def is_json(path: str, request: Request) -> bool:
    """Tell whether a body is read as JSON."""
    if path.startswith(_NOT_JSON):
        return False
    return path in FORWARDED_PATHS or "json" in request.get(b"content-type").lower()
