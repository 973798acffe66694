"""Addresses, endpoints and protocol numbers.

Every address is one 128-bit number split into two unsigned 64-bit columns, ``high`` and ``low``, in host byte
order. An IPv4 address is stored in its IPv4-mapped form ``::ffff:a.b.c.d`` (RFC 4291, section 2.5.5.2), so a
dual-stack socket and a plain IPv4 socket have the same endpoint, and one column layout serves both families.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

V4_MAPPED = 0xFFFF_0000_0000
"""Bits 32 to 47 of ``low`` in an IPv4-mapped address; ``high`` is 0."""

_LOW = (1 << 64) - 1


class Address(NamedTuple):
    """An IPv4 or IPv6 address as two 64-bit halves."""

    high: int
    low: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``; ValueError if it is not an address, or has an IPv6 zone."""
        address = ipaddress.ip_address(text)
        if address.version == 4:
            return cls(0, V4_MAPPED | int(address))
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone; give the address without it")
        return cls(int(address) >> 64, int(address) & _LOW)

    @property
    def is_v4(self) -> bool:
        return self.high == 0 and self.low >> 32 == 0xFFFF

    def __str__(self) -> str:
        if self.is_v4:
            return str(ipaddress.IPv4Address(self.low & 0xFFFF_FFFF))
        return str(ipaddress.IPv6Address(self.high << 64 | self.low))


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network in ``text``, or one address; ValueError for anything else.

    Bits after the prefix are ignored. A network of IPv4-mapped addresses (``::ffff:10.0.0.0/104``) is the IPv4 one.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < 96:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))


class Endpoint(NamedTuple):
    """An address with a port; the port is 0 for protocols without ports."""

    address: Address
    port: int

    def __str__(self) -> str:
        return format_endpoint(str(self.address), self.port)


def format_endpoint(address: str, port: int) -> str:
    """``10.0.0.1:9092``, or ``[2001:db8::1]:9092`` for IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


PROTOCOL_NAMES = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    58: "icmpv6",
    132: "sctp",
    136: "udplite",
}
"""Names of IANA protocol numbers; any other number is written as a number."""

_PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}


def protocol_name(number: int) -> str:
    """The name used in labels and answers: ``tcp``, ``udp``, …, or the number as text."""
    return PROTOCOL_NAMES.get(number, str(number))


def protocol_number(name: str) -> int:
    """Inverse of :func:`protocol_name`; ValueError for anything that is neither a known name nor 0–255."""
    number = _PROTOCOL_NUMBERS.get(name.lower())
    if number is None:
        if not name.isdecimal() or not 0 <= int(name) <= 255:
            raise ValueError(f"{name!r} is not a protocol")
        number = int(name)
    return number
