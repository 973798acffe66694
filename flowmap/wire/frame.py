"""One frame at a time: the general decoder, which says what is right.

The columnar decoder in :mod:`flowmap.wire.frames` does the same for the common shapes, many at a time.

Lengths are believed only as far as they fit: a packet cannot be longer than what was on the wire, nor a header longer
than the packet, and a host would drop what says so. A length of 0 is a frame larger than the field can say, made by
segmentation offload; then what was on the wire is the length.
"""

from __future__ import annotations

import struct

from flowmap.flows.address import V4_MAPPED
from flowmap.wire.frame_cursor import Cursor, Stop
from flowmap.wire.frame_numbers import (
    ARPHRD_NETLINK,
    EXTENSIONS,
    FAMILY_IPV4,
    FAMILY_IPV6,
    GENEVE_PORT,
    HEADER_NEEDS,
    IP_TUNNELS,
    LARGEST_LENGTH,
    LEAST_ETHERTYPE,
    OTHER_NAMES,
    SYN,
    VLAN_TAGS,
    VXLAN_PORTS,
    EtherType,
    LinkType,
    Protocol,
)
from flowmap.wire.packets import Mark, Packet, Skipped

TAGS = 8
"""VLAN tags and MPLS labels of one frame; real ones have up to four."""
EXTENSION_HEADERS = 8
"""IPv6 extension headers of one packet; each kind but one may come once (RFC 8200, section 4.1)."""
TUNNELS = 4
"""Tunnels inside each other that are opened."""

_IPV4 = struct.Struct("!BxHHHxB2xII")
_IPV6 = struct.Struct("!IHBxQQQQ")
_MORE, _OFFSET = 0x2000, 0x1FFF  # of an IPv4 fragment
_JUMBO = 0xC2  # RFC 2675, section 2
_NO_LABEL = 0x100  # MPLS: bottom of the stack
_PPP_IPV4, _PPP_IPV6 = 0x0021, 0x0057
_SNAP = b"\xaa\xaa\x03"


_Ends = tuple[int, int, int, int]


def decode_frame(frame: bytes, wire_length: int, link_type: int, *, inner: bool = False) -> Packet | Skipped:
    """The packet in ``frame`` (its captured bytes; ``wire_length`` were on the wire).

    ``inner``: a packet of a tunnel (IP in IP, GRE, VXLAN, Geneve) counts as the innermost packet instead, with its
    length. One that cannot be opened, or whose content is not a sound IP packet, or that comes in fragments, counts as
    itself and is marked.
    """
    cursor = Cursor(frame, 0, len(frame), max(wire_length, len(frame)))
    try:
        return _link(cursor, link_type, TUNNELS if inner else -1)
    except Stop as stop:
        return stop.skipped


def _link(cursor: Cursor, link_type: int, tunnels: int) -> Packet:
    if link_type == LinkType.ETHERNET:
        return _ethernet(cursor, tunnels)
    if link_type in (LinkType.RAW, LinkType.RAW_DLT):
        return _ip(cursor, tunnels)
    if link_type in (LinkType.IPV4, LinkType.IPV6):
        return (_ipv4 if link_type == LinkType.IPV4 else _ipv6)(cursor, tunnels)
    if link_type in (LinkType.NULL, LinkType.LOOP):
        return _loopback(cursor, tunnels)
    if link_type == LinkType.PPP:
        cursor.need(2)
        cursor.at += 2 if cursor.u16(0) == 0xFF03 else 0
        return _ppp(cursor, tunnels)
    if link_type in (LinkType.SLL, LinkType.SLL2):
        return _cooked(cursor, link_type == LinkType.SLL2, tunnels)
    raise Stop("link", malformed=False)


