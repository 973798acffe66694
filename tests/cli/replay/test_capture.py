"""flowmap replay of capture files: every flow and byte that tshark counts, owners of the capture's time, cut files."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import Question, Shape
from flowmap.cli import command
from flowmap.history.file import Limits
from flowmap.history.intervals import StoredInterval
from flowmap.history.store import HistoryStore
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from tests.support.capture_files import SECOND, Row, block, enhanced, interface, pcap, section
from tests.support.closed_flows import closed
from tests.support.shell import Shell, deployment

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
HTTP = CAPTURES / "http.pcap"
COPIES = "syn-again-same-isn.pcap"  # its status says that a packet is a copy; see test_tcp
NAMES = sorted(path.name for path in CAPTURES.glob("*.pcap*") if path.name != COPIES)

BEFORE_IP = {"any.pcap": 20, "vlan.pcap": 18, "qinq.pcap": 22}
"""Bytes of each frame before the IP header, where they are not 14; that of the inner packet where it is VXLAN's."""
INNER_BEFORE_IP = 64

Totals = dict[tuple[str, ...], tuple[int, int, int, int]]
"""By both ends: packets and bytes that the first sent, then those of the second."""

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark (Debian package tshark)")


def replay(capsys: pytest.CaptureFixture[str], path: Path, *more: str, status: int = 0) -> tuple[list[Any], str]:
    """The flows, and what was said on stderr."""
    assert command.main(["replay", str(path), "-o", "json", *more]) == status
    said = capsys.readouterr()
    return json.loads(said.out)["flows"], said.err


def by_ends(flows: list[Any], *protocols: str, ports: bool) -> Totals:
    """What flows carried, by their ends in text order; with ``ports``, else by address."""
    totals: Counter[tuple[tuple[str, ...], int]] = Counter()
    for flow in flows:
        if flow["protocol"] in protocols or not protocols:
            ends = [(end["ip"], str(end["port"]))[: 1 + ports] for end in (flow["client"], flow["server"])]
            numbers = [flow[f"{way}{what}"] for way in ("transmit", "receive") for what in ("Packets", "Bytes")]
            if ends[0] > ends[1]:
                ends, numbers = ends[::-1], numbers[2:] + numbers[:2]
            for place, number in enumerate(numbers):
                totals[ends[0] + ends[1], place] += number
    return {ends: tuple(totals[ends, place] for place in range(4)) for ends, _ in totals}  # type: ignore[misc]


LINE = re.compile(r"(\S+) +<-> (\S+) +" + r" +".join([r"(\d+) (\d+) (bytes|kB)"] * 3))


def tshark(path: Path, *words: str) -> str:
    done = subprocess.run(["tshark", "-r", str(path), *words], capture_output=True, text=True, check=True)
    return done.stdout


def conversations(path: Path) -> Totals:
    """tshark's, of TCP and UDP, in the same form; bytes of whole frames. From 10,000 on it rounds: -1 is for that."""
    found: Totals = {}
    for left, right, *numbers in LINE.findall(tshark(path, "-q", "-z", "conv,tcp", "-z", "conv,udp")):
        ends = [tuple(end.rsplit(":", 1)) for end in (left, right)]
        received, sent = ((int(numbers[n]), int(numbers[n + 1]) if numbers[n + 2] == "bytes" else -1) for n in (0, 3))
        # tshark's columns: what the left end got, then what it sent.
        pair = (*sent, *received) if ends[0] <= ends[1] else (*received, *sent)
        found[min(ends) + max(ends)] = pair
    return found


