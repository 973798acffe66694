"""Frames made with scapy from drawn parts, with the packet that each part says must come out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

from flowmap.model.address import Address
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Mark, Packet
from tests.support.scapy_layers import MPLS, Raw, inet, inet6, ipsec, l2, ppp, raw, sctp, vxlan


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
    """The row of a packet with these endpoints, marks, and (protocol, ports, flags, length)."""
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
def tunnelled(draw: st.DrawFn, scapy: bool) -> Part:
    """A packet inside another, or inside two."""
    inside = draw(st.one_of(plain(), plain(), tunnelled(scapy)))
    content = Raw(raw(inside.layers))
    version = 4 if isinstance(inside.layers, inet.IP) else 6
    kind = draw(st.sampled_from(["ip", "gre", "gre-ether", "vxlan", "geneve", *([] if scapy else ["erspan"])]))
    ethertype = 0x0800 if version == 4 else 0x86DD
    ether = l2.Ether(**MAC, type=ethertype) / content
    if draw(st.booleans()):
        ether = l2.Ether(**MAC, type=0x8100) / l2.Dot1Q(vlan=5, type=ethertype) / content
    ports = (0, 0)
    if kind == "ip":
        layers, protocol = content, 4 if version == 4 else 41
    elif kind == "erspan":
        layers, protocol = Raw(draw(st.sampled_from(ERSPAN)) + raw(ether)), 47
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


ERSPAN = (
    # The GRE header and that of type I (none), II, III, III with a subheader of the platform.
    bytes.fromhex("000088be"),
    bytes.fromhex("100088be 00000001 10000001 00000000"),
    bytes.fromhex("100022eb 00000001 20000001 00000000 00000000"),
    bytes.fromhex("100022eb 00000001 20000001 00000000 00000001") + bytes(8),
)


@st.composite
def frames(draw: st.DrawFn, scapy: bool = False) -> Made:
    """Any link layer around any packet. ``scapy``: only what scapy knows too."""
    part = draw(st.one_of(plain(), plain(), tunnelled(scapy)))
    packet = raw(part.layers)
    version = packet[0] >> 4
    ethertype = 0x0800 if version == 4 else 0x86DD
    link = draw(st.sampled_from([*(SCAPY_LINKS if scapy else LinkType), *[LinkType.ETHERNET] * 8]))
    if link in (LinkType.IPV4, LinkType.IPV6):
        link = LinkType.IPV4 if version == 4 else LinkType.IPV6
    front = draw(ethernet(ethertype, len(packet), scapy)) if link == LinkType.ETHERNET else b""
    if link in FRONTS:
        front = draw(st.sampled_from(FRONTS[link][: 1 if scapy else None]))(Below(version, ethertype, len(packet)))
    padding = bytes(draw(st.integers(0, 20))) if link == LinkType.ETHERNET else b""
    return Made(front + packet + padding, link, part.levels)


@st.composite
def ethernet(draw: st.DrawFn, ethertype: int, size: int, scapy: bool) -> bytes:
    """What stands before the packet."""
    wires = [] if scapy else ["wire", "controlled wire"]
    kind = draw(st.sampled_from(["plain", "plain", "plain", "mpls", "pppoe", "snap", *wires]))
    front, first = b"", ethertype
    if kind == "mpls":
        labels = draw(st.integers(1, 3))
        front, first = b"".join(raw(MPLS(label=n, s=int(n == labels))) for n in range(1, labels + 1)), 0x8847
    elif kind.endswith("wire"):  # Ethernet behind a label, with or without a control word
        word = bytes(4) if kind.startswith("controlled") else b""
        front, first = bytes.fromhex("00007101") + word + ETHERNET + ethertype.to_bytes(2), 0x8847
    elif kind == "pppoe":
        front, first = raw(ppp.PPPoE(len=size + 2) / ppp.PPP(proto=0x21 if ethertype == 0x0800 else 0x57)), 0x8864
    elif kind == "snap":
        front, first = raw(l2.LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / l2.SNAP(code=ethertype)), 8 + size
    for tag in draw(st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100, *([] if scapy else TAGS)]), max_size=3)):
        head = TAGS.get(tag) or draw(st.integers(0, 65535)).to_bytes(2)
        front, first = head + first.to_bytes(2) + front, tag
    return ETHERNET + first.to_bytes(2) + front


ETHERNET = bytes.fromhex("001b21000002001b21000001")
TAGS = {
    # ethertype: what stands between it and the next
    0x8926: bytes.fromhex("80000001"),  # VN-Tag
    0x8909: bytes.fromhex("010100010005"),  # Cisco MetaData
    0x893F: bytes.fromhex("000000010000"),  # 802.1BR
    0x892F: bytes.fromhex("00340001"),  # HSR
    0xF1C1: bytes.fromhex("00000001"),  # 802.1CB
    0x88E7: bytes(4) + ETHERNET,  # 802.1ah
}


SCAPY_LINKS = (
    *(LinkType.NULL, LinkType.ETHERNET, LinkType.PPP, LinkType.RAW, LinkType.RAW_DLT, LinkType.LOOP),
    *(LinkType.SLL, LinkType.SLL2, LinkType.IPV4, LinkType.IPV6),
)


class Below(NamedTuple):
    """What a link layer's header stands before."""

    version: int
    ethertype: int
    size: int

    def kind(self, four: int, six: int) -> int:
        return four if self.version == 4 else six

    @property
    def snap(self) -> bytes:
        return bytes.fromhex("aaaa03000000") + self.ethertype.to_bytes(2)

    @property
    def ppp(self) -> bytes:
        return self.kind(0x21, 0x57).to_bytes(2)


