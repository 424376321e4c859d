"""Which addresses a user's URL may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.egress import PUBLIC_ONLY, PUBLIC_PORTS, Egress

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::1",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "fec0::1",
    "",
    "localhost",
    "0x7f000001",
    "2130706433",
    "127.1",
    "0177.0.0.1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_nothing_private(address: str) -> None:
    """However it is written or wrapped."""
    assert not any(PUBLIC_ONLY.permits(address, port) for port in PUBLIC_PORTS)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    """On the ports of web servers alone."""
    assert PUBLIC_ONLY.permits(address, 443) and PUBLIC_ONLY.permits(address, 8443)
    assert not any(PUBLIC_ONLY.permits(address, port) for port in (22, 80, 6379, 9090))


def test_what_the_policy_allows() -> None:
    """On any port, and nothing beside it."""
    egress = Egress.of(["10.20.0.0/16", " fd00::/8"])
    assert egress.permits("10.20.255.1", 5556) and egress.permits("fd00::1", 80)
    assert egress.permits("::ffff:10.20.0.1", 443)
    assert not egress.permits("10.21.0.1", 443) and not egress.permits("fe80::1", 443)


@pytest.mark.parametrize("blocks", [["10.0.0.1/8"], ["10.0.0.0/33"], ["x"], [""], ["::/129"]])
def test_what_is_no_block(blocks: list[str]) -> None:
    """It is said, so that a typo allows nothing else."""
    with pytest.raises(ValueError, match=r"host bits|does not appear|not permitted|Only decimal"):
        Egress.of(blocks)


@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("issuer.example", True),
        ("127.0.0.1", False),
        ("[::1]", False),
        ("::1", False),
        ("1.1.1.1", True),
        ("127.1", True),
    ],
)
def test_what_a_host_says_itself(host: str, permitted: bool) -> None:
    """A name says nothing: it is looked at when it is connected to."""
    assert PUBLIC_ONLY.permits_literal(host) is permitted


@given(st.ip_addresses(v=4))
def test_a_wrapped_address_is_judged_as_the_one_within(address: IPv4Address) -> None:
    """Whichever way it is written."""
    wrapped = IPv6Address((0xFFFF << 32) | int(address))
    assert PUBLIC_ONLY.permits(str(wrapped), 443) is PUBLIC_ONLY.permits(str(address), 443)


@given(st.ip_addresses())
def test_only_global_addresses_are_public(address: IPv4Address | IPv6Address) -> None:
    """What the registry calls private, local, reserved or multicast never is."""
    if PUBLIC_ONLY.permits(str(address), 443):
        plain = ip_address(str(address))
        assert not (plain.is_loopback or plain.is_link_local or plain.is_multicast or plain.is_unspecified)
