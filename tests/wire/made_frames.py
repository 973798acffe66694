"""Frames made with scapy from drawn parts, with the packet that each part says must come out."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from flowmap.flows.address import Address
from flowmap.wire.frame_numbers import LinkType
from flowmap.wire.packets import Mark, Packet
from tests.wire.scapy_layers import MPLS, Raw, inet, inet6, ipsec, l2, ppp, raw, sctp, vxlan


class Made(NamedTuple):
    """A frame that is sound."""

    frame: bytes
    link_type: int
    levels: tuple[Packet, ...]
    """The packets inside each other, the outermost first."""


class Part(NamedTuple):
    """An IP packet."""

    layers: Any
    levels: tuple[Packet, ...]


PORTED = (6, 17, 33, 132, 136)
MAC = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
PORT = st.one_of(st.sampled_from([53, 80, 443, 9092]), st.integers(1, 4000))
V4 = st.integers(0x0A00_0000, 0x0AFF_FFFF).map(lambda n: str(Address(0, 0xFFFF_0000_0000 | n)))
V6 = st.integers(0, 1 << 64).map(lambda n: f"2001:db8::{n & 0xFFFF:x}:{n >> 16 & 0xFFFF:x}")


@st.composite
def transports(draw: st.DrawFn, version: int) -> tuple[Any, int, int, int, int]:
    """Layers, protocol, both ports, TCP flags."""
    payload = Raw(draw(st.binary(max_size=40)))
    source, target = draw(PORT), draw(PORT)
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "sctp", "icmp", "other", "dccp"]))
    if kind == "tcp":
        flags = draw(st.integers(0, 255))
        options = draw(st.sampled_from([[], [("NOP", None)] * 12, [("MSS", 1460)]]))
        return inet.TCP(sport=source, dport=target, flags=flags, options=options) / payload, 6, source, target, flags
    if kind == "udp":
        return inet.UDP(sport=source, dport=target) / payload, 17, source, target, 0
    if kind == "sctp":
        return sctp.SCTP(sport=source, dport=target) / sctp.SCTPChunkData(data=b"x"), 132, source, target, 0
    if kind == "icmp":
        echo = inet.ICMP() if version == 4 else inet6.ICMPv6EchoRequest()
        return echo / payload, 1 if version == 4 else 58, 0, 0, 0
    protocol = draw(st.sampled_from([2, 50, 89, 103, 253])) if kind == "other" else 33
    ports = (source, target) if protocol == 33 else (0, 0)
    head = source.to_bytes(2) + target.to_bytes(2)
    return Raw(head + draw(st.binary(min_size=12, max_size=40))), protocol, *ports, 0


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[Mark, int, int]:
    """Marks, offset in units of 8, number."""
    mark = draw(st.sampled_from([Mark(0), Mark(0), Mark(0), Mark.FRAGMENT_FIRST, Mark.FRAGMENT_LATER]))
    return mark, draw(st.integers(1, 8000)) if mark == Mark.FRAGMENT_LATER else 0, draw(st.integers(1, 65535))


def packet_of(version: int, ends: tuple[str, str], fragment: tuple[Mark, int, int], rest: tuple[int, ...]) -> Packet:
    """What a packet with these ends, marks, and (protocol, ports, flags, length) is as a row."""
    (mark, _, number), (protocol, source, target, flags, length) = fragment, rest
    if mark == Mark.FRAGMENT_LATER:
        source = target = flags = 0
    one, other = (Address.parse(end) for end in ends)
    return Packet(*one, *other, source, target, protocol, flags, mark, length, number if mark else 0)


@st.composite
def plain(draw: st.DrawFn) -> Part:
    """IPv4 or IPv6 with anything but a tunnel in it."""
    version = draw(st.sampled_from([4, 4, 6]))
    transport = draw(transports(version))
    return draw(around(version, transport, draw(fragmented())))


@st.composite
def around(
    draw: st.DrawFn, version: int, transport: tuple[Any, int, int, int, int], fragment: tuple[Mark, int, int]
) -> Part:
    layers, protocol, *numbers = transport
    mark, offset, number = fragment
    ends = draw(V4 if version == 4 else V6), draw(V4 if version == 4 else V6)
    if version == 4:
        options = draw(st.sampled_from([b"", b"", b"\x01" * 4, b"\x94\x04\x00\x00", b"\x01" * 40]))
        more = mark == Mark.FRAGMENT_FIRST or (mark and draw(st.booleans()))
        head = inet.IP(
            src=ends[0], dst=ends[1], frag=offset, flags="MF" if more else "DF" if not mark else 0, id=number
        )
        head.options = inet.IPOption(options) if options else []
        head.proto = protocol
    else:
        head = inet6.IPv6(src=ends[0], dst=ends[1])
        kinds = draw(st.lists(st.sampled_from(EXTENSIONS), max_size=3, unique=True))
        if mark:
            kinds.append(lambda nh: inet6.IPv6ExtHdrFragment(nh=nh, offset=offset, m=mark == 1, id=number))
        chain, following = None, protocol
        for kind in reversed(kinds):
            layer = kind(following)
            chain, following = layer if chain is None else layer / chain, NUMBERS[type(layer)]
        head.nh = following
        head = head if chain is None else head / chain
    whole = head / Raw(raw(layers))
    row = packet_of(version, ends, fragment, (protocol, *numbers, len(raw(whole))))
    return Part(whole, (row,))


EXTENSIONS = (
    lambda nh: inet6.IPv6ExtHdrHopByHop(nh=nh),
    lambda nh: inet6.IPv6ExtHdrDestOpt(nh=nh, options=[inet6.PadN(optdata=b"\0" * 12)]),
    lambda nh: inet6.IPv6ExtHdrRouting(nh=nh, addresses=["2001:db8::9"]),
    lambda nh: ipsec.AH(nh=nh, payloadlen=4, spi=1, seq=1, icv=b"i" * 12),
)
NUMBERS = {
    inet6.IPv6ExtHdrHopByHop: 0,
    inet6.IPv6ExtHdrRouting: 43,
    inet6.IPv6ExtHdrFragment: 44,
    ipsec.AH: 51,
    inet6.IPv6ExtHdrDestOpt: 60,
}


@st.composite
def tunnelled(draw: st.DrawFn) -> Part:
    """A packet inside another, or inside two."""
    inside = draw(st.one_of(plain(), plain(), tunnelled()))
    content = Raw(raw(inside.layers))
    version = 4 if isinstance(inside.layers, inet.IP) else 6
    kind = draw(st.sampled_from(["ip", "gre", "gre-ether", "vxlan", "geneve"]))
    ethertype = 0x0800 if version == 4 else 0x86DD
    ether = l2.Ether(**MAC, type=ethertype) / content
    if draw(st.booleans()):
        ether = l2.Ether(**MAC, type=0x8100) / l2.Dot1Q(vlan=5, type=ethertype) / content
    ports = (0, 0)
    if kind == "ip":
        layers, protocol = content, 4 if version == 4 else 41
    elif kind.startswith("gre"):
        bits = {name: draw(st.integers(0, 1)) for name in ("chksum_present", "key_present", "seqnum_present")}
        bridged = kind == "gre-ether"
        layers = l2.GRE(proto=0x6558 if bridged else ethertype, **bits) / (ether if bridged else content)
        protocol = 47
    else:
        ports = draw(PORT), draw(st.sampled_from([4789, 8472])) if kind == "vxlan" else 6081
        protocol = 17
        options = b"\0" * 8 if draw(st.booleans()) else b""
        head = (
            raw(vxlan.VXLAN(vni=7, flags="Instance"))
            if kind == "vxlan"
            else bytes([len(options) // 4, 0]) + (0x6558).to_bytes(2) + b"\0\0\7\0" + options
        )
        layers = inet.UDP(sport=ports[0], dport=ports[1]) / Raw(head + raw(ether))
    outer = draw(around(draw(st.sampled_from([4, 4, 6])), (layers, protocol, *ports, 0), (Mark(0), 0, 1)))
    return Part(outer.layers, outer.levels + inside.levels)


@st.composite
def frames(draw: st.DrawFn) -> Made:
    """Any link layer around any packet."""
    part = draw(st.one_of(plain(), plain(), tunnelled()))
    packet = raw(part.layers)
    version = packet[0] >> 4
    ethertype = 0x0800 if version == 4 else 0x86DD
    link = draw(st.sampled_from([*LinkType, *[LinkType.ETHERNET] * 8]))
    if link in (LinkType.IPV4, LinkType.IPV6):
        link = LinkType.IPV4 if version == 4 else LinkType.IPV6
    if link == LinkType.NULL:
        front = (2 if version == 4 else draw(st.sampled_from([10, 24, 30]))).to_bytes(4, "little")
    elif link == LinkType.LOOP:
        front = (2 if version == 4 else 24).to_bytes(4)
    elif link == LinkType.PPP:
        front = raw(ppp.PPP(proto=0x21 if version == 4 else 0x57))
    elif link == LinkType.SLL:
        front = raw(l2.CookedLinux(proto=ethertype))
    elif link == LinkType.SLL2:
        front = raw(l2.CookedLinuxV2(proto=ethertype))
    elif link == LinkType.ETHERNET:
        front = draw(ethernet(ethertype, len(packet)))
    else:
        front = b""
    padding = bytes(draw(st.integers(0, 20))) if link == LinkType.ETHERNET else b""
    return Made(front + packet + padding, link, part.levels)


@st.composite
def ethernet(draw: st.DrawFn, ethertype: int, size: int) -> bytes:
    """What stands before the packet."""
    kind = draw(st.sampled_from(["plain", "plain", "plain", "mpls", "pppoe", "snap"]))
    front, first = b"", ethertype
    if kind == "mpls":
        labels = draw(st.integers(1, 3))
        front, first = b"".join(raw(MPLS(label=n, s=int(n == labels))) for n in range(1, labels + 1)), 0x8847
    elif kind == "pppoe":
        front, first = raw(ppp.PPPoE(len=size + 2) / ppp.PPP(proto=0x21 if ethertype == 0x0800 else 0x57)), 0x8864
    elif kind == "snap":
        front, first = raw(l2.LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / l2.SNAP(code=ethertype)), 8 + size
    for tag in draw(st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100]), max_size=3)):
        front, first = draw(st.integers(0, 65535)).to_bytes(2) + first.to_bytes(2) + front, tag
    return bytes.fromhex("020000000002020000000001") + first.to_bytes(2) + front
