"""The PROXY protocol: read exactly, believed only from those who are trusted."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.activator.stack import until
from tests.activator.wire.certificates import Authority
from tests.activator.wire.test_server import QUICK, Raw
from zerotide.activator.failures import MalformedProxyHeader
from zerotide.activator.traffic.replies import answer_to_fault
from zerotide.activator.wire import Certificate, Exchange, Server, open_socket
from zerotide.activator.wire.proxy_protocol import SIGNATURE, parse

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
PATIENT = replace(QUICK, idle_time=30.0)


def v1(source: str) -> bytes:
    """Return a header of version 1."""
    family, target = ("TCP6", "::1") if ":" in source else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {source} {target} 4000 443\r\n".encode()


def v2(source: str, extensions: bytes = b"", command: int = 0x21) -> bytes:
    """Return a header of version 2."""
    address = ipaddress.ip_address(source).packed
    family = 0x11 if len(address) == 4 else 0x21
    block = address + address + b"\x01\x00\x02\x00" + extensions
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2) + block


addresses = st.ip_addresses().map(str)
headers = st.one_of(addresses.map(v1), st.builds(v2, addresses, st.binary(max_size=300)), st.just(b"PROXY UNKNOWN\r\n"))


@given(headers, st.binary(max_size=40))
def test_a_header_ends_where_it_ends(header: bytes, rest: bytes) -> None:
    """However much of it has come, no byte too many is taken and none too few; what follows makes no difference."""
    for size in range(len(header)):
        assert parse(header[:size]) is None
    found = parse(header + rest)
    assert found is not None
    assert found.length == len(header)


@given(addresses, st.binary(max_size=20))
def test_both_versions_tell_the_same(address: str, rest: bytes) -> None:
    """The client's address, written as Python writes it."""
    one, two = parse(v1(address) + rest), parse(v2(address, b"\x04\x00\x01\x00") + rest)
    assert one is not None and two is not None
    assert one.source == two.source == address


@given(st.binary(max_size=200))
def test_nonsense_is_a_fault_or_too_short(data: bytes) -> None:
    """Nothing else happens."""
    try:
        found = parse(data)
    except MalformedProxyHeader:
        return
    assert found is None or found.length <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + b"x" * 100,
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n",
        b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_malformed_headers(data: bytes) -> None:
    """Strict: a port with a leading zero is none."""
    with pytest.raises(MalformedProxyHeader):
        parse(data)


def test_a_proxy_may_speak_for_itself() -> None:
    """Its health checks: the socket's own address counts, whatever the header says."""
    for header in (b"PROXY UNKNOWN 1 2\r\n", v2("1.2.3.4", command=0x20), SIGNATURE + b"\x21\x00\x00\x00"):
        assert parse(header + GET) == (len(header), "")


async def tell(exchange: Exchange) -> None:
    """Answer with who the client is."""
    exchange.send(200, [], b" ".join((exchange.peer.address.encode(), exchange.peer.scheme)))


@asynccontextmanager
async def behind(certificate: Certificate | None = None, most: int = 0) -> AsyncIterator[tuple[Server, int]]:
    """Serve behind a proxy on 127.0.0.1."""
    server = Server(tell, answer_to_fault, replace(PATIENT, connections_per_address=most))
    port = await server.listen(open_socket("127.0.0.1", 0), certificate, LOOPBACK)
    try:
        yield server, port
    finally:
        await server.close()


@asynccontextmanager
async def proxy(port: int, local: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """Connect from an address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0))
    writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize("header", [v1("192.0.2.7"), v2("192.0.2.7", b"\x04\x00\x02xx")], ids=["v1", "v2"])
async def test_the_client_is_who_the_proxy_says(header: bytes) -> None:
    """Whether header and request come together or byte by byte."""
    async with behind() as (server, port):
        async with proxy(port) as client:
            client.send(header + GET + GET)
            assert [(await client.answer())[2] for _ in range(2)] == [b"192.0.2.7 http"] * 2
        async with proxy(port) as client:
            for byte in header + GET:
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"192.0.2.7 http"
            assert server.door._by_address == {"192.0.2.7": 1}
        await until(lambda: not server.door.open)


async def test_a_client_behind_proxy_and_tls(tmp_path: Path) -> None:
    """The header comes first and in the clear, TLS after it."""
    authority = Authority(tmp_path / "ca")
    authority.mount(tmp_path / "tls")
    async with behind(Certificate(tmp_path / "tls")) as (_, port):
        raw = socket.create_connection(("127.0.0.1", port))
        raw.sendall(v2("2001:db8::1"))
        reader, writer = await asyncio.open_connection(sock=raw, ssl=authority.client(), server_hostname="localhost")
        writer.write(GET)
        assert (await Raw(reader, writer).answer())[2] == b"2001:db8::1 https"
        writer.close()
        await writer.wait_closed()


async def test_who_is_not_trusted() -> None:
    """Its header is no HTTP; without one it is itself."""
    async with behind() as (server, port):
        async with proxy(port, "127.0.0.2") as client:
            client.send(v1("192.0.2.7") + GET)
            assert (await client.answer())[0] == 400
        async with proxy(port, "127.0.0.2") as client:
            client.send(GET)
            assert (await client.answer())[2] == b"127.0.0.2 http"
        assert server.door.faults["malformed"] == 1


@pytest.mark.parametrize("sent", [GET, v1("192.0.2.7")[:20], b"", SIGNATURE + b"\x21\x12"], ids=str)
async def test_a_trusted_proxy_must_send_it_in_time(sent: bytes) -> None:
    """Whatever else it sends, or nothing: the connection ends and is counted."""
    async with behind() as (server, port), proxy(port) as client:
        client.send(sent)
        assert await client.rest() == b""
        assert server.door.rejected == {"proxy_protocol": 1}
        assert server.door.open == 0


async def test_clients_behind_a_proxy_are_bounded_one_by_one() -> None:
    """One of them cannot use up what others may have; the proxy itself may have any number."""
    async with behind(most=1) as (server, port), proxy(port) as first, proxy(port) as second, proxy(port) as third:
        for client, address in ((first, "192.0.2.1"), (second, "192.0.2.2")):
            client.send(v1(address) + GET)
            assert (await client.answer())[0] == 200
        third.send(v1("192.0.2.1") + GET)
        assert await third.rest() == b""
        assert (server.door.rejected, server.door.open) == ({"connections_per_address": 1}, 2)
