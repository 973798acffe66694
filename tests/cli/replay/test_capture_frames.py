"""flowmap replay of captures with rare frames: flows, what is said, and the exit status."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from flowmap.cli import command
from tests.support.capture_files import SECOND, Row, block, enhanced, interface, pcap, section

FRAMES = Path(__file__).parents[2] / "data" / "frames"
Flow = tuple[str, int, int, tuple[int, int], tuple[int, int]]
"""Protocol, both ports, packets and bytes sent and received."""

DNS = ("udp", 5000, 53, (1, 48), (0, 0))


def replay(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> tuple[list[Flow], int, str]:
    status = command.main(["replay", str(path), "-o", "json", *more])
    said = capsys.readouterr()
    flows = json.loads(said.out)["flows"] if said.out else []
    ways = [[(flow[f"{way}Packets"], flow[f"{way}Bytes"]) for way in ("transmit", "receive")] for flow in flows]
    return (
        [
            (flow["protocol"], flow["client"]["port"], flow["server"]["port"], *both)
            for flow, both in zip(flows, ways, strict=True)
        ],
        status,
        said.err,
    )


@pytest.mark.parametrize(
    ("name", "words", "flows", "status", "said"),
    [
        ("snap40-tcp", [], [("tcp", 40000, 80, (3, 220), (1, 40))], 0, ""),
        ("tiny-first-fragment", [], [("tcp", 40000, 80, (2, 72), (0, 0))], 0, ""),
        ("ethertype-vntag", [], [DNS], 0, ""),
        ("ethertype-cisco-cmd", [], [DNS], 0, ""),
        ("link-nflog-239", [], [DNS], 0, ""),
        ("link-ppi-192", [], [DNS], 0, ""),
        ("ppp-mpls", [], [DNS], 0, ""),
        ("erspan2-inner", ["--tunnels", "inner"], [DNS], 0, ""),
        ("erspan2-inner", [], [("gre", 0, 0, (1, 98), (0, 0))], 0, ""),
        ("cooked-any-router", [], [("tcp", 40000, 9092, (2, 1080), (1, 540))], 0, "3 packets were seen on a second"),
        (
            "wire-length-lies",
            [],
            [("udp", 5000, 53, (0, 0), (1, 100))],
            3,
            "1 of 2 frames are shorter than their IP packet, although not cut according to the file, and do not "
            "count: the program that wrote the file stored the cut length as the length on the wire",
        ),
        ("kuznetzov", [], [], 1, "modified pcap (Kuznetzov's): convert it with `editcap -F pcapng IN OUT`"),
    ],
)
def test_rare_frames(
    capsys: pytest.CaptureFixture[str], name: str, words: list[str], flows: list[Flow], status: int, said: str
) -> None:
    found = replay(capsys, FRAMES / f"{name}.pcap", *words)
    assert found[:2] == (flows, status)
    assert said in found[2]


def frame(kind: int, content: bytes = bytes(46)) -> Row:
    data = bytes(12) + kind.to_bytes(2) + content
    return Row(data, len(data), SECOND)


LLC = frame(38, b"\x42\x42\x03" + bytes(43))


@pytest.mark.parametrize(
    ("frames", "link_type", "status", "said"),
    [
        ([frame(0x0806)] * 2, 1, 0, "not IP: 2 ARP (ethertype 0x0806)\n"),
        ([LLC], 1, 0, "not IP: 1 STP (LLC DSAP 0x42)\n"),
        ([frame(0x8864, b"\x11\0\0\1\0\6\xc0\x21" + bytes(4))], 1, 0, "not IP: 1 LCP (PPP protocol 0xc021)\n"),
        ([frame(0x1234)] * 3, 1, 3, "flowmap: 3 frames of ethertype 0x1234 cannot be decoded; IP packets in them"),
        ([frame(0x88E5)], 1, 3, "flowmap: 1 frames of MACsec (ethertype 0x88e5) cannot be decoded; "),
        (
            [frame(0x8864, b"\x11\0\0\1\0\6\0\xfd" + bytes(4))],
            1,
            3,
            "1 frames of compressed (PPP protocol 0x00fd) cann",
        ),
        ([frame(0x1234)], 147, 3, "flowmap: 1 frames of link type 147 (USER0) cannot be decoded; "),
        ([frame(0x5000 + n) for n in range(14)], 1, 3, "flowmap: 4 frames of 4 other kinds cannot be decoded; "),
        (
            [frame(0x0800, b"\x45" + bytes(9))._replace(wire=80)],
            1,
            3,
            "flowmap: 1 of 1 frames are cut before the ports by the snapshot length (tcpdump -s), and do not count\n",
        ),
    ],
)
def test_skipped_frames_are_named_by_number_and_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, frames: list[Row], link_type: int, status: int, said: str
) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(frames, link_type=link_type))
    flows, found, told = replay(capsys, path)
    assert (flows, found) == ([], status)
    assert said in told


A, B, NONE, ALL = bytes([10, 0, 0, 1]), bytes([10, 1, 0, 2]), bytes(4), b"\xff" * 4
MACS = [bytes(5) + bytes([n]) for n in range(4)]


class At:
    """A packet as one interface shows it."""

    def __init__(self, time: float, *, number: int = 7, hops: int = 64, ends: bytes = A + B, content: int = 1) -> None:
        udp = struct.pack("!HHHH", 40000, 9092, 12, 0) + content.to_bytes(4)
        self.kind = 0x0800 if len(ends) == 8 else 0x86DD
        self.ip = struct.pack("!BBHHHBBH", 0x45, 0, 32, number, 0, hops, 17, 0) + ends + udp
        if self.kind == 0x86DD:
            self.ip = struct.pack("!IHBB", 6 << 28, 12, 17, hops) + ends + udp
        self.time = int((100 + time) * SECOND)

    def ether(self, mac: int = 0, tag: bytes = b"") -> Row:
        data = MACS[mac] * 2 + tag + self.kind.to_bytes(2) + self.ip
        return Row(data, len(data), self.time)

    def cooked(self, kind: int) -> Row:
        data = struct.pack("!HHH8sH", kind, 1, 6, MACS[kind % 4], self.kind) + self.ip
        return Row(data, len(data), self.time)

    def cooked2(self, kind: int, number: int) -> Row:
        data = struct.pack("!HHIHBB8s", 0x0800, 0, number, 1, kind, 6, MACS[kind % 4]) + self.ip
        return Row(data, len(data), self.time)


IN, OUT = 0, 4
V6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000010000000000000002")
UNSPECIFIED6 = bytes(16) + bytes.fromhex("ff020000000000000000000000000016")
SEVERAL = "copies of others, and count twice"
TAG = b"\x81\0\0\5"

COPIES: list[tuple[str, list[Row], int, int, bool]] = [
    # name, frames, link type, packets that count, whether copies are told
    ("cooked: in and out", [At(0).cooked(IN), At(0, hops=63).cooked(OUT)], 113, 1, False),
    ("cooked: in twice and out", [At(0).cooked(IN), At(0).cooked(IN), At(0, hops=63).cooked(OUT)], 113, 2, True),
    ("cooked: only out", [At(n, number=n).cooked(OUT) for n in range(1, 4)], 113, 3, False),
    (
        "cooked: hosts without an address",
        [At(0, ends=NONE + ALL).cooked(OUT), At(0.1, number=8, ends=NONE + ALL).cooked(1)],
        113,
        2,
        False,
    ),
    ("cooked 2: two interfaces", [At(0).cooked2(IN, 2), At(0, hops=63).cooked2(OUT, 3)], 276, 1, False),
    ("cooked 2: back on the same", [At(0).cooked2(IN, 2), At(0, hops=63).cooked2(OUT, 2)], 276, 1, False),
    ("Ethernet: routed", [At(0).ether(0), At(0, hops=63).ether(1)], 1, 2, True),
    ("Ethernet: bridged", [At(0).ether(0), At(0).ether(0)], 1, 2, True),
    ("Ethernet: bridged to a VLAN", [At(0).ether(0), At(0).ether(0, TAG)], 1, 2, True),
    ("routed without a number", [At(0, number=0).ether(0), At(0, number=0, hops=63).ether(1)], 1, 2, True),
    ("IPv6: routed", [At(0, ends=V6).ether(0), At(0, ends=V6, hops=63).ether(1)], 1, 2, True),
    ("IPv6: to another VLAN", [At(0, ends=V6).ether(0), At(0, ends=V6).ether(0, TAG)], 1, 2, True),
    ("IPv6: sent again", [At(0, ends=V6).ether(0), At(0, ends=V6).ether(0)], 1, 2, False),
    (
        "IPv6, cooked: hosts without an address",
        [At(0, ends=UNSPECIFIED6).cooked(OUT), At(0.1, ends=UNSPECIFIED6).cooked(2)],
        113,
        2,
        False,
    ),
    ("sent again without a number", [At(0, number=0).ether(0), At(0.01, number=0).ether(0)], 1, 2, False),
    ("sent again later", [At(0).ether(0), At(0.2).ether(0)], 1, 2, False),
    ("sent again with another number", [At(0).ether(0), At(0, number=8).ether(0)], 1, 2, False),
    ("other content", [At(0).ether(0), At(0, content=2).ether(0)], 1, 2, False),
    (
        "one in two hundred",
        [At(n / 1000, number=n).ether(0) for n in range(1, 200)] + [At(0.2, number=199).ether(0)],
        1,
        200,
        False,
    ),
]


@pytest.mark.parametrize(("name", "frames", "link_type", "number", "told"), COPIES, ids=[row[0] for row in COPIES])
def test_copies(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    frames: list[Row],
    link_type: int,
    number: int,
    told: bool,
) -> None:
    """What several interfaces saw counts once where frames tell them apart; else a line says so, with status 3."""
    path = tmp_path / "capture"
    path.write_bytes(pcap(frames, link_type=link_type))
    flows, status, said = replay(capsys, path)
    assert sum(flow[3][0] for flow in flows) == number
    assert (status, SEVERAL in said) == ((3, True) if told else (0, False))


def test_copies_on_interfaces_of_a_pcapng(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [At(0).ether(0), At(0, hops=63).ether(1)]
    data = section("<") + interface("<") * 2
    data += b"".join(enhanced("<", row.data, ticks=row.time // 1000, number=n) for n, row in enumerate(rows))
    path = tmp_path / "capture"
    path.write_bytes(data)
    flows, status, said = replay(capsys, path)
    assert (flows[0][3], status) == ((1, 32), 0)
    assert SEVERAL not in said


def test_interfaces_of_two_hosts_with_the_same_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two cooked captures in one pcapng: what the one sent on its interface 2 the other received on its own 2."""
    link = block("<", 1, struct.pack("<HHI", 276, 0, 0))
    rows = [At(0).cooked2(OUT, 2), At(0, hops=63).cooked2(OUT, 2)]
    data = section("<") + link * 2
    data += b"".join(enhanced("<", row.data, ticks=row.time // 1000, number=n) for n, row in enumerate(rows))
    path = tmp_path / "capture"
    path.write_bytes(data)
    flows, status, said = replay(capsys, path)
    assert (flows[0][3], status) == ((1, 32), 0)
    assert SEVERAL not in said
