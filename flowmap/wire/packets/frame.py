"""Decodes one frame at a time: the reference for the columnar decoder.

:mod:`flowmap.wire.packets.frames` decodes the common shapes many at a time, with the same results.

Length fields are checked: a packet cannot be longer than the frame on the wire, nor a header longer than the packet.
Hosts drop such packets too. A length of 0 is a packet too large for the field, made by segmentation offload. Its length
is that of the frame on the wire.
"""

from __future__ import annotations

import struct

from flowmap.model.address import V4_MAPPED
from flowmap.wire.packets.cursor import Cursor, DecodeStop
from flowmap.wire.packets.link import ethernet, find_ip, find_ip_behind
from flowmap.wire.packets.numbers import (
    ACK,
    EXTENSIONS,
    GENEVE_PORT,
    HEADER_NEEDS,
    IP_TUNNELS,
    LEAST_ETHERTYPE,
    PORTS_NEED,
    RST,
    SYN,
    VXLAN_PORTS,
    EtherType,
    Protocol,
)
from flowmap.wire.packets.packets import Mark, Packet, Skipped

EXTENSION_HEADERS = 8
"""Largest number of IPv6 extension headers in a packet; each kind but one occurs once (RFC 8200, section 4.1)."""
TUNNELS = 4
"""Largest number of nested tunnels that are opened."""

_IPV4 = struct.Struct("!BxHHHxB2xII")
_IPV6 = struct.Struct("!IHBxQQQQ")
_MORE, _OFFSET = 0x2000, 0x1FFF  # of an IPv4 fragment
_JUMBO = 0xC2  # RFC 2675, section 2
_ERSPAN_HEADERS = {
    # ethertype and version: bytes of the header (draft-foschiano-erspan)
    (EtherType.ERSPAN, 1): 8,
    (EtherType.ERSPAN3, 2): 12,
}
_GRE_SEQUENCE = 0x1000

_Ends = tuple[int, int, int, int]


def decode_frame(frame: bytes, wire_length: int, link_type: int, *, inner: bool = False) -> Packet | Skipped:
    """The packet in ``frame`` (the captured bytes of ``wire_length`` bytes).

    ``inner``: decode a tunnel's packet (IP in IP, GRE with ERSPAN, VXLAN, Geneve) as the innermost packet, with its
    length. The tunnel's packet itself is returned, with a mark, if it is a fragment or has no valid IP packet inside.
    """
    cursor = Cursor(frame, 0, len(frame), max(wire_length, len(frame)))
    try:
        return _ip(cursor, find_ip(cursor, link_type), TUNNELS if inner else -1)
    except DecodeStop as stop:
        return stop.skipped


def _ip(cursor: Cursor, kind: int, tunnels: int) -> Packet:
    return (_ipv4 if kind == EtherType.IPV4 else _ipv6)(cursor, tunnels)


def _ipv4(cursor: Cursor, tunnels: int) -> Packet:
    cursor.need(20)
    first, total, number, fragment, protocol, source, destination = _IPV4.unpack_from(cursor.data, cursor.at)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < 20:
        raise DecodeStop("version")
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
        raise DecodeStop("version")
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
    """The length of the packet in a jumbo payload option (RFC 2675); 0 without one."""
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
    """Skip extension headers: returns the protocol after them, and mark and id from a fragment header."""
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
        raise DecodeStop("extensions")
    return protocol, marks, number


