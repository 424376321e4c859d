"""An issuer's web server, and an activator that may reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

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
def authorities(authority: Authority) -> Path:
    """Return the file that trusts the issuer's authority."""
    return authority.folder / "ca.crt"


@pytest.fixture
async def publisher(authority: Authority) -> AsyncIterator[Publisher]:
    """Publish one key of each kind."""
    async with Publisher(authority.folder.parent / "tls", rsa(), ec(), ed()) as running:
        yield running


@pytest.fixture
def loader(authorities: Path) -> Loader:
    """Return a loader that may reach loopback."""
    return Loader(FakeApi(), LOOPBACK, authorities)


@pytest.fixture
async def trusting(stack: Stack, loader: Loader) -> Stack:
    """Run an activator whose keys come over TLS from loopback."""
    stack.registry.tokens.load = loader.load
    return stack
