"""What an IP address stands for."""

from __future__ import annotations

import ipaddress

TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 hosts as a network that speaks IPv6 alone sees them: RFC 6052 section 2.1."""


def embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 host that an IPv6 address stands for: mapped, through NAT64, 6to4 (RFC 3056) or Teredo (RFC 4380).

    Each 6to4 client has 65,536 networks of 64 bits, and a Teredo client an address for each server and port.
    """
    if ip in TRANSLATED:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def is_public(address: str) -> bool:
    """Whether this is an address of the internet, and not of this machine or of a private network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    meant = embedded(ip) or ip if isinstance(ip, ipaddress.IPv6Address) else ip
    return meant.is_global and not meant.is_multicast
