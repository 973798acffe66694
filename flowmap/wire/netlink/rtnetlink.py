"""Decodes rtnetlink messages about the addresses and interfaces of a network namespace.

Names in comments are those of linux/rtnetlink.h, linux/if_addr.h and linux/if_link.h.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from flowmap.errors import DecodeError
from flowmap.model.address import V4_MAPPED, Address
from flowmap.wire.netlink.messages import AttributeReader, MessageFlag, encode_attribute, encode_message

NEW_ADDRESS = 20
"""RTM_NEWADDR: an address in a dump, or an added one."""
OLD_ADDRESS = 21
"""RTM_DELADDR: a removed address."""
NEW_LINK = 16
"""RTM_NEWLINK: an interface in a dump, or an added or changed one."""
_GET_ADDRESS, _GET_LINK = 22, 18
_AF_INET, _AF_INET6 = 2, 10
_LONGEST_WITH_BROADCAST = 30
"""Longest IPv4 prefix with a broadcast address (fib_add_ifaddr in net/ipv4/fib_frontend.c)."""
_HEADER = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, interface
_LINK_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, number, flags, changed flags
_IFF_UP = 1
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS, since 4.4: half of the message


class AddressGroup(IntEnum):
    """RTNLGRP_*: addresses added and removed."""

    IPV4 = 5
    IPV6 = 9


class LinkGroup(IntEnum):
    """RTNLGRP_*: interfaces added, changed and removed."""

    LINK = 1


class Link(NamedTuple):
    """One interface. Names are bytes, not always UTF-8."""

    number: int
    up: bool
    name: bytes
    other_names: tuple[bytes, ...]
    """Alternative names (ip-link(8): altname), since 5.5."""


class _Attribute(IntEnum):
    ADDRESS = 1  # the peer's on point-to-point links, else the same as LOCAL
    LOCAL = 2  # absent for IPv6
    BROADCAST = 4  # IPv4, where one was set


class _LinkAttribute(IntEnum):
    NAME = 3
    FILTER = 29  # IFLA_EXT_MASK, in requests
    PROPERTIES = 52  # IFLA_PROP_LIST
    OTHER_NAME = 53  # IFLA_ALT_IFNAME, among the properties


def encode_addresses(*, sequence: int = 0) -> bytes:
    """A request for all addresses of both families."""
    return encode_message(
        _GET_ADDRESS, MessageFlag.REQUEST | MessageFlag.DUMP, _HEADER.pack(0, 0, 0, 0, 0), sequence=sequence
    )


def decode_address(payload: bytes | memoryview) -> Address | None:
    """The address in one RTM_NEWADDR or RTM_DELADDR; None for other families; DecodeError if it has none, or is cut."""
    family, _, found = _addresses(payload)
    if family not in (_AF_INET, _AF_INET6):
        return None
    number = found.get(_Attribute.LOCAL, found.get(_Attribute.ADDRESS))
    if number is None:
        raise DecodeError("ifaddrmsg: the address is missing")
    if family == _AF_INET:
        return Address(0, V4_MAPPED | number)
    return Address(number >> 64, number & (1 << 64) - 1)


def decode_broadcasts(payload: bytes | memoryview) -> set[Address]:
    """The directed broadcast addresses of one RTM_NEWADDR: the last address of its network, and a configured one.

    DecodeError if it is cut.
    """
    family, prefix, found = _addresses(payload)
    if family != _AF_INET or prefix > _LONGEST_WITH_BROADCAST:
        return set()
    last = (1 << 32 - prefix) - 1
    addresses = {_Attribute.ADDRESS: last, _Attribute.BROADCAST: 0}
    return {Address(0, V4_MAPPED | found[kind] | host) for kind, host in addresses.items() if kind in found}


def _addresses(payload: bytes | memoryview) -> tuple[int, int, dict[int, int]]:
    """Family, prefix length and addresses by :class:`_Attribute`; DecodeError if the message is cut."""
    if len(payload) < _HEADER.size:
        raise DecodeError(f"ifaddrmsg: {len(payload)} bytes, expected at least {_HEADER.size}")
    family, prefix = payload[0], payload[1]
    found: dict[int, int] = {}
    if size := {_AF_INET: 4, _AF_INET6: 16}.get(family):
        reader = AttributeReader(memoryview(payload)[_HEADER.size :], "ifaddrmsg")
        while reader.next():
            if reader.type in tuple(_Attribute):
                found[reader.type] = reader.unsigned(size)
        reader.check()
    return family, prefix, found


def encode_links(*, sequence: int = 0) -> bytes:
    """A request for all interfaces, without their statistics."""
    wanted = encode_attribute(_LinkAttribute.FILTER, struct.pack("=I", _SKIP_STATISTICS))
    payload = _LINK_HEADER.pack(0, 0, 0, 0, 0) + wanted
    return encode_message(_GET_LINK, MessageFlag.REQUEST | MessageFlag.DUMP, payload, sequence=sequence)


def decode_link(payload: bytes | memoryview) -> Link:
    """The interface in one RTM_NEWLINK; DecodeError if it is cut or has no name."""
    if len(payload) < _LINK_HEADER.size:
        raise DecodeError(f"ifinfomsg: {len(payload)} bytes, expected at least {_LINK_HEADER.size}")
    _, _, number, flags, _ = _LINK_HEADER.unpack_from(payload)
    name, others = b"", []
    reader = AttributeReader(memoryview(payload)[_LINK_HEADER.size :], "ifinfomsg")
    while reader.next():
        if reader.type == _LinkAttribute.NAME:
            name = reader.string()
        elif reader.type == _LinkAttribute.PROPERTIES:
            others += _other_names(reader.nested())
    reader.check()
    if not name:
        raise DecodeError("ifinfomsg: the name is missing")
    return Link(number, bool(flags & _IFF_UP), name, tuple(others))


def _other_names(properties: AttributeReader) -> list[bytes]:
    found = []
    while properties.next():
        if properties.type == _LinkAttribute.OTHER_NAME:
            found.append(properties.string())
    return found
