"""The PROXY protocol, versions 1 and 2: what a proxy in front says of the client, ahead of everything else.

Strict: what is not exactly a header is a fault, since whoever may send one is trusted with addresses.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from zerotide.activator.failures import MalformedProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1 = 107
LONGEST_V2 = 16 + 4096
"""More than any proxy sends, extensions with its client's certificate included."""
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?|(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d+) (\d+))\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_SIZES = {0x11: 4, 0x21: 16}
"""Bytes of an address by family and transport: TCP over IPv4, over IPv6."""


class Header(NamedTuple):
    """A header that was read."""

    length: int
    """In bytes."""
    source: str
    """The client's address, empty where the proxy speaks for itself."""


def parse(data: bytes) -> Header | None:
    """Return the header with which bytes begin, None where more are needed. Raises MalformedProxyHeader."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _parse_v1(data)
    raise MalformedProxyHeader("the connection does not begin with a header of the PROXY protocol")


def _parse_v1(data: bytes) -> Header | None:
    line, end, _ = data[:LONGEST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= LONGEST_V1:
            raise MalformedProxyHeader("a header of the PROXY protocol, version 1, does not end")
        return None
    match = _LINE.fullmatch(line + end)
    if match is None:
        raise MalformedProxyHeader("a header of the PROXY protocol, version 1, is not as it should be")
    source = ""
    if match[1] is not None:
        source, _ = (_address(text, match[1]) for text in (match[2], match[3]))
        for port in (match[4], match[5]):
            if len(port) > 5 or int(port) > 65535 or str(int(port)).encode() != port:
                raise MalformedProxyHeader("a port in a header of the PROXY protocol is none")
    return Header(len(line) + 2, source)


def _address(text: bytes, family: bytes) -> str:
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError as error:
        raise MalformedProxyHeader("an address in a header of the PROXY protocol is none") from error
    if address.version != (4 if family == b"TCP4" else 6):
        raise MalformedProxyHeader("an address in a header of the PROXY protocol is of another family")
    return str(address)


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13]
    length = 16 + int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise MalformedProxyHeader("a header of the PROXY protocol has an unknown version or command")
    if length > LONGEST_V2:
        raise MalformedProxyHeader(f"a header of the PROXY protocol is longer than {LONGEST_V2} bytes")
    size = 0
    if command == _PROXY and family:
        size = _SIZES.get(family, 0)
        if not size or length < 16 + 2 * size + 4:
            raise MalformedProxyHeader("a header of the PROXY protocol names no TCP connection")
    if len(data) < length:
        return None
    return Header(length, str(ipaddress.ip_address(data[16 : 16 + size])) if size else "")