def _loopback(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(4)
    family = cursor.u32(0)
    cursor.at += 4
    if family in FAMILY_IPV4:
        return _ipv4(cursor, tunnels)
    if family in FAMILY_IPV6:
        return _ipv6(cursor, tunnels)
    raise Stop("family", malformed=False)


def _cooked(cursor: Cursor, second: bool, tunnels: int) -> Packet:
    size, protocol, hardware = (20, 0, 8) if second else (16, 14, 2)
    cursor.need(size)
    kind, device = cursor.u16(protocol), cursor.u16(hardware)
    cursor.at += size
    if device == ARPHRD_NETLINK:
        raise Stop("netlink", malformed=False)
    if kind < LEAST_ETHERTYPE:  # a number of Linux's own, like ETH_P_802_2
        raise Stop("llc", malformed=False)
    return _network(cursor, kind, tunnels)


def _ethernet(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(14)
    kind = cursor.u16(12)
    cursor.at += 14
    return _network(cursor, kind, tunnels)


def _network(cursor: Cursor, kind: int, tunnels: int) -> Packet:
    """What an ethertype stands before; tags and labels are stepped over."""
    for _ in range(TAGS):
        if kind == EtherType.IPV4:
            return _ipv4(cursor, tunnels)
        if kind == EtherType.IPV6:
            return _ipv6(cursor, tunnels)
        if kind in VLAN_TAGS:
            cursor.need(4)
            kind = cursor.u16(2)
            cursor.at += 4
        elif kind <= LARGEST_LENGTH:
            kind = _llc(cursor, kind)
        elif kind in (EtherType.MPLS, EtherType.MPLS_MULTICAST):
            return _mpls(cursor, tunnels)
        elif kind == EtherType.PPPOE:
            return _pppoe(cursor, tunnels)
        else:
            raise Stop(OTHER_NAMES.get(kind, "ethertype"), malformed=False)  # type: ignore[call-overload]
    raise Stop("tags")


def _llc(cursor: Cursor, length: int) -> int:
    """The ethertype behind an LLC and SNAP header (RFC 1042); anything else in LLC is not IP."""
    cursor.limit(length, 0)
    cursor.need(3)
    if cursor.data[cursor.at : cursor.at + 3] != _SNAP:
        raise Stop("llc", malformed=False)
    cursor.need(8)
    kind = cursor.u16(6)
    if cursor.u16(3) != 0 or cursor.u8(5) not in (0, 0xF8) or kind < LEAST_ETHERTYPE:
        raise Stop("llc", malformed=False)
    cursor.at += 8
    return kind


def _mpls(cursor: Cursor, tunnels: int) -> Packet:
    """Labels say nothing of what follows them: IP is told by its version, and anything else is not looked into."""
    for _ in range(TAGS):
        cursor.need(4)
        bottom = cursor.u16(2) & _NO_LABEL
        cursor.at += 4
        if bottom:
            cursor.need(1)
            if cursor.u8(0) >> 4 not in (4, 6):
                raise Stop("mpls", malformed=False)
            return _ip(cursor, tunnels)
    raise Stop("tags")


def _pppoe(cursor: Cursor, tunnels: int) -> Packet:
    """RFC 2516, section 4."""
    cursor.need(6)
    if cursor.u16(0) != 0x1100:  # version 1, type 1, session data
        raise Stop("ppp", malformed=False)
    size = cursor.u16(4)
    cursor.at += 6
    cursor.limit(size, 0)
    return _ppp(cursor, tunnels)


def _ppp(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(2)
    kind = cursor.u16(0)
    if kind not in (_PPP_IPV4, _PPP_IPV6):
        raise Stop("ppp", malformed=False)
    cursor.at += 2
    return (_ipv4 if kind == _PPP_IPV4 else _ipv6)(cursor, tunnels)


def _ip(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(1)
    return (_ipv6 if cursor.u8(0) >> 4 == 6 else _ipv4)(cursor, tunnels)


def _ipv4(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(20)
    first, total, number, fragment, protocol, source, destination = _IPV4.unpack_from(cursor.data, cursor.at)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < 20:
        raise Stop("version")
    total = total or cursor.wire - cursor.at
    cursor.limit(total, header)
    cursor.need(header)
    cursor.at += header
    marks = Mark(0)
    if fragment & (_MORE | _OFFSET):
        marks = Mark.FRAGMENT_LATER if fragment & _OFFSET else Mark.FRAGMENT_FIRST
    addresses = (0, V4_MAPPED | source, 0, V4_MAPPED | destination)
    return _transport(cursor, addresses, protocol, marks, total, number, tunnels)


def _ipv6(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(40)
    first, payload, protocol, *ends = _IPV6.unpack_from(cursor.data, cursor.at)
    if first >> 28 != 6:
        raise Stop("version")
    total = 40 + payload
    if payload == 0 and protocol != Protocol.NONE:
        total = cursor.wire - cursor.at
        if protocol == Protocol.HOP_BY_HOP:
            total = _jumbo(cursor.copy(40)) or total
    cursor.limit(total, 40)
    cursor.at += 40
    protocol, marks, number = _extensions(cursor, protocol)
    return _transport(cursor, (ends[0], ends[1], ends[2], ends[3]), protocol, marks, total, number, tunnels)


def _jumbo(cursor: Cursor) -> int:
    """The length that a jumbo payload option gives to the packet (RFC 2675); 0 without one."""
    cursor.need(8)
    stop = cursor.at + (cursor.u8(1) + 1) * 8
    cursor.at += 2
    while cursor.at < stop:
        cursor.need(1)
        kind, size = cursor.u8(0), 1
        if kind != 0:  # not a byte of padding
            cursor.need(2)
            size = 2 + cursor.u8(1)
        if kind == _JUMBO and size == 6:
            cursor.need(6)
            return 40 + cursor.u32(2)
        cursor.at += size
    return 0


def _extensions(cursor: Cursor, protocol: int) -> tuple[int, Mark, int]:
    """Step over extension headers: the protocol that follows, and what a fragment header says."""
    marks, number = Mark(0), 0
    for _ in range(EXTENSION_HEADERS):
        if protocol not in EXTENSIONS:
            return protocol, marks, number
        cursor.need(8)
        if protocol == Protocol.FRAGMENT:
            following, offset, number = cursor.u8(0), cursor.u16(2), cursor.u32(4)
            size = 8
            if offset & 0xFFF8:
                return following, Mark.FRAGMENT_LATER, number
            marks = Mark.FRAGMENT_FIRST if offset & 1 else marks
            number = number if marks else 0
        else:
            size = (cursor.u8(1) + 2) * 4 if protocol == Protocol.AUTHENTICATION else (cursor.u8(1) + 1) * 8
            following = cursor.u8(0)
        cursor.need(size)
        cursor.at += size
        protocol = following
    if protocol in EXTENSIONS:
        raise Stop("extensions")
    return protocol, marks, number


def _transport(
    cursor: Cursor, addresses: _Ends, protocol: int, marks: Mark, total: int, number: int, tunnels: int
) -> Packet:
    ports, flags = (0, 0), 0
    needs = 0 if marks & Mark.FRAGMENT_LATER else HEADER_NEEDS.get(protocol, 0)  # type: ignore[call-overload]
    if needs:
        cursor.need(needs)
        ports = cursor.u16(0), cursor.u16(2)
        flags = cursor.u8(13) if protocol == Protocol.TCP else 0
    sequence = cursor.u32(4) if flags & SYN else 0
    outer = Packet(*addresses, *ports, protocol, flags, marks, total, number if marks else 0, sequence)
    if tunnels < 0 or not (protocol in IP_TUNNELS or (protocol == Protocol.UDP and _is_tunnel_port(ports[1]))):
        return outer
    try:
        if marks:
            raise Stop("fragment")
        return _open(cursor, protocol, ports[1], tunnels)
    except Stop:
        return outer._replace(flags=marks | Mark.UNOPENED)


def _is_tunnel_port(port: int) -> bool:
    return port == GENEVE_PORT or port in VXLAN_PORTS


def _open(cursor: Cursor, protocol: int, port: int, tunnels: int) -> Packet:
    """The packet inside; ``cursor`` is at the tunnel's header."""
    if tunnels == 0:
        raise Stop("tunnels")
    tunnels -= 1
    if protocol == Protocol.IPV4:
        return _ipv4(cursor, tunnels)
    if protocol == Protocol.IPV6:
        return _ipv6(cursor, tunnels)
    if protocol == Protocol.GRE:
        return _bridged(cursor, _gre(cursor), tunnels)
    if port == GENEVE_PORT:
        return _bridged(cursor, _geneve(cursor), tunnels)
    cursor.need(16)
    if not cursor.u8(8) & 0x08:  # RFC 7348, section 5: the network identifier is valid
        raise Stop("vxlan")
    cursor.at += 16
    return _ethernet(cursor, tunnels)


def _bridged(cursor: Cursor, kind: int, tunnels: int) -> Packet:
    if kind == EtherType.BRIDGED:
        return _ethernet(cursor, tunnels)
    if kind < LEAST_ETHERTYPE:
        raise Stop("ethertype")
    return _network(cursor, kind, tunnels)


def _gre(cursor: Cursor) -> int:
    """RFC 2784 and 2890: what follows; checksum, key and sequence are stepped over."""
    cursor.need(4)
    flags, kind = cursor.u16(0), cursor.u16(2)
    if flags & 0x4007:  # RFC 1701's routing, or another version: PPTP's
        raise Stop("gre")
    size = 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000))
    cursor.need(size)
    cursor.at += size
    return kind


def _geneve(cursor: Cursor) -> int:
    """RFC 8926, section 3.4: what follows; options are stepped over. ``cursor`` is at the UDP header."""
    cursor.need(16)
    first, control, kind = cursor.u8(8), cursor.u8(9) & 0x80, cursor.u16(10)
    if first >> 6 or control:
        raise Stop("geneve")
    size = 16 + (first & 0x3F) * 4
    cursor.need(size)
    cursor.at += size
    return kind
