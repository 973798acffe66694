"""Every link type and encapsulation that is decoded, whole and cut at every byte, against tshark.

All frames are in one pcapng with an interface for each link type, so tshark runs once. Both decoders are compared, the
columnar one on the file as the reader gives it.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from flowmap.model.address import Address
from flowmap.wire.capture_files.pcapng import PcapngReader
from flowmap.wire.packets.frame import decode_frame
from flowmap.wire.packets.frames import Tunnels, decode_frames
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Mark, Packet
from flowmap.wire.packets.scapy_fallback import LINKS, ScapyFallback
from tests.support.capture_files import block, section
from tests.support.made_frames import ERSPAN, ETHERNET, FRONTS, TAGS, Below

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark (Debian package tshark)")

MODES: tuple[Tunnels, Tunnels] = ("outer", "inner")
TCP = struct.pack("!HHIIBBHHH", 40000, 9092, 7, 1, 0x50, 0x18, 100, 0, 0)
UDP = struct.pack("!HHHH", 40001, 9093, 8 + 12, 0) + bytes(12)
SCTP = struct.pack("!HHII", 40002, 9094, 1, 0) + struct.pack("!BBHIHHI", 0, 3, 20, 1, 1, 1, 0) + bytes(4)
TRANSPORTS = {
    6: TCP + b"data",
    17: UDP,
    132: SCTP,
    136: struct.pack("!HHHH", 40003, 9095, 8, 0) + bytes(4),
    33: struct.pack("!HHBBHBBBB", 40004, 9096, 4, 0, 0, 4, 1, 0, 0) + bytes(4),
    1: bytes.fromhex("0800000000010001") + bytes(8),
    253: bytes(20),
}
V4 = bytes([10, 0, 0, 1, 10, 1, 0, 2])
V6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000010000000000000002")


def ipv4(payload: bytes, protocol: int, *, fragment: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(
        "!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 7, fragment, 64, protocol, 0
    )
    return head + V4 + options + payload


def ipv6(payload: bytes, following: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + V6 + payload


def packets() -> Iterator[bytes]:
    """IP packets without a tunnel."""
    for protocol, payload in TRANSPORTS.items():
        yield ipv4(payload, protocol)
        yield ipv6(payload, protocol)
    yield ipv4(TCP, 6, options=b"\1" * 40)
    yield ipv4(UDP, 17, fragment=0x2000)
    yield ipv4(UDP, 17, fragment=0x2003)
    yield ipv4(TCP[:8], 6, fragment=0x2000)
    padding = b"\1\4\0\0\0\0"
    yield ipv6(b"\x3c\0" + padding + b"\x06\0" + padding + TCP, 0)
    yield ipv6(b"\x11\2\0\0\0\0\0\0" + V6[:16] + UDP, 43)
    yield ipv6(b"\x11\0\0\1\0\0\0\7" + UDP, 44)
    yield ipv6(b"\x11\0\0\x09\0\0\0\7" + UDP, 44)
    yield ipv6(b"\x06\4\0\0\0\0\0\1\0\0\0\1" + b"i" * 12 + TCP, 51)


def ether(kind: int, content: bytes) -> bytes:
    return ETHERNET + kind.to_bytes(2) + content


FOUR, SIX = ipv4(TCP, 6), ipv6(UDP, 17)
SNAP = bytes.fromhex("aaaa03000000")
LABEL, BOTTOM = bytes.fromhex("00006040"), bytes.fromhex("00007140")


def ethernet() -> Iterator[bytes]:
    """Ethernet frames: around every packet, and every encapsulation around two."""
    for packet in packets():
        yield ether(0x0800 if packet[0] >> 4 == 4 else 0x86DD, packet)
    for kind, packet, ppp in ((0x0800, FOUR, b"\0\x21"), (0x86DD, SIX, b"\0\x57")):
        behind = kind.to_bytes(2) + packet
        yield ether(kind, packet + bytes(10))  # padding
        for tag in (0x8100, 0x88A8, 0x9100):
            yield ether(tag, b"\0\5" + behind)
        yield ether(0x88A8, b"\0\5\x81\0\0\6" + behind)
        for tag, head in TAGS.items():
            yield ether(tag, head + behind)
            yield ether(0x8100, b"\0\5" + tag.to_bytes(2) + head + behind)
        for mpls in (0x8847, 0x8848):
            yield ether(mpls, BOTTOM + packet)
            yield ether(mpls, LABEL * 2 + BOTTOM + packet)
        for word in (b"", bytes(4)):
            yield ether(0x8847, BOTTOM + word + ether(kind, packet))
        yield ether(0x8864, b"\x11\0\0\1" + (len(packet) + 2).to_bytes(2) + ppp + packet)
        yield ether(len(packet) + 8, SNAP + behind)
    yield ether(len(FOUR) + 3, b"\6\6\3" + FOUR)
    yield from (ether(0x0800 if packet[0] >> 4 == 4 else 0x86DD, packet) for packet in tunnels())


def tunnels() -> Iterator[bytes]:
    """Packets with a packet inside."""
    for inside, kind, protocol in ((FOUR, 0x0800, 4), (SIX, 0x86DD, 41)):
        framed = ether(kind, inside)
        for outer in (ipv4, ipv6):
            yield outer(inside, protocol)
            for flags in (0, 0x8000, 0x2000, 0xB000):
                yield outer(struct.pack("!HH", flags, kind) + bytes(4 * flags.bit_count()) + inside, 47)
            yield outer(bytes.fromhex("00006558") + framed, 47)
            yield outer(bytes.fromhex("00008847") + BOTTOM + inside, 47)
            yield from (outer(head + framed, 47) for head in ERSPAN)
            vxlan = b"\x08" + bytes(7) + framed
            for port in (4789, 8472):
                yield outer(struct.pack("!HHHH", 40000, port, 8 + len(vxlan), 0) + vxlan, 17)
            for head in (b"\0\0\x65\x58" + bytes(4), b"\2\0\x65\x58" + bytes(12)):
                yield outer(struct.pack("!HHHH", 40000, 6081, 16 + len(framed), 0) + head + framed, 17)
        yield ipv4(struct.pack("!HH", 0, 0x0800) + ipv4(inside, protocol), 47)


def radio(kind: int, packet: bytes) -> bytes:
    """IEEE 802.11 data, from a station to its access point."""
    return bytes.fromhex("08010000") + ETHERNET[:6] + ETHERNET + b"\0\0" + SNAP + kind.to_bytes(2) + packet


SHOWN: dict[int, slice] = {
    LinkType.NULL: slice(1, None),  # not Linux' AF_INET6
    LinkType.NFLOG: slice(2),  # not that of big-endian hosts, in a file that is not of one
}
"""Where tshark 4.0 does not know all of the fronts."""


def made() -> Iterator[tuple[int, bytes]]:
    """Link type and frame."""
    yield from ((1, frame) for frame in ethernet())
    for version, kind, packet in ((4, 0x0800, FOUR), (6, 0x86DD, SIX)):
        below = Below(version, kind, len(packet))
        for link, fronts in FRONTS.items():
            yield from ((link, front(below) + packet) for front in fronts[SHOWN.get(link, slice(None))])
        for link in (LinkType.RAW, LinkType.RAW_DLT, LinkType.IPV4 if version == 4 else LinkType.IPV6):
            yield link, packet
        yield 105, radio(kind, packet)
        yield 127, bytes.fromhex("0000080000000000") + radio(kind, packet)
        yield 119, struct.pack("<II136x", 0x44, 144) + radio(kind, packet)
        frame = ether(kind, packet)
        yield 274, bytes.fromhex("55555555555555d5") + frame + zlib.crc32(frame).to_bytes(4, "little")


class Level(NamedTuple):
    """An IP packet as tshark shows it."""

    ends: tuple[Address, Address]
    length: int
    protocol: int | None
    """Not shown for IPv6 behind extension headers."""
    ports: tuple[int, int] | None


PORTED = {"tcp": 6, "udp": 17, "sctp": 132, "udplite": 136, "dccp": 33}
FIELDS = (
    *("frame.protocols", "ip.src", "ip.dst", "ip.len", "ip.proto", "ipv6.src", "ipv6.dst", "ipv6.plen"),
    *(f"{name}.{side}" for name in ("tcp", "udp", "sctp", "dccp") for side in ("srcport", "dstport")),
)


def levels(line: str) -> list[Level]:
    """The packets inside each other, the outermost first; only those of which all of the IP header is shown."""
    names, *columns = line.split("\t")
    left = {name: column.split(",") if column else [] for name, column in zip(FIELDS[1:], columns, strict=True)}
    found: list[Level] = []
    for name in names.split(":"):
        try:
            if name == "ip":
                source, target, length, protocol = (
                    left[f"ip.{part}"].pop(0) for part in ("src", "dst", "len", "proto")
                )
                found.append(Level((Address.parse(source), Address.parse(target)), int(length), int(protocol), None))
            elif name == "ipv6":
                source, target, length = (left[f"ipv6.{part}"].pop(0) for part in ("src", "dst", "plen"))
                found.append(Level((Address.parse(source), Address.parse(target)), 40 + int(length), None, None))
            elif name in PORTED and found:
                prefix = "udp" if name == "udplite" else name
                ports = int(left[f"{prefix}.srcport"].pop(0)), int(left[f"{prefix}.dstport"].pop(0))
                found[-1] = found[-1]._replace(ports=ports, protocol=PORTED[name])
        except IndexError:  # it is cut there
            break
    return found


def same(packet: Packet, level: Level) -> bool:
    ends = Address(*packet[:2]), Address(*packet[2:4])
    ports = (packet.source_port, packet.destination_port) if packet.protocol in PORTED.values() else None
    ports = None if packet.flags & Mark.FRAGMENT_LATER else ports
    return (
        (ends, packet.length) == (level.ends, level.length)
        and level.protocol in (None, packet.protocol)
        and level.ports == ports
    )


def write(path: Path, frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes, int]]:
    """Each frame whole and cut at every byte: link type, what is captured, size on the wire; as it is in the file."""
    links = sorted({link for link, _ in frames})
    parts = [(link, frame[:size], len(frame)) for link, frame in frames for size in range(len(frame), 0, -1)]
    data = section("<") + b"".join(block("<", 1, struct.pack("<HHI", link, 0, 0)) for link in links)
    for link, frame, size in parts:
        head = struct.pack("<IIIII", links.index(link), 0, 1_000_000, len(frame), size)
        data += block("<", 6, head + frame)
    path.write_bytes(data)
    return parts


def shown(path: Path) -> list[list[Level]]:
    words = [word for field in FIELDS for word in ("-e", field)]
    options = ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.analyze_sequence_numbers:FALSE")
    words += [word for option in options for word in ("-o", option)]
    command = ["tshark", "-n", "-r", str(path), "-d", "udp.port==8472,vxlan", "-T", "fields", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [levels(line) for line in done.stdout.splitlines()]


def by_columns(path: Path, mode: Tunnels) -> dict[int, Packet]:
    """The packets by the number of their frame in the file."""
    read = PcapngReader().read(path.read_bytes())
    order = np.sort(np.concatenate([frames.starts for frames in read.frames]))
    found: dict[int, Packet] = {}
    for frames in read.frames:
        decoded = decode_frames(
            frames.data, frames.starts, frames.captured, frames.wire_lengths, frames.link_type,
            tunnels=mode, fallback=ScapyFallback(),
        )  # fmt: skip
        numbers = np.searchsorted(order, frames.starts[decoded.index]).tolist()
        found.update(zip(numbers, (Packet(*row) for row in decoded.packets.rows()), strict=True))
    return found


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, bytes, int]], list[list[Level]]]:
    path = tmp_path_factory.mktemp("tshark") / "made.pcapng"
    parts = write(path, list(made()))
    theirs = shown(path)
    assert len(theirs) == len(parts)
    return path, parts, theirs


Compared = tuple[Path, list[tuple[int, bytes, int]], list[list[Level]]]


def test_every_link_type_is_among_them() -> None:
    assert {link for link, _ in made()} == {*LinkType, *LINKS}


@pytest.mark.parametrize("mode", MODES)
def test_columns_and_general_decoder_agree(compared: Compared, mode: Tunnels) -> None:
    path, parts, _ = compared
    columns = by_columns(path, mode)
    for number, (link, frame, size) in enumerate(parts):
        if link not in LINKS:
            one = decode_frame(frame, size, link, inner=mode == "inner")
            assert columns.get(number) == (one if isinstance(one, Packet) else None), (link, frame.hex(), size)


def wholes(compared: Compared) -> Iterator[tuple[int, list[Level], bool]]:
    """The number of each frame, what tshark shows of that frame whole, and whether it is cut."""
    whole: list[Level] = []
    for number, ((_, frame, size), found) in enumerate(zip(*compared[1:], strict=True)):
        whole = found if len(frame) == size else whole
        yield number, whole, len(frame) < size


def test_packets_are_those_that_tshark_shows(compared: Compared) -> None:
    """A cut frame gives the packet of the whole frame, or none if tshark does not show its ports either."""
    ours = by_columns(compared[0], "outer")
    for number, whole, cut in wholes(compared):
        what, found = compared[1][number], compared[2][number]
        if number in ours:
            assert whole, what
            assert same(ours[number], whole[0]), (ours[number], whole, what)
        else:
            assert cut, what
            assert not found or found[0].ports is None, (found, what)


def test_packets_inside_of_tunnels_are_those_that_tshark_shows(compared: Compared) -> None:
    ours = by_columns(compared[0], "inner")
    for number, whole, cut in wholes(compared):
        what = compared[1][number]
        if cut and number in ours:
            assert any(same(ours[number], level) for level in whole), (ours[number], whole, what)
        elif not cut:
            assert same(ours[number], whole[-1]), (ours[number], whole, what)
            assert not ours[number].flags & Mark.UNOPENED, what
