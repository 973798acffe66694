"""Frames to packets: rows, and that columns, the general decoder and scapy agree on any frame."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.wire.packets.frame import TUNNELS, decode_frame
from flowmap.wire.packets.frames import DecodedFrames, Tunnels, decode_frames
from flowmap.wire.packets.numbers import EtherType, LinkType
from flowmap.wire.packets.packets import MALFORMED, Mark, Packet, Skipped, Why
from tests.support.made_frames import ERSPAN, TAGS, Made, frames
from tests.support.plain_frames import EXAMPLES, TCP, UDP, ether, ipv4, ipv6, row, row6
from tests.support.scapy_oracle import Named, names

JUNK = bytes(range(256))
MODES: tuple[Tunnels, Tunnels] = ("outer", "inner")


def decode(
    parts: list[tuple[bytes, int]], link_type: int, tunnels: Tunnels = "outer", between: bytes = b""
) -> DecodedFrames:
    """All frames in one buffer, with ``between`` around each."""
    data, starts = b"", []
    for frame, _ in parts:
        data += between
        starts.append(len(data))
        data += frame
    captured = [len(frame) for frame, _ in parts]
    return decode_frames(data + between, starts, captured, [wire for _, wire in parts], link_type, tunnels=tunnels)


def check(parts: list[tuple[bytes, int]], link_type: int, tunnels: Tunnels = "outer") -> list[Packet | Skipped]:
    """Columns give what the general decoder gives, and nothing around a frame has a part in it."""
    expected = [decode_frame(frame, wire, link_type, inner=tunnels == "inner") for frame, wire in parts]
    packets = {number: found for number, found in enumerate(expected) if isinstance(found, Packet)}
    skipped = [found for found in expected if isinstance(found, Skipped)]
    for between in (b"", JUNK):
        found = decode(parts, link_type, tunnels, between)
        assert found.index.tolist() == list(packets)
        assert found.packets.rows() == list(packets.values())
        for whys, counts in (
            ({Why.MALFORMED}, found.malformed),
            ({Why.UNREAD, Why.LINK}, found.unread),
            ({Why.NOT_IP}, found.other),
        ):
            reasons = [reason for why, reason in skipped if why in whys]
            assert counts == {reason: reasons.count(reason) for reason in reasons}
        assert found.malformed.keys() <= MALFORMED.keys()
    return expected


@given(frames())
@settings(max_examples=EXAMPLES, deadline=None)
def test_sound_frames_give_the_packet_they_were_made_of(made: Made) -> None:
    size = len(made.frame)
    assert check([(made.frame, size)], made.link_type) == [made.levels[0]]
    deepest = made.levels[-1]
    if len(made.levels) > TUNNELS + 1:
        deepest = made.levels[TUNNELS]._replace(flags=Mark.UNOPENED)
    assert check([(made.frame, size)], made.link_type, "inner") == [deepest]


@given(frames())
@settings(max_examples=EXAMPLES // 5, deadline=None)
def test_cut_at_every_byte(made: Made) -> None:
    """As a snap length cuts, and as a wire does: the packet, or what is missing; never another packet."""
    size = len(made.frame)
    for tunnels in MODES:
        whole = {*made.levels, *(level._replace(flags=level.flags | Mark.UNOPENED) for level in made.levels)}
        whole |= {level._replace(tcp_flags=0, sequence=0, flags=level.flags | Mark.FLAGS_UNKNOWN) for level in whole}
        for found in check([(made.frame[:n], size) for n in range(size)], made.link_type, tunnels):
            assert without_sequence(found) in whole or found in (broken("snapped"), LABELLED)
        for found in check([(made.frame[:n], n) for n in range(size)], made.link_type, tunnels):
            cut = isinstance(found, Skipped) and found.reason in ("runt", "length", "wire_length")
            assert without_sequence(found) in whole or cut or found == LABELLED


def without_sequence(found: Packet | Skipped) -> Packet | Skipped:
    """Of a packet whose flags are not known, the sequence number is there or not."""
    unknown = isinstance(found, Packet) and found.flags & Mark.FLAGS_UNKNOWN
    return found._replace(sequence=0) if unknown and isinstance(found, Packet) else found


def same_flow(found: Packet, named: Named) -> bool:
    ports = (found.source_port, found.destination_port)
    return (
        tuple(found[:4]) == named.ends
        and found.protocol == named.protocol
        and found.length in named.lengths
        and (named.ports is None or ports == named.ports)
    )


CHANGES = st.lists(st.tuples(st.integers(0, 160), st.integers(0, 255)), min_size=1, max_size=3)


@given(
    frames(scapy=True),
    st.lists(st.tuples(CHANGES, st.integers(0, 1500), st.sampled_from([0, 0, 0, 7])), min_size=4, max_size=14),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_scapy_names_the_same_flow_and_length_or_ours_says_malformed(
    made: Made, changes: list[tuple[list[tuple[int, int]], int, int]]
) -> None:
    parts = []
    for places, cut, more in changes:
        changed = bytearray(made.frame)
        for at, value in places:
            changed[at % len(changed)] = value
        parts.append((bytes(changed[: max(cut, 60)]), len(changed) + more))
    compare(parts, made.link_type)


def compare(parts: list[tuple[bytes, int]], link_type: int) -> None:
    outer, inner = (check(parts, link_type, tunnels) for tunnels in MODES)
    for (frame, wire), ours, opened in zip(parts, outer, inner, strict=True):
        if not isinstance(ours, Packet):
            assert isinstance(opened, Skipped)
            continue
        assert isinstance(opened, Packet)
        scapys = names(frame, wire, link_type)
        if (not scapys or not any(same_flow(opened, named) for named in scapys)) and beyond_scapy(frame, link_type):
            continue  # the changed bytes made it something that scapy does not know; tshark does
        assert scapys, (ours, frame.hex())
        assert same_flow(ours, scapys[0]), (ours, scapys, frame.hex())
        assert any(same_flow(opened, named) for named in scapys), (opened, scapys, frame.hex())


def beyond_scapy(frame: bytes, link_type: int) -> bool:
    kinds = (*TAGS, EtherType.ERSPAN, EtherType.ERSPAN3)
    return link_type == LinkType.PPP or b"\6\6\3" in frame or any(kind.to_bytes(2) in frame for kind in kinds)


def broken(reason: str) -> Skipped:
    return Skipped(Why.MALFORMED, reason)


def other(reason: str) -> Skipped:
    return Skipped(Why.NOT_IP, reason)


def unread(reason: str) -> Skipped:
    return Skipped(Why.UNREAD, reason)


LABELLED = unread("MPLS without IP inside")
JUMBO = bytes([6, 0, 0xC2, 4]) + (70_000 + 8).to_bytes(4)
VLAN = b"\x00\x05"

FRAMES: list[tuple[str, bytes, int, int, Packet | Skipped]] = [
    # name, captured, on the wire (0: as captured), link type, result
    ("padding is not the packet's", ether(0x800, ipv4(TCP) + bytes(6)), 0, 1, row(40)),
    ("what a snap length cut counts", ether(0x800, ipv4(TCP, total=1500)), 1514, 1, row(1500)),
    ("no length: segmentation offload", ether(0x800, ipv4(TCP, total=0)), 65_550 + 14, 1, row(65_550)),
    ("no length, IPv6", ether(0x86DD, ipv6(TCP, size=0)), 70_014, 1, row6(70_000)),
    ("jumbo payload", ether(0x86DD, ipv6(JUMBO + TCP, 0, size=0)), 70_062, 1, row6(70_048)),
    ("jumbo larger than the wire", ether(0x86DD, ipv6(JUMBO + TCP, 0, size=0)), 70_061, 1, broken("length")),
    ("longer than the wire", ether(0x800, ipv4(TCP, total=41)), 0, 1, broken("wire_length")),
    ("shorter than its header", ether(0x800, ipv4(TCP, total=19)), 0, 1, broken("length")),
    ("header shorter than a header", ether(0x800, ipv4(TCP, first=0x44)), 0, 1, broken("version")),
    ("header longer than the packet", ether(0x800, ipv4(TCP, first=0x4F)), 0, 1, broken("length")),
    ("IPv6 said to be IPv4", ether(0x800, ipv6(TCP)), 0, 1, broken("version")),
    ("IPv4 said to be IPv6", ether(0x86DD, ipv4(TCP + bytes(20))), 0, 1, broken("version")),
    ("longer than the wire, IPv6", ether(0x86DD, ipv6(TCP, size=21)), 0, 1, broken("wire_length")),
    ("ends before its ports", ether(0x800, ipv4(TCP[:13])), 0, 1, broken("runt")),
    ("runt", bytes(13), 0, 1, broken("runt")),
    ("nothing", b"", 0, 1, broken("runt")),
    ("nothing kept", b"", 60, 1, broken("snapped")),
    ("cut before the flags", ether(0x800, ipv4(TCP[:13], total=40)), 54, 1,
     row(40, tcp_flags=0, flags=8, sequence=1)),
    ("cut behind the ports", ether(0x800, ipv4(TCP[:4], total=40)), 54, 1, row(40, tcp_flags=0, flags=8)),
    ("cut before the ports", ether(0x800, ipv4(TCP[:3], total=40)), 54, 1, broken("snapped")),
    ("cut before the ports of UDP", ether(0x800, ipv4(UDP[:3], 17, total=28)), 42, 1, broken("snapped")),
    ("first fragment without flags", ether(0x800, ipv4(TCP[:8], fragment=0x2000)), 0, 1,
     row(28, tcp_flags=0, flags=9, fragment_id=7, sequence=1)),
    ("first fragment without ports", ether(0x800, ipv4(TCP[:3], fragment=0x2000)), 0, 1, broken("runt")),
    ("first fragment", ether(0x800, ipv4(UDP, 17, fragment=0x2000)), 0, 1,
     row(28, protocol=17, ports=(40000, 53), flags=1, fragment_id=7)),
    ("later fragment", ether(0x800, ipv4(b"data", 17, fragment=0x0001)), 0, 1,
     row(24, protocol=17, ports=(0, 0), flags=2, fragment_id=7)),
    ("not to be fragmented", ether(0x800, ipv4(TCP, fragment=0x4000)), 0, 1, row(40)),
    ("ICMP has no ports", ether(0x800, ipv4(bytes(8), 1)), 0, 1, row(28, protocol=1, ports=(0, 0))),
    ("seven tags", ether(0x8100, (VLAN + b"\x81\x00") * 6 + VLAN + b"\x08\x00" + ipv4(TCP)), 0, 1, row(40)),
    ("eight tags", ether(0x8100, (VLAN + b"\x81\x00") * 7 + VLAN + b"\x08\x00" + ipv4(TCP)), 0, 1, broken("tags")),
    ("labels without end", ether(0x8847, bytes(40)), 0, 1, broken("tags")),
    ("a label before what is not IP", ether(0x8847, b"\0\0\x11\xff" + bytes(40)), 0, 1, LABELLED),
    ("extension headers without end", ether(0x86DD, ipv6(b"\x3c\0" * 80, 60)), 0, 1, broken("extensions")),
    ("ARP", ether(0x806, bytes(28)), 0, 1, other("ARP (ethertype 0x0806)")),
    ("behind a tag", ether(0x8100, VLAN + b"\x08\x06" + bytes(28)), 0, 1, other("ARP (ethertype 0x0806)")),
    ("LLDP", ether(0x88CC, bytes(28)), 0, 1, other("LLDP (ethertype 0x88cc)")),
    ("unknown", ether(0x1234, bytes(28)), 0, 1, unread("ethertype 0x1234")),
    ("neither length nor type", ether(0x5E0, bytes(28)), 0, 1, unread("ethertype 0x05e0")),
    ("spanning tree", ether(38, b"\x42\x42\x03" + bytes(43)), 0, 1, other("STP (LLC DSAP 0x42)")),
    ("LLC longer than the wire", ether(47, b"\xaa\xaa\x03" + bytes(43)), 0, 1, broken("wire_length")),
    ("discovery", ether(0x8863, bytes(28)), 0, 1, other("PPPoE discovery (ethertype 0x8863)")),
    ("PPP control", ether(0x8864, b"\x11\0\0\1\0\6\xc0\x21\1\1\0\4"), 0, 1, other("LCP (PPP protocol 0xc021)")),
    ("PPPoE longer than the wire", ether(0x8864, b"\x11\0\0\1\0\x2b\0\x21" + ipv4(TCP)), 0, 1, broken("wire_length")),
    ("raw", ipv4(TCP), 0, 101, row(40)),
    ("raw without IP", b"\x10" + bytes(60), 0, 101, broken("version")),
    ("loopback of another family", (16).to_bytes(4) + ipv4(TCP), 0, 108, other("address families that are not IP")),
    ("cooked netlink", bytes(2) + (824).to_bytes(2) + bytes(10) + b"\x08\x00" + ipv4(TCP), 0, 113,
     other("netlink messages")),
    ("cooked LLC", bytes(14) + b"\0\4" + b"\x42\x42\3" + bytes(30), 0, 113, other("STP (LLC DSAP 0x42)")),
    ("radio", bytes(60), 0, 127, Skipped(Why.LINK, "link type 127 (IEEE802_11_RADIOTAP)")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "frame", "wire", "link_type", "expected"), FRAMES, ids=[row[0] for row in FRAMES])
def test_rows(name: str, frame: bytes, wire: int, link_type: int, expected: Packet | Skipped) -> None:
    assert check([(frame, wire or len(frame))] * 2, link_type) == [expected] * 2


def test_rows_of_one_link_type_together() -> None:
    """What one frame is decided nothing about its neighbours."""
    rows = [row for row in FRAMES if row[3] == 1]
    assert check([(row[1], row[2] or len(row[1])) for row in rows], 1) == [row[4] for row in rows]


def test_common_shapes_need_no_general_decoder() -> None:
    vxlan = ether(0x800, ipv4(struct.pack("!HHHH", 1, 4789, 0, 0) + b"\x08" + bytes(7) + ether(0x800, ipv4(TCP)), 17))
    plain = [
        row[1] for row in FRAMES if row[0] in ("padding is not the packet's", "first fragment", "seven tags", "ARP")
    ]
    mirrored = [ether(0x800, ipv4(head + ether(0x800, ipv4(TCP)), 47)) for head in ERSPAN[:2]]
    parts = [(frame, len(frame)) for frame in (*plain, ether(0x86DD, ipv6(TCP)), vxlan, *mirrored)]
    assert decode(parts, 1, "inner").general == 0


def test_starts_and_sizes_that_are_not_in_the_buffer() -> None:
    frame = ether(0x800, ipv4(TCP))
    found = decode_frames(frame, [0, 0, 20, 54, 99], [54, 999, 999, 5, 5], [54, 54, 0, 5, 5], 1)
    assert found.index.tolist() == [0, 1]
    assert sum(found.malformed.values()) + sum(found.other.values()) == 3


def test_no_frames() -> None:
    found = decode_frames(b"", np.zeros(0), np.zeros(0), np.zeros(0), 1)
    assert (len(found.packets), found.malformed) == (0, {})


def test_no_packet_of_an_inner_frame_that_is_not_ip() -> None:
    """The tunnel's own flow counts it, whole."""
    for inside in (ether(0x806, bytes(28)), ether(0x800, ipv4(TCP, total=2000)), b"hello"):
        payload = struct.pack("!HHHH", 1, 4789, 0, 0) + b"\x08" + bytes(7) + inside
        expected = row(20 + len(payload), protocol=17, ports=(1, 4789), flags=int(Mark.UNOPENED))
        assert check([(ether(0x800, ipv4(payload, 17)), 999)], 1, "inner") == [expected]


def test_a_tunnel_s_packet_in_fragments_is_not_opened() -> None:
    """Only the first has the header of the packet inside, and none has all of it."""
    payload = struct.pack("!HHHH", 1, 4789, 0, 0) + b"\x08" + bytes(7) + ether(0x800, ipv4(TCP))
    marks = int(Mark.UNOPENED | Mark.FRAGMENT_FIRST)
    expected = row(20 + len(payload), protocol=17, ports=(1, 4789), flags=marks, fragment_id=7)
    assert check([(ether(0x800, ipv4(payload, 17, fragment=0x2000)), 999)], 1, "inner") == [expected]
