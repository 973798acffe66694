"""Decodes the headers below IP: from the start of a frame, or of a tunnel's payload, to the IP header.

Each step moves the cursor past one header and returns the ethertype of the next one. A number up to
:data:`LARGEST_LENGTH` is the length of an LLC frame, as in an Ethernet header.
"""

from __future__ import annotations

from collections.abc import Callable

from flowmap.wire.packets.cursor import Cursor, DecodeStop
from flowmap.wire.packets.names import describe_ethertype, describe_link, describe_llc, describe_ppp, describe_snap
from flowmap.wire.packets.numbers import (
    ARPHRD_NETLINK,
    FAMILY_IPV4,
    FAMILY_IPV6,
    LARGEST_LENGTH,
    LEAST_ETHERTYPE,
    OTHER_NAMES,
    STEPPED_OVER,
    EtherType,
    LinkType,
)
from flowmap.wire.packets.packets import Why

TAGS = 8
"""Largest number of VLAN tags and other headers before IP (real frames have up to four), and of MPLS labels."""

_IP = frozenset((int(EtherType.IPV4), int(EtherType.IPV6)))
_WRAPPED = frozenset((int(LinkType.PPI), int(LinkType.PKTAP)))
_NO_LABEL = 0x100  # MPLS: bottom of the stack
_PPP = {0x21: EtherType.IPV4, 0x57: EtherType.IPV6, 0x281: EtherType.MPLS, 0x283: EtherType.MPLS_MULTICAST}
_PPP_BRIDGED = 0x31  # RFC 3518
_SNAP, _LLC_IP = b"\xaa\xaa\x03", b"\x06\x06\x03"
_CISCO_HDLC = (0x0F00, 0x8F00)
_NLPID = {0xCC: EtherType.IPV4, 0x8E: EtherType.IPV6}
_NFLOG_HEADER, _NFLOG_PAYLOAD = 1, 9  # NFULA_PACKET_HDR, NFULA_PAYLOAD of linux/netfilter/nfnetlink_log.h
_ETH_P_802_2 = 4

_FIXED: dict[int, tuple[int, int]] = {
    # link type: bytes of its header, place of the ethertype in it
    LinkType.ETHERNET: (14, 12),
    LinkType.C_HDLC: (4, 2),
    LinkType.APPLE_IP_OVER_IEEE1394: (18, 16),
    LinkType.IPOIB: (44, 40),
}
_BEFORE_LLC: dict[int, int] = {LinkType.ATM_RFC1483: 0, LinkType.FDDI: 13, LinkType.IP_OVER_FC: 16}


def find_ip(cursor: Cursor, link_type: int) -> int:
    """Move ``cursor`` to the IP header of a frame. Returns EtherType.IPV4 or IPV6; raises DecodeStop without one."""
    return find_ip_behind(cursor, _link(cursor, unwrap(cursor, link_type)))


def find_ip_behind(cursor: Cursor, kind: int) -> int:
    """As :func:`find_ip`; the header at ``cursor`` has the ethertype ``kind``."""
    for _ in range(TAGS):
        if kind in _IP:
            return kind
        kind = _step(cursor, kind)
    raise DecodeStop("tags")


def ethernet(cursor: Cursor) -> int:
    """Skip an Ethernet header."""
    return _fixed(cursor, *_FIXED[LinkType.ETHERNET])


def unwrap(cursor: Cursor, link_type: int) -> int:
    """Skip a header that contains the link type of the next one (PPI, macOS' PKTAP); returns that link type."""
    if link_type not in _WRAPPED:
        return link_type
    least, place = (8, 4) if link_type == LinkType.PPI else (12, 8)
    cursor.need(least)
    size = cursor.u16le(2) if link_type == LinkType.PPI else cursor.u32le(0)
    if size < least:
        raise DecodeStop("length")
    cursor.need(size)
    link_type = cursor.u32le(place)
    cursor.at += size
    return link_type


def _link(cursor: Cursor, link_type: int) -> int:
    """Skip the header of a link type."""
    fixed = _FIXED.get(link_type)
    if fixed is not None:
        return _fixed(cursor, *fixed)
    if link_type in _BEFORE_LLC:
        _fixed(cursor, _BEFORE_LLC[link_type])
        return _llc(cursor)
    if link_type not in _LINKS:
        raise DecodeStop(describe_link(link_type), Why.LINK)
    return _LINKS[link_type](cursor, link_type)


def _fixed(cursor: Cursor, size: int, place: int = 0) -> int:
    cursor.need(size)
    kind = cursor.u16(place) if size else 0
    cursor.at += size
    return kind


def _raw(cursor: Cursor, link_type: int) -> int:
    cursor.need(1)
    return EtherType.IPV6 if cursor.u8(0) >> 4 == 6 else EtherType.IPV4


