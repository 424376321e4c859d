"""TLS with real certificates: old versions are refused, new certificates are taken in, and nobody is dropped."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack, until
from tests.activator.wire.certificates import Authority
from tests.activator.wire.test_server import QUICK, Raw, connected, echo
from zerotide.activator.failures import CertificateUnusable
from zerotide.activator.traffic.replies import answer_to_fault
from zerotide.activator.wire import Certificate, Server, open_socket, tls

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Secure:
    """A server that speaks TLS only."""

    server: Server
    port: int
    certificate: Certificate
    authority: Authority
    folder: Path

    @asynccontextmanager
    async def client(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
        """Connect."""
        secure = context or self.authority.client()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=secure)
        try:
            yield Raw(reader, writer)
        finally:
            writer.close()

    async def name(self) -> str:
        """Return whose certificate a new connection sees."""
        async with self.client() as client:
            client.send(GET)
            assert (await client.answer())[0] == 200
            subject = client.writer.get_extra_info("peercert")["subject"]
            return str(subject[0][0][1])


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    """Serve over TLS."""
    authority, folder = Authority(tmp_path / "ca"), tmp_path / "tls"
    authority.mount(folder, "first")
    certificate = Certificate(folder)
    server = Server(echo, answer_to_fault, QUICK)
    port = await server.listen(open_socket("127.0.0.1", 0), certificate)
    yield Secure(server, port, certificate, authority, folder)
    await server.close()


async def test_requests_over_tls(secure: Secure) -> None:
    """HTTP as ever, agreed upon by ALPN; the answer's end is the connection's, where it closes."""
    async with secure.client(secure.authority.client("h3", "http/1.1")) as client:
        tunnel = client.writer.get_extra_info("ssl_object")
        assert (tunnel.selected_alpn_protocol(), tunnel.version()) == ("http/1.1", "TLSv1.3")
        client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n" + bytes(600_000))
        assert (await client.answer())[0] == 413
        assert await client.rest() == b""
    async with secure.client() as client:
        client.send(GET + GET)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
    await until(lambda: not secure.server.door.open)
    assert secure.server.door.accepted == 2


async def test_a_new_certificate_is_taken_in(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections see it, open ones go on with the old one."""
    monkeypatch.setattr(tls, "POLL", 0.02)
    looking = asyncio.create_task(secure.certificate.run())
    async with secure.client() as old:
        old.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert await secure.name() == "first"
        secure.authority.mount(secure.folder, "second")
        await until(lambda: secure.certificate.loaded == 2)
        assert await secure.name() == "second"
        old.send(b"b")
        assert (await old.answer())[2] == b"POST ab"
    looking.cancel()


@pytest.mark.parametrize("bad", ["nonsense", "another key", "an encrypted key", "missing"])
async def test_a_bad_certificate_keeps_the_old_one(
    secure: Secure, bad: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It is said and counted once, and the next good one is taken in."""
    certificate, key = (secure.folder / "tls.crt").read_text(), (secure.folder / "tls.key").read_text()
    if bad == "nonsense":
        certificate = "no certificate"
    elif bad == "another key":
        Authority(tmp_path / "other").mount(tmp_path / "there")
        key = (tmp_path / "there" / "tls.key").read_text()
    elif bad == "an encrypted key":
        key = ENCRYPTED
    secure.authority.swap(secure.folder, certificate, key)
    if bad == "missing":
        (secure.folder / "..data").unlink()
    for _ in range(3):
        secure.certificate.refresh()
    assert (secure.certificate.loaded, secure.certificate.failed) == (1, 1)
    assert [record.message for record in caplog.records if "unusable" in record.message] == [
        "the new certificate is unusable: the old one stays"
    ]
    assert await secure.name() == "first"
    secure.authority.mount(secure.folder, "third")
    secure.certificate.refresh()
    assert await secure.name() == "third"


async def test_no_start_without_a_certificate(tmp_path: Path) -> None:
    """A gateway that was told to speak TLS and cannot must not seem to."""
    with pytest.raises(CertificateUnusable, match=r"tls\.crt"):
        Certificate(tmp_path)


async def test_who_speaks_no_tls(secure: Secure) -> None:
    """Plain HTTP, an old version, silence: each is dropped in time and counted, and nothing is left."""
    async with connected(secure.port) as plain:
        plain.send(GET)
        await plain.rest()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", secure.port, ssl=old)
    async with connected(secure.port) as silent:
        assert await silent.rest() == b""
    await until(lambda: not secure.server.door.open)
    assert secure.server.door.rejected == {"tls_handshake": 3}


async def test_handshakes_count_as_connections(secure: Secure) -> None:
    """Whoever begins one and goes no further takes one of the connections that its address may have."""
    secure.server.door._most_per_address = 2
    async with connected(secure.port), connected(secure.port):
        await until(lambda: secure.server.door.open == 2)
        async with connected(secure.port) as third:
            assert await third.rest() == b""
    assert secure.server.door.rejected["connections_per_address"] == 1


async def test_replicas_are_told(stack: Stack, tmp_path: Path) -> None:
    """A replica learns that its client spoke TLS."""
    authority = Authority(tmp_path / "ca")
    authority.mount(tmp_path / "tls")
    port = await stack.service.server.listen(open_socket("127.0.0.1", 0), Certificate(tmp_path / "tls"))
    async with Replica() as replica:
        await stack.awake(replica)
        headers = {"authorization": f"Bearer {stack.keys['k']}"}
        body = {"model": "m", "messages": []}
        url = f"https://localhost:{port}/v1/chat/completions"
        async with stack.session.post(url, json=body, headers=headers, ssl=authority.client()) as response:
            assert response.status == 200
        assert replica.posts[0].get("x-forwarded-proto") == "https"


ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAAAAAAAAAAAAAAAAAAAAAAEgZAA
-----END ENCRYPTED PRIVATE KEY-----
"""
