"""Headers below IP: each is skipped, and one that leads to no IP stops with its name."""

from __future__ import annotations

import struct

import pytest

from flowmap.wire.packets.cursor import Cursor, DecodeStop
from flowmap.wire.packets.link import TAGS, find_ip, unwrap
from flowmap.wire.packets.numbers import EtherType, LinkType
from flowmap.wire.packets.packets import Skipped, Why

V4, V6 = b"\x45" + bytes(19), b"\x60" + bytes(39)
SNAP = b"\xaa\xaa\x03\0\0\0"
MAC = bytes(12)


def kind(number: int) -> bytes:
    return struct.pack("!H", number)


@pytest.mark.parametrize(
    ("link_type", "header", "packet"),
    [
        (LinkType.ETHERNET, MAC + kind(0x800), V4),
        (LinkType.ETHERNET, MAC + kind(0x8100) + b"\0\7" + kind(0x86DD), V6),
        (LinkType.ETHERNET, MAC + kind(0x8847) + b"\0\1\x01\x40", V4),
        (LinkType.ETHERNET, MAC + kind(0x8847) + b"\0\1\x00\x40" + b"\0\2\x01\x40", V6),
        (LinkType.ETHERNET, MAC + kind(0x8847) + b"\0\1\x01\x40" + bytes(4) + MAC + kind(0x800), V4),
        (LinkType.ETHERNET, MAC + kind(0x8864) + b"\x11\0\0\1\0\x16" + kind(0x21), V4),
        (LinkType.ETHERNET, MAC + kind(28) + SNAP + kind(0x800), V4),
        (LinkType.ETHERNET, MAC + kind(0x8909) + b"\1\1\0\0\0\0" + kind(0x800), V4),
        (LinkType.RAW, b"", V6),
        (LinkType.NULL, b"\2\0\0\0", V4),
        (LinkType.LOOP, b"\0\0\0\x18", V6),
        (LinkType.SLL, bytes(14) + kind(0x800), V4),
        (LinkType.SLL2, kind(0x86DD) + bytes(18), V6),
        (LinkType.PPP, b"\xff\x03\x21", V4),
        (LinkType.PPP, b"\0\x57", V6),
        (LinkType.PPP_WITH_DIR, b"\0\x0f\0" + kind(0x800), V4),
        (LinkType.C_HDLC, b"\x0f\0" + kind(0x800), V4),
        (LinkType.FRAME_RELAY, b"\x18\x41\x03\xcc", V4),
        (LinkType.FRAME_RELAY, b"\x18\x41" + kind(0x800), V4),
        (LinkType.TOKEN_RING, bytes(14) + SNAP + kind(0x800), V4),
        (LinkType.TOKEN_RING, bytes(8) + b"\x80" + bytes(5) + b"\x04\0\0\0" + SNAP + kind(0x800), V4),
        (LinkType.FDDI, bytes(13) + SNAP + kind(0x800), V4),
        (LinkType.PFLOG, b"\x05\2" + bytes(6), V4),
        (LinkType.ENC, b"\2\0\0\0" + bytes(8), V4),
        (LinkType.IPOIB, bytes(40) + kind(0x800) + bytes(2), V4),
        (LinkType.NFLOG, b"\2\0\0\0" + b"\x05\0\x0a\0x\0\0\0" + b"\x18\0\x09\0", V4),
        (LinkType.PPI, struct.pack("<BBHI", 0, 0, 8, LinkType.ETHERNET) + MAC + kind(0x800), V4),
    ],
)
def test_the_ip_header_is_found(link_type: LinkType, header: bytes, packet: bytes) -> None:
    frame = header + packet
    cursor = Cursor(frame, 0, len(frame), len(frame))
    assert find_ip(cursor, link_type) == (EtherType.IPV4 if packet is V4 else EtherType.IPV6)
    assert frame[cursor.at :] == packet
    for size in range(len(header)):  # never beyond what was captured
        with pytest.raises(DecodeStop):
            find_ip(Cursor(frame, 0, size, len(frame)), link_type)


@pytest.mark.parametrize(
    ("link_type", "frame", "skipped"),
    [
        (LinkType.ETHERNET, MAC + kind(0x0806) + V4, Skipped(Why.NOT_IP, "ARP (ethertype 0x0806)")),
        (LinkType.ETHERNET, MAC + kind(0x88E5) + V4, Skipped(Why.UNREAD, "MACsec (ethertype 0x88e5)")),
        (LinkType.ETHERNET, MAC + (kind(0x8100) + b"\0\7") * TAGS + kind(0x800) + V4, Skipped(Why.MALFORMED, "tags")),
        (
            LinkType.ETHERNET,
            MAC + kind(0x8847) + b"\0\1\x01\x40" + b"\x10" * 20,
            Skipped(Why.UNREAD, "MPLS without IP inside"),
        ),
        (
            LinkType.ETHERNET,
            MAC + kind(0x8864) + b"\x11\7\0\1\0\x16" + V4,
            Skipped(Why.NOT_IP, "PPPoE without session data"),
        ),
        (LinkType.SLL, b"\0\0\3\x38" + bytes(12) + V4, Skipped(Why.NOT_IP, "netlink messages")),
        (LinkType.NULL, b"\7\0\0\0" + V4, Skipped(Why.NOT_IP, "address families that are not IP")),
        (LinkType.PPP, b"\xff\x03\xc0\x21" + V4, Skipped(Why.NOT_IP, "LCP (PPP protocol 0xc021)")),
        (999, V4, Skipped(Why.LINK, "link type 999")),
        (LinkType.PPI, struct.pack("<BBHI", 0, 0, 4, 1) + V4, Skipped(Why.MALFORMED, "length")),
    ],
)
def test_frames_without_ip_stop_with_a_name(link_type: int, frame: bytes, skipped: Skipped) -> None:
    with pytest.raises(DecodeStop) as stop:
        find_ip(Cursor(frame, 0, len(frame), len(frame)), link_type)
    assert stop.value.skipped == skipped


def test_unwrap_leaves_other_link_types_alone() -> None:
    cursor = Cursor(V4, 0, len(V4), len(V4))
    assert (unwrap(cursor, LinkType.RAW), cursor.at) == (LinkType.RAW, 0)