def family(six: int, order: Literal["little", "big"]) -> Callable[[Below], bytes]:
    return lambda below: below.kind(2, six).to_bytes(4, order)


def attributes(order: Literal["<", ">"], *others: bytes) -> Callable[[Below], bytes]:
    """NFLOG's: the packet is the last."""

    def front(below: Below) -> bytes:
        head = bytes([below.kind(2, 10), 0, 0, 7])
        for number, value in enumerate(others, 10):
            head += struct.pack(f"{order}HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
        return head + struct.pack(f"{order}HH", 4 + below.size, 9)

    return front


HDLC = bytes.fromhex("ff03")
FRONTS: dict[int, tuple[Callable[[Below], bytes], ...]] = {
    LinkType.NULL: tuple(family(six, "little") for six in (10, 24, 28, 30)) + (family(24, "big"),),
    LinkType.LOOP: (family(24, "big"),),
    LinkType.ENC: (lambda below: family(24, "little")(below) + bytes(8),),
    LinkType.PFLOG: tuple(
        lambda below, size=size: bytes([size, below.kind(2, 24)]) + bytes(-size % 4 + size - 2)  # type: ignore[misc]
        for size in (45, 61, 100)
    ),
    LinkType.PPP: (
        lambda below: HDLC + below.ppp,
        lambda below: below.ppp,
        lambda below: below.ppp[1:],
        lambda below: HDLC + below.ppp[1:],
        lambda below: b"\x0f\0" + below.ethertype.to_bytes(2),
        lambda below: bytes.fromhex("028100010140"),
        lambda below: bytes.fromhex("00310001") + ETHERNET + below.ethertype.to_bytes(2),
    ),
    LinkType.PPP_HDLC: (lambda below: HDLC + below.ppp, lambda below: b"\x0f\0" + below.ethertype.to_bytes(2)),
    LinkType.PPP_WITH_DIR: (lambda below: b"\1" + HDLC + below.ppp, lambda below: b"\0" + below.ppp),
    LinkType.PPP_ETHER: (lambda below: bytes.fromhex("11000001") + (below.size + 2).to_bytes(2) + below.ppp,),
    LinkType.C_HDLC: tuple(
        lambda below, head=head: head + below.ethertype.to_bytes(2)  # type: ignore[misc]
        for head in (b"\x0f\0", b"\x8f\0")
    ),
    LinkType.FRAME_RELAY: (
        lambda below: bytes.fromhex("184103") + bytes([below.kind(0xCC, 0x8E)]),
        lambda below: bytes.fromhex("1841") + below.ethertype.to_bytes(2),
        lambda below: bytes.fromhex("1841030080000000") + below.ethertype.to_bytes(2),
    ),
    LinkType.ATM_RFC1483: (lambda below: below.snap,),
    LinkType.FDDI: (lambda below: b"\x50" + ETHERNET + below.snap,),
    LinkType.TOKEN_RING: (
        lambda below: b"\x10\x40" + ETHERNET + below.snap,
        lambda below: b"\x10\x40" + ETHERNET[:6] + b"\x82" + ETHERNET[7:] + bytes.fromhex("063000110020") + below.snap,
    ),
    LinkType.IP_OVER_FC: (lambda below: bytes(16) + below.snap,),
    LinkType.APPLE_IP_OVER_IEEE1394: (lambda below: bytes(16) + below.ethertype.to_bytes(2),),
    LinkType.IPOIB: (lambda below: bytes(40) + below.ethertype.to_bytes(2) + bytes(2),),
    LinkType.SLL: (lambda below: raw(l2.CookedLinux(proto=below.ethertype)),),
    LinkType.SLL2: (lambda below: raw(l2.CookedLinuxV2(proto=below.ethertype)),),
    LinkType.NFLOG: (
        attributes("<"),
        attributes("<", b"eth0\0", bytes(8)),
        attributes(">"),
        attributes(">", b"abc"),
    ),
    LinkType.PPI: (
        lambda below: struct.pack("<BBHI", 0, 0, 8, 101),
        lambda below: struct.pack("<BBHI", 0, 0, 16, 1) + bytes(8) + ETHERNET + below.ethertype.to_bytes(2),
    ),
    LinkType.PKTAP: (
        lambda below: struct.pack("<III96x", 108, 1, 1) + ETHERNET + below.ethertype.to_bytes(2),
        lambda below: struct.pack("<III96x", 108, 1, 12),
    ),
}
"""What may stand before the packet; of other link types nothing does, and Ethernet has a strategy of its own."""
