"""An issuer's web server, and an activator that may reach it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest

from tests.activator.access.issuer import Publisher, ec, ed, rsa
from tests.activator.stack import FakeApi, Stack
from tests.activator.wire.certificates import Authority
from zerotide.activator.access import keys, loading
from zerotide.activator.access.loading import Loader
from zerotide.api.egress import Egress

LOOPBACK = Egress.of(["127.0.0.0/8", "::1/128"])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who certifies the issuer's web server."""
    folder = tmp_path_factory.mktemp("issuer")
    made = Authority(folder / "ca")
    made.mount(folder / "tls", "issuer")
    return made


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time; tests of these limits set their own."""
    monkeypatch.setattr(loading, "TIMEOUT", 60.0)
    monkeypatch.setattr(keys, "PATIENCE", 60.0)


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    """Trust the issuer's authority."""
    return authority.client()


@pytest.fixture
async def publisher(authority: Authority) -> AsyncIterator[Publisher]:
    """Publish one key of each kind."""
    async with Publisher(authority.folder.parent / "tls", rsa(), ec(), ed()) as running:
        yield running


@pytest.fixture
async def loader(tls: ssl.SSLContext) -> AsyncIterator[Loader]:
    """Return a loader that may reach loopback."""
    made = Loader(FakeApi(), LOOPBACK, tls)
    yield made
    await made.close()


@pytest.fixture
async def trusting(stack: Stack, loader: Loader) -> Stack:
    """Run an activator whose keys come over TLS from loopback."""
    stack.registry.tokens.load = loader.load
    return stack
