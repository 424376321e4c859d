"""Which endpoint a request is for. What it says in several places must agree, and reveal nothing to strangers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zerotide.activator.admission.callers import Caller, refuse
from zerotide.activator.admission.naming import HostName, Name
from zerotide.activator.admission.profile import Profile
from zerotide.api.errors import ErrorCode, Rejection


class Catalogue:
    """All endpoints, by name and by model."""

    def __init__(self) -> None:
        self._endpoints: dict[Name, Profile] = {}
        self._models: dict[tuple[str, str], set[Name]] = {}
        self.gateway: Name | None = None
        """The Service of the gateway, whose host names no endpoint."""

    def set(self, profile: Profile) -> None:
        """Add an endpoint, or its newer version."""
        name = Name(profile.namespace, profile.name)
        self.remove(*name)
        self._endpoints[name] = profile
        for model in profile.model_names:
            self._models.setdefault((profile.namespace, model), set()).add(name)

    def remove(self, namespace: str, name: str) -> None:
        """Forget an endpoint."""
        key = Name(namespace, name)
        profile = self._endpoints.pop(key, None)
        for model in profile.model_names if profile else ():
            names = self._models.get((namespace, model), set())
            names.discard(key)
            if not names:
                self._models.pop((namespace, model), None)

    def get(self, name: Name) -> Profile | None:
        """Return an endpoint, None where there is none."""
        return self._endpoints.get(name)

    def open_to(self, caller: Caller) -> Iterator[Profile]:
        """Yield the endpoints that a caller may call, by name."""
        for name in sorted(self._endpoints):
            if _opens(caller, self._endpoints[name]):
                yield self._endpoints[name]

    def told(self, host: HostName | None, path: Name | None, header: Name | None) -> Profile | None:
        """Return the endpoint that a head names whoever calls; None where it names none, or several."""
        names = {name for name in (self._of_host(host, None), path, header) if name}
        return self._endpoints.get(names.pop()) if len(names) == 1 else None

    def named(
        self, caller: Caller | None, host: HostName | None, path: Name | None, header: Name | None
    ) -> Profile | None:
        """Return the endpoint that host, path and header name, None where none of them does.

        Raises endpoint_mismatch where they name several, endpoint_not_found, forbidden, or invalid_api_key where
        the caller has no key and the endpoint is not open: to strangers it does not even exist.
        """
        claims = list(dict.fromkeys(claim for claim in (self._of_host(host, caller), path, header) if claim))
        if len(claims) > 1:
            raise Rejection(
                ErrorCode.ENDPOINT_MISMATCH,
                "host, path and X-Zerotide-Endpoint name different endpoints: " + ", ".join(map(str, claims)),
            )
        return self._authorized(claims[0], caller) if claims else None

    def by_model(self, caller: Caller, model: str) -> Profile:
        """Return the endpoint of a model name among those that the caller may call.

        Raises model_not_found, or ambiguous_model where neither of two endpoints is the older one.
        """
        found = self._by_name(caller, model)
        if found is None:
            base, _, adapter = model.rpartition(":")
            adapted = self._by_name(caller, base)
            found = adapted if adapted is not None and adapter in adapted.adapters else None
        if found is None:
            raise Rejection(
                ErrorCode.MODEL_NOT_FOUND,
                f"the model {model[:128]!r} does not exist or is not open to you",
                param="model",
            )
        return found

    def _by_name(self, caller: Caller, model: str) -> Profile | None:
        found = self._oldest(caller, self._models.get((caller.namespace, model), ()), model)
        if found is None:
            namespace, _, name = model.partition("/")
            profile = self._endpoints.get(Name(namespace, name))
            found = profile if profile is not None and _opens(caller, profile) else None
        return found

    def _oldest(self, caller: Caller, names: Iterable[Name], model: str) -> Profile | None:
        candidates = sorted(
            (profile for profile in map(self._endpoints.__getitem__, names) if _opens(caller, profile)),
            key=lambda profile: profile.created,
        )
        if len(candidates) > 1 and candidates[0].created == candidates[1].created:
            raise Rejection(
                ErrorCode.AMBIGUOUS_MODEL,
                f"several endpoints serve the model {model[:128]!r}: ask for `namespace/name` instead",
                param="model",
            )
        return candidates[0] if candidates else None

    def _of_host(self, host: HostName | None, caller: Caller | None) -> Name | None:
        if host is None or host.name == self.gateway:
            return None
        name = host.name
        if not name.namespace:
            name = Name(caller.namespace if caller else "", name.name)
        return name if host.certain or name in self._endpoints else None

    def _authorized(self, name: Name, caller: Caller | None) -> Profile:
        profile = self._endpoints.get(name)
        if profile is not None and profile.open:
            return profile
        if caller is None:
            raise refuse()
        if profile is None and name.namespace == caller.namespace:
            raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"there is no endpoint {name}")
        if profile is None or not _opens(caller, profile):
            raise Rejection(ErrorCode.FORBIDDEN, f"the API key does not open endpoint {name}")
        return profile


def _opens(caller: Caller, profile: Profile) -> bool:
    return caller.may_call(profile.namespace, profile.name, profile.trust)


def must_serve(profile: Profile, model: str) -> None:
    """Raise endpoint_mismatch unless `model` is a name of the endpoint that the request named otherwise."""
    if not profile.serves(model):
        raise Rejection(
            ErrorCode.ENDPOINT_MISMATCH,
            f"endpoint {profile.key} serves {', '.join(profile.model_names)}, not {model[:128]!r}",
            param="model",
        )