def lengths(path: Path) -> Counter[tuple[str, str]]:
    """Bytes of the outermost IP packets by source and destination, summed from tshark's fields."""
    fields = ("ip.src", "ip.dst", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.plen")
    words = [word for field in fields for word in ("-e", field)]
    found: Counter[tuple[str, str]] = Counter()
    for line in tshark(path, "-T", "fields", "-E", "occurrence=f", *words).splitlines():
        source, target, total, source6, target6, payload = line.split("\t")
        if total:
            found[source, target] += int(total)
        elif payload:
            found[source6, target6] += 40 + int(payload)
    return found


def with_heads(totals: Totals, size: int) -> Totals:
    """Packets as frames with ``size`` bytes before each; what tshark would round is -1."""

    def frames(packets: int, length: int) -> tuple[int, int]:
        whole = length + packets * size
        return packets, whole if whole < 10_000 else -1

    return {ends: (*frames(*row[:2]), *frames(*row[2:])) for ends, row in totals.items()}


@needs_tshark
@pytest.mark.parametrize("name", NAMES)
def test_every_flow_has_the_totals_that_tshark_counts(capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = CAPTURES / name
    flows, _ = replay(capsys, path)
    found = by_ends(flows, "tcp", "udp", ports=True)
    expected = conversations(path)
    if name == "vxlan.pcap":  # tshark has the connections inside as well
        expected = {ends: row for ends, row in expected.items() if "4789" in ends}
    if name == "fragments.pcap":  # and gives each reassembled packet the bytes of its last fragment
        found = expected = {}
    assert with_heads(found, BEFORE_IP.get(name, 14)) == expected
    ways: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        ends = flow["client"]["ip"], flow["server"]["ip"]
        ways[ends] += flow["transmitBytes"]
        ways[ends[::-1]] += flow["receiveBytes"]
    assert +ways == lengths(path), "of every protocol, fragments included"


@needs_tshark
def test_what_is_inside_of_tunnels(capsys: pytest.CaptureFixture[str]) -> None:
    path = CAPTURES / "vxlan.pcap"
    flows, said = replay(capsys, path, "--tunnels", "inner")
    inside = {ends: row for ends, row in conversations(path).items() if "4789" not in ends}
    assert len(inside) == 1
    assert with_heads(by_ends(flows, "tcp", ports=True), INNER_BEFORE_IP) == inside
    # Its ARP is no IP packet: the tunnel's own flow counts it.
    assert "packets of tunnels could not be opened and count as flows of the tunnel" in said
    assert by_ends(flows, "udp", ports=False)


def catalog(tmp_path: Path, address: object) -> str:
    path = tmp_path / "catalog.json"
    entry = {"id": "d-1", "name": "orders", "addresses": [address], "reads": ["10.9.0.2:8000"]}
    path.write_text(json.dumps({"workspace": "w", "deployments": [entry]}))
    return str(path)


AT = "2026-11-25T04:14:38Z"
"""Within the first seconds of http.pcap, before its traffic."""


@pytest.mark.parametrize(
    ("address", "states"),
    [
        ("10.9.0.1", {"attributed"}),
        ({"ip": "10.9.0.1", "since": "2026-11-25T04:00:00Z", "until": "2026-11-25T05:00:00Z"}, {"attributed"}),
        ({"ip": "10.9.0.1", "until": AT}, {"unknown"}),
        ({"ip": "10.9.0.1", "since": "2026-11-25T05:00:00Z"}, {"unknown"}),
        ("10.9.0.7", {"unknown"}),
    ],
)
def test_owners_are_those_of_the_capture_s_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, address: object, states: set[str]
) -> None:
    flows, _ = replay(capsys, HTTP, "--catalog", catalog(tmp_path, address))
    ours = [flow for flow in flows if flow["protocol"] == "tcp" and flow["client"]["ip"] == "10.9.0.1"]
    assert len(ours) == 2
    assert {flow["state"] for flow in ours} == states
    named = [owner["name"] for flow in ours for owner in flow["deployments"]]
    assert named == (["orders"] * 2 if states == {"attributed"} else [])


def test_evidence_says_where_it_is_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["replay", str(HTTP), "--catalog", catalog(tmp_path, "10.9.0.1"), "--query", "10.9.0.1", "10.9.0.2:8000"]
    assert command.main([*words, "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {piece["origin"] for piece in answer["evidence"]} == {"catalog"}


BEGAN, ENDED = 1_795_580_000.0, 1_795_590_000.0


@pytest.mark.parametrize(
    ("known", "states"),
    [
        ([(BEGAN, ENDED)], {"attributed"}),
        ([(BEGAN, BEGAN + 60)], {"pending"}),  # confirmed before, and no word since
        ([(BEGAN, BEGAN + 60), (ENDED - 60, ENDED)], {"pending"}),  # a gap
    ],
)
def test_what_a_daemon_kept_says_whose_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, known: list[tuple[float, float]], states: set[str]
) -> None:
    owner = frozenset({Owner("w", "default-namespace", "d-1", "orders")})
    client = Question("default-namespace", Shape.CLIENT, Endpoint(Address.parse("10.9.0.1"), 0), None)
    service = Endpoint(Address.parse("10.9.0.2"), 8000)
    sink = Question("default-namespace", Shape.SINK, None, service)
    source = Question("default-namespace", Shape.SOURCE, service, None)
    spans = [
        StoredInterval(question, OwnershipInterval(owner, since, since, until, until, 2), False, 1, 0.0)
        for question in (client, sink, source)
        for since, until in known
    ]
    path, config = tmp_path / "history.db", tmp_path / "flowmap.yaml"
    store = HistoryStore(str(path), Limits(retain=1e9, max_size=16 << 20))
    store.open()
    store.write(closed(), spans, now=ENDED)
    store.close()
    config.write_text(json.dumps({"history": {"path": str(path)}}))
    flows, said = replay(capsys, HTTP, "-c", str(config))
    ours = [flow for flow in flows if flow["protocol"] == "tcp" and flow["client"]["ip"] == "10.9.0.1"]
    assert {flow["state"] for flow in ours} == states
    assert f"using the owners that {path} confirms" in said
    words = ["replay", str(HTTP), "-c", str(config), "--query", "10.9.0.1", "10.9.0.2:8000", "-o", "json"]
    command.main(words)
    evidence = json.loads(capsys.readouterr().out)["evidence"]
    assert {piece["origin"] for piece in evidence} == ({"history"} if states == {"attributed"} else {"none"})


def test_nobody_is_named_without_a_word_of_who_had_the_address_then(shell: Shell) -> None:
    """The control plane knows the present only; it is not even asked."""
    flows, said = replay(shell.capsys, HTTP, "-c", str(shell.config()))
    multicast = [flow for flow in flows if flow["server"]["ip"].startswith("ff02:")]
    assert {flow["state"] for flow in multicast} == {"unknown"}, "known without asking"
    assert {flow["state"] for flow in flows if flow not in multicast} <= {"pending", "failed"}
    assert "only knows today's owners" in said
    assert shell.asked() == {}


def test_owners_of_today_only_if_told_so_and_marked(shell: Shell) -> None:
    shell.sandbox.set_catalog(
        {
            "workspace": "w",
            "namespaces": ["orders", "risk"],
            "deployments": [
                deployment("d-1", "orders", jobs=1, addresses=["10.9.0.1"], reads=["10.9.0.2"]),
            ],
        }
    )
    flows, said = replay(shell.capsys, HTTP, "-c", str(shell.config()), "--assume-current")
    assert {flow["state"] for flow in flows if flow["client"]["ip"] == "10.9.0.1"} == {"attributed"}
    assert "using today's owners for the capture's time" in said
    words = ["replay", str(HTTP), "-c", str(shell.config()), "--assume-current", "-o", "json"]
    assert command.main([*words, "--query", "10.9.0.1", "10.9.0.2:8000"]) == 0
    assert {piece["origin"] for piece in json.loads(shell.capsys.readouterr().out)["evidence"]} == {"assumed"}


def test_compressed_and_cut_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole, _ = replay(capsys, HTTP)
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(HTTP.read_bytes()))
    assert replay(capsys, packed)[0] == whole
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(HTTP.read_bytes()[:-10])
    flows, said = replay(capsys, cut, status=3)
    assert len(flows) == len(whole)
    assert re.search(r"cut.pcap: byte \d+: the file ends within a record; the part before it counts\n", said)


def test_a_clock_that_goes_back_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One frame of the future puts no other out of order: it is left out, without a name and with its bytes."""
    data = bytearray(HTTP.read_bytes())
    whole, _ = replay(capsys, HTTP)
    second = 24 + 16 + int.from_bytes(data[32:36], "little")
    data[second : second + 4] = (4_000_000_000).to_bytes(4, "little")
    path = tmp_path / "jumps.pcap"
    path.write_bytes(data)
    flows, said = replay(capsys, path, status=3)
    assert "packets out of order: 1 packets are unattributed (reason late)" in said
    assert packets_in(flows) == packets_in(whole) - 1
    assert command.main(["replay", str(path), "-o", "prometheus"]) == 3
    page = capsys.readouterr().out
    (late,) = map(int, re.findall(r'unattributed_transmit_bytes_total{reason="late",.*} (\d+)', page))
    assert late > 0
    observed, pending, unattributed = (
        sum(int(n) for n in re.findall(rf"^flowmap_{name}_transmit_bytes(?:_total)?(?:{{.*}})? (\d+)", page, re.M))
        for name in ("observed", "pending", "unattributed")
    )
    special = sum(map(int, re.findall(r'unattributed_transmit_bytes_total{reason="special_address",.*} (\d+)', page)))
    assert (special > 0, unattributed, observed) == (True, late + special, late + special + pending)


def packets_in(flows: list[Any]) -> int:
    return sum(flow["transmitPackets"] + flow["receivePackets"] for flow in flows)


def test_files_in_the_wrong_order_name_nobody_for_another_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    later = b"".join(raw(packet(100.0 + n / 10)) for n in range(50))
    earlier = b"".join(raw(packet(1.0 + n / 10, port=50000)) for n in range(50))
    path, head = tmp_path / "joined.pcap", HTTP.read_bytes()[:24]
    for one, other, left_out, port in ((later, earlier[:-90], 49, 40000), (later[:-90], earlier, 49, 50000)):
        path.write_bytes(head + one + other)
        flows, said = replay(capsys, path, status=3)
        assert [flow["client"]["port"] for flow in flows] == [port], "those that are more, in one piece of the file"
        assert f"{left_out} packets are unattributed" in said


def raw(row: Row) -> bytes:
    """A record of a pcap."""
    seconds, rest = divmod(row.time, SECOND)
    return struct.pack("<IIII", seconds, rest // 1000, len(row.data), row.wire) + row.data


def packet(time: float = 1.0, *, port: int = 40000, size: int = 60) -> Row:
    """An Ethernet frame with a TCP segment."""
    tcp = struct.pack("!HHIIBBHHH", port, 9092, 0, 0, 0x50, 0x10, 0, 0, 0)
    rest = bytes(size - 40)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, 6, 0) + bytes([10, 0, 0, 1]) + bytes([10, 1, 0, 1])
    return Row(bytes(12) + b"\x08\0" + ip + tcp + rest, 14 + size, int(time * SECOND))


def a_section(*frames: Row, interfaces: int = 1) -> bytes:
    packets = (enhanced("<", frame.data, ticks=frame.time // 1000, number=frame.interface) for frame in frames)
    return section("<") + interface("<") * interfaces + b"".join(packets)


@pytest.mark.parametrize(
    ("second", "number", "duplicates"),
    [
        (a_section(packet(1.1), packet(1.2)), 4, 0),
        (a_section(packet(1.1)._replace(interface=1), packet(1.2), interfaces=2), 3, 1),
    ],
)
def test_sections_that_were_joined(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, second: bytes, number: int, duplicates: int
) -> None:
    """The first interface of the second section is that of the first; another counts a packet no second time."""
    path = tmp_path / "joined.pcapng"
    path.write_bytes(a_section(packet(1.0), packet(1.05)) + second)
    (flow,), said = replay(capsys, path)
    assert flow["transmitPackets"] == number
    assert ("1 packets were seen on a second interface" in said) is bool(duplicates)


def test_more_odd_frames_than_any_limit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    radio = bytes.fromhex("000008000000000008010000") + bytes(20) + b"\xaa\xaa\x03\0\0\0\x08\0" + packet().data[14:]
    path = tmp_path / "radio.pcap"
    path.write_bytes(pcap([Row(radio, len(radio), SECOND)] * 1500, link_type=127))
    (flow,), _ = replay(capsys, path)
    assert flow["transmitPackets"] == 1500


@pytest.mark.parametrize(("link_type", "name"), [(147, " (USER0)"), (197, " (ERF)"), (999, "")])
def test_link_types_that_are_not_decoded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, link_type: int, name: str
) -> None:
    path = tmp_path / "unknown.pcap"
    path.write_bytes(pcap([packet()] * 16, link_type=link_type))
    flows, said = replay(capsys, path, status=3)
    assert flows == []
    assert f"flowmap: 16 frames of link type {link_type}{name} cannot be decoded; " in said
    assert "not IP" not in said


def test_blocks_without_interface_or_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "odd.pcapng"
    simple = block("<", 3, struct.pack("<I", 74) + packet().data)
    lost = enhanced("<", packet().data, ticks=9, number=5)
    path.write_bytes(a_section(packet(1.0)) + lost + simple + enhanced("<", packet().data, ticks=1_500_000))
    (flow,), said = replay(capsys, path, status=3)
    assert flow["transmitPackets"] == 3
    assert "flowmap: 1 of 4 frames are of an interface that the file does not describe, and do not count\n" in said
    assert "flowmap: 4 frames, 3 packets, 1970-01-01T00:00:01Z to 1970-01-01T00:00:01Z\n" in said
    assert "flowmap: 1 frames have no time and count at the time of the previous frame\n" in said


ARP = Row(bytes(12) + b"\x08\x06" + bytes(46), 60, SECOND)


@pytest.mark.parametrize(
    ("frames", "until", "packets", "said"),
    [
        (
            [packet(1), packet(2), packet(3)],
            "2",
            2,
            "2 frames, 2 packets, 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z",
        ),
        ([packet(1), packet(3), packet(2)], "2.5", 1, "1 frames, 1 packets, 1970-01-01T00:00:01Z to "),
        ([packet(1), ARP, packet(9)], "8", 1, "2 frames, 1 packets, 1970-01-01T00:00:01Z to 1970-01-01T00:00:01Z, not"),
        ([packet(1), packet(2)], "0.5", 0, "0 frames, 0 packets; the rest is after --until"),
        (
            [ARP],
            "8",
            0,
            "1 frames, 0 packets, 1970-01-01T00:00:01Z to 1970-01-01T00:00:01Z, not IP: 1 ARP (ethertype 0x0806)\n",
        ),
        ([packet(1), packet(2)], "8", 2, "2 frames, 2 packets, 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z\n"),
        ([], "8", 0, "0 frames, 0 packets\n"),
    ],
)
def test_until(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, frames: list[Row], until: str, packets: int, said: str
) -> None:
    """Counts are of what was done, and nothing behind the first frame that is later is."""
    path = tmp_path / "capture"
    for data in (pcap(frames), a_section(*frames)):
        path.write_bytes(data)
        flows, told = replay(capsys, path, "--until", until)
        assert sum(flow["transmitPackets"] for flow in flows) == packets
        assert said in told
        assert ("the file has nothing before that time" in told) is (packets == 0)
        stopped = len(frames) > 0 and max(frame.time for frame in frames) > float(until) * SECOND
        assert ("; the rest is after --until\n" in told) is stopped


@pytest.mark.parametrize(("seconds", "state"), [("39.458", "pending"), ("39.5", "attributed")])
def test_until_lets_answers_come_up_to_then(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, seconds: str, state: str
) -> None:
    """Two connections begin and end by 39.458; then somebody is asked, and a turn later it is known."""
    until = f"2026-11-25T04:14:{seconds}Z"
    flows, _ = replay(capsys, HTTP, "--until", until, "--catalog", catalog(tmp_path, "10.9.0.1"))
    assert [flow["state"] for flow in flows if flow["client"]["ip"] == "10.9.0.1"] == [state] * 2


def test_a_catalog_may_know_loopback_addresses_and_nothing_else_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = [packet(1.0 + 2 * n) for n in range(5)]
    ends = bytes((127, 0, 0, 9, 127, 0, 0, 10))
    over_loopback = [frame.data[:26] + ends + frame.data[34:] for frame in frames]
    over_loopback[0] = over_loopback[0][:47] + b"\x02" + over_loopback[0][48:]  # SYN
    path, known = tmp_path / "loopback.pcap", tmp_path / "catalog.json"
    path.write_bytes(pcap([frame._replace(data=data) for frame, data in zip(frames, over_loopback, strict=True)]))
    entry = {"id": "d-1", "name": "orders", "addresses": ["127.0.0.9"], "reads": ["127.0.0.10:9092"]}
    known.write_text(json.dumps({"workspace": "w", "deployments": [entry]}))
    (named,), _ = replay(capsys, path, "--catalog", str(known))
    (alone,), _ = replay(capsys, path)
    assert (named["state"], alone["state"]) == ("attributed", "unknown")


@pytest.mark.parametrize(
    ("setting", "words", "inside"),
    [("inner", [], True), ("outer", [], False), ("inner", ["--tunnels", "outer"], False), (None, [], False)],
)
def test_settings_of_captures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str | None, words: list[str], inside: bool
) -> None:
    config = tmp_path / "flowmap.yaml"
    capture = {"filter": "tcp port 9092"} if setting is None else {"tunnels": setting}
    config.write_text(json.dumps({"collect": {"capture": capture}}))
    flows, said = replay(capsys, CAPTURES / "vxlan.pcap", "-c", str(config), *words)
    assert any(flow["protocol"] == "tcp" for flow in flows) is inside
    assert ("collect.capture.filter has no effect on a replay" in said) is (setting is None)


def test_a_connection_that_is_not_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", str(HTTP), "-o", "json", "--query", "10.9.0.1:1", "10.9.0.2:8000"]
    assert command.main(words) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["cause"] == "no such connection in the file"
    assert "flowmap: --query: no such connection in the file\n" in said.err


@pytest.mark.parametrize("name", ["http.pcap", "redis-dns.pcapng", "fragments.pcap", "vxlan.pcap"])
def test_damaged_files_are_read_as_far_as_they_go(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """Bytes changed anywhere, times and lengths too: one exit status, sound output, and lines, not a traceback."""
    rng, whole = random.Random(name), (CAPTURES / name).read_bytes()
    for _ in range(6):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 5, 40])):
            data[rng.randrange(24, len(data))] = rng.randrange(256)
        path = tmp_path / "damaged"
        path.write_bytes(data)
        status = command.main(["replay", str(path), "-o", "json", "--tunnels", rng.choice(["outer", "inner"])])
        said = capsys.readouterr()
        assert status in (0, 3) or (status == 1 and said.err.count("\n") == 1)
        assert status == 1 or isinstance(json.loads(said.out)["flows"], list)
        assert all(line.startswith("flowmap: ") for line in said.err.splitlines())


@pytest.mark.parametrize("form", ["table", "prometheus"])
def test_other_outputs_conserve(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    assert command.main(["replay", str(HTTP), "-o", form, "--catalog", catalog(tmp_path, "10.9.0.1")]) == 0
    shown = capsys.readouterr().out
    if form == "table":
        assert "conserved yes" in shown
        assert re.search(r"orders +10\.9\.0\.2:8000 +tcp .* attributed", shown)
    else:
        assert 'flowmap_source_records_total{source="replay"} 50' in shown
        assert re.search(r'flowmap_deployment_receive_bytes_total\{.*deployment="orders".*\} 9\d\d\d', shown)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--dry-run"], "--dry-run: works only with a recording"),
        (["--catalog", "x", "--assume-current"], "--assume-current and --catalog exclude each other"),
        (["--catalog", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_words_that_do_not_fit(capsys: pytest.CaptureFixture[str], words: list[str], complaint: str) -> None:
    assert command.main(["replay", str(HTTP), *words]) in (1, 78)
    assert complaint in capsys.readouterr().err