def _transport(
    cursor: Cursor, addresses: _Ends, protocol: int, marks: Mark, total: int, number: int, tunnels: int
) -> Packet:
    ports, flags = (0, 0), 0
    needs = 0 if marks & Mark.FRAGMENT_LATER else HEADER_NEEDS.get(protocol, 0)
    whole = protocol != Protocol.TCP or not needs or not cursor.ends_before(needs, fragment=bool(marks))
    if needs:
        cursor.need(needs if whole else PORTS_NEED)
        ports = cursor.u16(0), cursor.u16(2)
        flags = cursor.u8(13) if protocol == Protocol.TCP and whole else 0
    sequence = _opener_sequence(cursor, flags) if flags & (SYN | RST) else 0
    number = number if marks else 0
    if not whole:
        marks |= Mark.FLAGS_UNKNOWN
        sequence = cursor.u32(4) if cursor.has(8) else 0
    outer = Packet(*addresses, *ports, protocol, flags, marks, total, number, sequence)
    if tunnels < 0 or not (protocol in IP_TUNNELS or (protocol == Protocol.UDP and _is_tunnel_port(ports[1]))):
        return outer
    try:
        if marks:
            raise DecodeStop("fragment")
        return _open(cursor, protocol, ports[1], tunnels)
    except DecodeStop:
        return outer._replace(flags=marks | Mark.UNOPENED)


def _opener_sequence(cursor: Cursor, flags: int) -> int:
    """See the column ``sequence`` of :data:`flowmap.wire.packets.packets.COLUMNS`; ``cursor`` is at a TCP header."""
    number, acknowledged = cursor.u32(4), cursor.u32(8)
    if not flags & ACK:
        return number if flags & SYN else 0
    return acknowledged - 1 if acknowledged and (flags & SYN or not number) else 0


def _is_tunnel_port(port: int) -> bool:
    return port == GENEVE_PORT or port in VXLAN_PORTS


def _open(cursor: Cursor, protocol: int, port: int, tunnels: int) -> Packet:
    """The packet inside a tunnel; ``cursor`` is at the tunnel's header."""
    if tunnels == 0:
        raise DecodeStop("tunnels")
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
        raise DecodeStop("vxlan")
    cursor.at += 16
    return _bridged(cursor, EtherType.BRIDGED, tunnels)


def _bridged(cursor: Cursor, kind: int, tunnels: int) -> Packet:
    if kind < LEAST_ETHERTYPE:
        raise DecodeStop("version")
    kind = ethernet(cursor) if kind == EtherType.BRIDGED else kind
    return _ip(cursor, find_ip_behind(cursor, kind), tunnels)


def _gre(cursor: Cursor) -> int:
    """Skip a GRE header with checksum, key and sequence number (RFC 2784, 2890); returns the type after it."""
    cursor.need(4)
    flags, kind = cursor.u16(0), cursor.u16(2)
    if flags & 0x4007:  # RFC 1701's routing, or another version: PPTP's
        raise DecodeStop("gre")
    size = 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000))
    cursor.need(size)
    cursor.at += size
    if kind in (EtherType.ERSPAN, EtherType.ERSPAN3):
        return _erspan(cursor, kind, flags & _GRE_SEQUENCE)
    return kind


def _erspan(cursor: Cursor, kind: int, numbered: int) -> int:
    """Skip Cisco's ERSPAN header: type I has no header and no sequence number, types II and III have both."""
    if numbered or kind == EtherType.ERSPAN3:
        cursor.need(1)
        size = _ERSPAN_HEADERS.get((EtherType(kind), cursor.u8(0) >> 4), 0)
        if not size:
            raise DecodeStop("version")
        cursor.need(size)
        if kind == EtherType.ERSPAN3:
            if cursor.u8(10) & 0x7C:  # not an Ethernet frame
                raise DecodeStop("version")
            size += 8 if cursor.u8(11) & 1 else 0  # a subheader of the platform
            cursor.need(size)
        cursor.at += size
    return EtherType.BRIDGED


def _geneve(cursor: Cursor) -> int:
    """Skip the UDP header and a Geneve header with options (RFC 8926, section 3.4); returns the type after it."""
    cursor.need(16)
    first, control, kind = cursor.u8(8), cursor.u8(9) & 0x80, cursor.u16(10)
    if first >> 6 or control:
        raise DecodeStop("geneve")
    size = 16 + (first & 0x3F) * 4
    cursor.need(size)
    cursor.at += size
    return kind
