"""Where a URL that a user wrote may lead: to public addresses, and to those that the cluster's policy allows.

A name says nothing, since it may lead anywhere and elsewhere a moment later: only the address that is about to be
connected to counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PUBLIC_PORTS = frozenset((443, 8443))
"""Ports that are connected to at public addresses; at addresses that the policy allows, any."""
_TRANSLATED = IPv6Network("64:ff9b::/96")
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"), IPv6Network("64:ff9b:1::/48"))
"""Addresses within which others are wrapped, which nothing but a trick would name."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What the policy allows beside public addresses."""

    allow: tuple[Network, ...] = ()

    @classmethod
    def of(cls, blocks: Iterable[str]) -> Egress:
        """Read CIDR blocks. Raises ValueError, which says which one is none."""
        return cls(tuple(ip_network(block.strip()) for block in blocks))

    def permits(self, address: str, port: int) -> bool:
        """Tell whether an address, as the resolver writes it, may be connected to."""
        if self.names(address):
            return True
        plain = _plain(address)
        return plain is not None and port in PUBLIC_PORTS and _is_public(plain)

    def names(self, address: str) -> bool:
        """Tell whether the policy names an address, as the resolver writes it."""
        plain = _plain(address)
        if plain is None:
            return False
        return any(plain in network for network in self.allow if network.version == plain.version)

    def permits_literal(self, host: str) -> bool:
        """Tell whether a URL's host may be connected to as far as it says so itself: a name says nothing yet."""
        literal = host.strip("[]")
        try:
            ip_address(literal)
        except ValueError:
            return True
        return any(self.permits(literal, port) for port in PUBLIC_PORTS)


PUBLIC_ONLY = Egress()


def _plain(address: str) -> Address | None:
    try:
        return _unwrapped(ip_address(address.partition("%")[0]))
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.is_site_local or any(address in each for each in _TUNNELS)):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
