"""Secrets that users name: what they hold, and words for whoever named one that cannot be read."""

from __future__ import annotations

from typing import cast

import pytest

from zerotide.kube import Client, ConnectionFailed, Forbidden, KubeError, NotFound, Object, Resource
from zerotide.kube.errors import SecretUnreadable
from zerotide.kube.secrets import read_secret


class Cluster:
    """Has one Secret, or refuses to give it."""

    def __init__(self, data: Object | None, refusal: KubeError | None = None) -> None:
        self._data, self._refusal = data, refusal

    async def get(self, resource: Resource, name: str, namespace: str) -> Object:
        """Read it."""
        assert (resource.plural, name, namespace) == ("secrets", "ops", "demo")
        if self._refusal is not None:
            raise self._refusal
        return {"data": self._data}


async def read(cluster: Cluster) -> str | None:
    """Read what it holds under a key."""
    return await read_secret(cast(Client, cluster), "demo", "ops", "token", "zerotide-activator")


@pytest.mark.parametrize(
    ("data", "held"),
    [({"token": "eA==", "other": "eQ=="}, "eA=="), ({"other": "eQ=="}, None), ({}, None), (None, None)],
)
async def test_what_a_key_holds_is_told_as_it_is(data: Object | None, held: str | None) -> None:
    assert await read(Cluster(data)) == held


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (NotFound(404, "NotFound", "secrets ops of demo"), "there is no Secret ops"),
        (
            Forbidden(403, "Forbidden", "nothing of this"),
            "Secret ops may not be read: bind a Role that lets zerotide-activator get it",
        ),
        (ConnectionFailed("nothing of this"), "Secret ops cannot be read: ConnectionFailed"),
    ],
)
async def test_why_one_cannot_be_read_is_told_without_the_servers_words(refusal: KubeError, told: str) -> None:
    with pytest.raises(SecretUnreadable) as raised:
        await read(Cluster(None, refusal))
    assert str(raised.value) == told
