"""Whatever a request says of its endpoint, it reaches none that its caller may not call."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from tests.reconcile.helpers import endpoint
from zerotide.activator.admission.callers import Caller
from zerotide.activator.admission.catalogue import Catalogue
from zerotide.activator.admission.naming import of_header, of_host, of_path
from zerotide.activator.admission.profile import Profile, profile_of
from zerotide.api.errors import Rejection

WORD = st.sampled_from(("a", "b", "a-b", "demo", "other"))
PROFILE = profile_of(endpoint())


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Return an endpoint, some of them open, some with the model names of others or like their paths."""
    namespace, name = draw(WORD), draw(WORD)
    models = draw(st.lists(st.builds("/".join, st.lists(WORD, min_size=1, max_size=2)), max_size=3))
    uid = f"{namespace}/{name}"
    return replace(
        PROFILE, namespace=namespace, name=name, uid=uid, open=draw(st.booleans()), model_names=(name, *models)
    )


@st.composite
def callers(draw: st.DrawFn) -> Caller | None:
    """Return somebody with a key for a namespace, or for some endpoints of it; or nobody."""
    endpoints = draw(st.none() | st.frozensets(WORD))
    caller = Caller(draw(WORD), "k", "payer", endpoints, None)
    return draw(st.none() | st.just(caller))


TEXT = st.builds(
    "".join, st.lists(WORD | st.sampled_from((".", "/", ".svc", ".svc.cluster.local", ":80", "..")), max_size=6)
)


@given(st.lists(profiles(), max_size=6), callers(), TEXT, TEXT, TEXT, TEXT)
def test_no_words_lead_to_another_s_endpoint(
    endpoints: list[Profile], caller: Caller | None, host: str, path: str, header: str, model: str
) -> None:
    """By host, path, header and model, each alone and all together; only what is open is open to everyone."""
    catalogue = Catalogue()
    for each in endpoints:
        catalogue.set(each)
    found: list[Profile | None] = []
    for claims in ((host, "", ""), ("", path, ""), ("", "", header), (host, path, header)):
        with suppress(Rejection):
            found.append(
                catalogue.named(
                    caller, of_host(claims[0]), of_path(f"/endpoints/{claims[1]}/v1/x")[0], of_header(claims[2])
                )
            )
    if caller is not None:
        with suppress(Rejection):
            found.append(catalogue.by_model(caller, model))
        found += catalogue.open_to(caller)
    for profile in found:
        assert profile is None or profile.open or (caller is not None and opens(caller, profile))


def opens(caller: Caller, profile: Profile) -> bool:
    """Tell by the words of the contract whether a key opens an endpoint."""
    return profile.namespace == caller.namespace and (caller.endpoints is None or profile.name in caller.endpoints)


@given(st.lists(profiles(), max_size=6), callers())
def test_the_law_is_not_kept_by_leading_nowhere(endpoints: list[Profile], caller: Caller | None) -> None:
    """Everyone reaches what they may call, by each of its names."""
    catalogue = Catalogue()
    for each in endpoints:
        catalogue.set(each)
    for profile in {each.key: each for each in endpoints}.values():
        if profile.open or (caller is not None and opens(caller, profile)):
            path, _ = of_path(f"/endpoints/{profile.key}/v1/x")
            for claim in (of_host(f"{profile.name}.{profile.namespace}.svc"), None):
                assert catalogue.named(caller, claim, path, of_header(profile.key)) == profile