def _one_version(cursor: Cursor, link_type: int) -> int:
    return EtherType.IPV4 if link_type == LinkType.IPV4 else EtherType.IPV6


def _family(family: int) -> int:
    if family in FAMILY_IPV4:
        return EtherType.IPV4
    if family in FAMILY_IPV6:
        return EtherType.IPV6
    raise DecodeStop("address families that are not IP", Why.NOT_IP)


def _loopback(cursor: Cursor, link_type: int) -> int:
    size = 12 if link_type == LinkType.ENC else 4
    cursor.need(size)
    family = _family(cursor.u32(0))
    cursor.at += size
    return family


def _firewall(cursor: Cursor, link_type: int) -> int:
    """OpenBSD's pf: the header has its own length (without padding) and the address family."""
    cursor.need(2)
    size, family = cursor.u8(0), cursor.u8(1)
    cursor.need((size + 3) // 4 * 4)
    cursor.at += (size + 3) // 4 * 4
    return _family(family)


def _cooked(cursor: Cursor, link_type: int) -> int:
    size, protocol, hardware = (20, 0, 8) if link_type == LinkType.SLL2 else (16, 14, 2)
    cursor.need(size)
    kind, device = cursor.u16(protocol), cursor.u16(hardware)
    cursor.at += size
    if device == ARPHRD_NETLINK:
        raise DecodeStop("netlink messages", Why.NOT_IP)
    if kind == _ETH_P_802_2:
        return _llc(cursor)
    if kind < LEAST_ETHERTYPE:
        raise DecodeStop(describe_ethertype(kind), Why.NOT_IP)  # a number of Linux only, as for CAN
    return kind


def _nflog(cursor: Cursor, link_type: int) -> int:
    """Linux nfnetlink_log: attributes in host byte order; one of them is the packet."""
    cursor.need(4)
    kind = {2: EtherType.IPV4, 10: EtherType.IPV6}.get(cursor.u8(0), 0)
    cursor.at += 4
    while True:
        cursor.need(4)
        little = cursor.u8(2) != 0  # the low byte of the type is first: no type is larger than 255
        size, number = (cursor.u16le(0), cursor.u16le(2)) if little else (cursor.u16(0), cursor.u16(2))
        if size < 4:
            raise DecodeStop("length")
        if number == _NFLOG_PAYLOAD:
            cursor.limit(size, 4)
            cursor.at += 4
            break
        if number == _NFLOG_HEADER:
            cursor.need(6)
            kind = cursor.u16(4)
        cursor.need((size + 3) // 4 * 4)
        cursor.at += (size + 3) // 4 * 4
    return kind if kind >= LEAST_ETHERTYPE else _raw(cursor, link_type)


def _token_ring(cursor: Cursor, link_type: int) -> int:
    cursor.need(14)
    routed = cursor.u8(8) & 0x80  # IEEE 802.5: route information follows the addresses
    cursor.at += 14
    if routed:
        cursor.need(2)
        size = cursor.u8(0) & 0x1F
        cursor.need(size)
        cursor.at += size
    return _llc(cursor)


def _frame_relay(cursor: Cursor, link_type: int) -> int:
    """RFC 2427, or Cisco's format with an ethertype after the address."""
    cursor.need(4)
    if not cursor.u8(1) & 1:  # addresses of more than two bytes
        raise DecodeStop(describe_link(link_type), Why.LINK)
    if cursor.u8(2) != 3:
        return _fixed(cursor, 4, 2)
    cursor.at += 3 + (cursor.u8(3) == 0)  # a byte of padding
    cursor.need(1)
    kind = cursor.u8(0)
    if kind == 0x80:
        cursor.at -= 2  # SNAP's header follows as in LLC
        return _snap(cursor)
    cursor.at += 1
    if kind not in _NLPID:
        raise DecodeStop(f"frame relay NLPID {kind:#04x}", Why.UNREAD)
    return _NLPID[kind]


def _ppp_framed(cursor: Cursor, link_type: int) -> int:
    """PPP with HDLC-like framing, whose two bytes are optional (RFC 1661, 6.6), or Cisco's HDLC."""
    if link_type == LinkType.PPP_WITH_DIR:
        cursor.need(1)
        cursor.at += 1
    cursor.need(2)
    if cursor.u16(0) in _CISCO_HDLC:
        return _fixed(cursor, *_FIXED[LinkType.C_HDLC])
    cursor.at += 2 if cursor.u16(0) == 0xFF03 else 0
    return _ppp(cursor)


def _ppp(cursor: Cursor) -> int:
    cursor.need(1)
    short = cursor.u8(0) & 1  # RFC 1661, 6.5: the upper byte is 0 and was omitted
    cursor.need(2 - short)
    kind = cursor.u8(0) if short else cursor.u16(0)
    cursor.at += 2 - short
    if kind == _PPP_BRIDGED:
        cursor.need(2)
        flags, hardware = cursor.u8(0), cursor.u8(1)
        cursor.at += 2 + (4 if flags & 0x40 else 0)  # LAN identification
        if hardware == 1:
            return ethernet(cursor)
    if kind not in _PPP:
        raise DecodeStop(describe_ppp(kind), Why.UNREAD if kind < 0x8000 else Why.NOT_IP)
    return _PPP[kind]


def _step(cursor: Cursor, kind: int) -> int:
    """Skip the header with the ethertype ``kind``."""
    fixed = STEPPED_OVER.get(kind)
    if fixed is not None:
        return _fixed(cursor, *fixed)
    if kind <= LARGEST_LENGTH:
        cursor.limit(kind, 0)
        return _llc(cursor)
    if kind in (EtherType.MPLS, EtherType.MPLS_MULTICAST):
        return _mpls(cursor)
    if kind == EtherType.PPPOE:
        return _pppoe(cursor, 0)
    if kind == EtherType.CISCO_METADATA:
        cursor.need(2)
        size = 2 + 4 * cursor.u8(1)
        return _fixed(cursor, size + 2, size)
    raise DecodeStop(describe_ethertype(kind), Why.NOT_IP if kind in OTHER_NAMES else Why.UNREAD)


def _llc(cursor: Cursor) -> int:
    """LLC, with or without SNAP (RFC 1042); other protocols in LLC are not IP."""
    cursor.need(3)
    head = cursor.data[cursor.at : cursor.at + 3]
    if head == _LLC_IP:
        cursor.at += 3
        return EtherType.IPV4
    if head != _SNAP:
        raise DecodeStop(describe_llc(head[0]), Why.NOT_IP)
    return _snap(cursor)


def _snap(cursor: Cursor) -> int:
    cursor.need(8)
    vendor, kind = cursor.u8(3) << 16 | cursor.u16(4), cursor.u16(6)
    if vendor not in (0, 0xF8) or kind < LEAST_ETHERTYPE:
        raise DecodeStop(*describe_snap(vendor, kind))
    cursor.at += 8
    return kind


def _mpls(cursor: Cursor) -> int:
    """Skip MPLS labels, which do not contain the type of the payload.

    IP is recognised by its version. Ethernet (with or without the control word of RFC 4385) is recognised by an
    ethertype and an IP version in their places.
    """
    for _ in range(TAGS):
        cursor.need(4)
        bottom = cursor.u16(2) & _NO_LABEL
        cursor.at += 4
        if not bottom:
            continue
        cursor.need(1)
        version = cursor.u8(0) >> 4
        if version in (4, 6):
            return _raw(cursor, LinkType.RAW)
        for ahead in (4, 0) if version == 0 else (0,):
            if _is_ethernet(cursor, ahead):
                cursor.at += ahead
                return ethernet(cursor)
        raise DecodeStop("MPLS without IP inside", Why.UNREAD)
    raise DecodeStop("tags")


def _is_ethernet(cursor: Cursor, ahead: int) -> bool:
    """Whether there is an Ethernet header, followed by a tag or IP."""
    if not cursor.has(ahead + 15):
        return False
    kind = cursor.u16(ahead + 12)
    return kind in STEPPED_OVER or (kind, cursor.u8(ahead + 14) >> 4) in ((EtherType.IPV4, 4), (EtherType.IPV6, 6))


def _pppoe(cursor: Cursor, link_type: int) -> int:
    """RFC 2516, section 4."""
    cursor.need(6)
    if cursor.u16(0) != 0x1100:  # version 1, type 1, session data
        raise DecodeStop("PPPoE without session data", Why.NOT_IP)
    size = cursor.u16(4)
    cursor.at += 6
    cursor.limit(size, 0)
    return _ppp(cursor)


_LINKS: dict[int, Callable[[Cursor, int], int]] = {
    **dict.fromkeys((LinkType.RAW, LinkType.RAW_DLT), _raw),
    **dict.fromkeys((LinkType.IPV4, LinkType.IPV6), _one_version),
    **dict.fromkeys((LinkType.NULL, LinkType.LOOP, LinkType.ENC), _loopback),
    **dict.fromkeys((LinkType.PPP, LinkType.PPP_HDLC, LinkType.PPP_WITH_DIR), _ppp_framed),
    **dict.fromkeys((LinkType.SLL, LinkType.SLL2), _cooked),
    LinkType.PPP_ETHER: _pppoe,
    LinkType.PFLOG: _firewall,
    LinkType.NFLOG: _nflog,
    LinkType.TOKEN_RING: _token_ring,
    LinkType.FRAME_RELAY: _frame_relay,
}
