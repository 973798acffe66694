"""What the kernel's filter lets through, against the filter of flows that decides."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.flows.filter import Filter, Pattern
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.address import Address
from flowmap.sources.capture.filter import compile_filter
from flowmap.wire.packets.bpf import LIMIT, Assembler, Program, capture_program, decode, encode
from flowmap.wire.packets.tpacket import Hardware, PacketType

SNAP = 96


def run(program: Program, frame: bytes, *, net: int = 14, facts: dict[int, int]) -> int:
    """A BPF machine (the kernel's, as far as our programs need it): the bytes that are kept."""
    a = x = at = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x06:
            return k
        if code in (0x20, 0x28, 0x30, 0x48, 0xB1):
            size = {0x20: 4, 0x28: 2, 0x30: 1, 0x48: 2, 0xB1: 1}[code]
            if k >= 0xFFFF_F000:
                a = facts[k - 0xFFFF_F000]
                continue
            place = (k - 0xFFF0_0000 + net if k >= 0xFFF0_0000 else k) + (x if code == 0x48 else 0)
            if place + size > len(frame):
                return 0
            value = int.from_bytes(frame[place : place + size])
            if code == 0xB1:
                x = 4 * (value & 15)
            else:
                a = value
        elif code == 0x54:
            a &= k
        elif code == 0x05:
            at += k
        elif code == 0x15:
            at += yes if a == k else no
        elif code == 0x45:
            at += yes if a & k else no
        else:
            raise AssertionError(hex(code))


def frame_of(
    source: str, source_port: int, destination: str, destination_port: int, protocol: int
) -> tuple[bytes, int]:
    """A frame and its EtherType."""
    ends = [Address.parse(source), Address.parse(destination)]
    if ends[0].is_v4:
        header = struct.pack("!BBHHHBBH", 0x46, 0, 48, 0, 0, 64, protocol, 0)
        header += b"".join(struct.pack("!I", end.low & 0xFFFF_FFFF) for end in ends) + bytes(4)
        kind = 0x0800
    else:
        header = struct.pack("!IHBB", 6 << 28, 20, protocol, 64) + b"".join(struct.pack("!QQ", *end) for end in ends)
        kind = 0x86DD
    return bytes(12) + struct.pack("!H", kind) + header + struct.pack("!HH", source_port, destination_port) + bytes(
        16
    ), kind


def facts(kind: int, *, interface: int = 2, hardware: int = Hardware.ETHER, way: int = 0) -> dict[int, int]:
    return {0: kind, 4: way, 8: interface, 28: hardware}


v4 = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.168.0.1"])
v6 = st.sampled_from(["2001:db8::1", "2001:db8:1::1", "::1"])
pairs = st.one_of(st.tuples(v4, v4), st.tuples(v6, v6))
ports = st.sampled_from([22, 53, 9092, 40000])
patterns = st.lists(
    st.sampled_from(
        ["10.0.0.0/24", "10.0.0.1", "2001:db8::/47", "::/0", "0.0.0.0/0", "tcp/9092", "udp/53", "10.0.0.0/8:9092"]
        + ["[2001:db8::]/32:22", "[::]/0:22", "icmp/1", "::ffff:0:0/96", "::/64"]
    ),
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(pairs, ports, ports, st.sampled_from([1, 6, 17, 47]), patterns, patterns)
def test_nothing_that_could_count_is_left_out(
    ends: tuple[str, str], one: int, two: int, protocol: int, include: list[str], exclude: list[str]
) -> None:
    if protocol not in (6, 17):
        one = two = 0
    program = capture_program(snap=SNAP, include=[*map(Pattern.parse, include)], exclude=[*map(Pattern.parse, exclude)])
    frame, kind = frame_of(ends[0], one, ends[1], two, protocol)
    kept = run(program, frame, facts=facts(kind))
    assert kept in (0, SNAP)
    batch = FlowBatch(2)  # whichever end is the client
    for n, (client, server) in enumerate((((ends[0], one), (ends[1], two)), ((ends[1], two), (ends[0], one)))):
        for name, (address, port) in (("client", client), ("server", server)):
            for prefix in ("", "translated_"):
                high, low = Address.parse(address)
                getattr(batch, f"{prefix}{name}_high")[n], getattr(batch, f"{prefix}{name}_low")[n] = high, low
                getattr(batch, f"{prefix}{name}_port")[n] = port
        batch.protocol[n] = protocol
    counts = ~Filter(include, exclude).ignores(batch)
    assert kept or not counts.any()
    if not include and all(Pattern.parse(text).port is None for text in exclude):
        assert bool(kept) == bool(counts.any()), "networks to leave out are left out by the kernel"


def test_a_later_fragment_is_kept_where_its_ports_would_matter() -> None:
    program = capture_program(snap=SNAP, include=[Pattern.parse("udp/53")])
    frame, kind = frame_of("10.0.0.1", 40000, "10.0.0.2", 99, 17)
    assert run(program, frame, facts=facts(kind)) == 0
    assert run(program, frame[:20] + b"\x00\x10" + frame[22:], facts=facts(kind)) == SNAP


@pytest.mark.parametrize("kind", [0x0806, 0x8100, 0x8847, 0x8864])
def test_what_is_not_ip_is_kept(kind: int) -> None:
    program = capture_program(snap=SNAP, include=[Pattern.parse("tcp/1")], exclude=[Pattern.parse("0.0.0.0/0")])
    assert run(program, bytes(60), facts=facts(kind)) == SNAP


def test_interfaces_and_loopback() -> None:
    program = capture_program(snap=SNAP, interfaces=[2, 5])
    assert [run(program, bytes(60), facts=facts(0, interface=n)) for n in (1, 2, 5, 6)] == [0, SNAP, SNAP, 0]
    for hardware, kept in ((Hardware.ETHER, SNAP), (Hardware.LOOPBACK, 0)):
        assert run(program, bytes(60), facts=facts(0, hardware=hardware, way=PacketType.OUTGOING)) == kept
    assert run(capture_program(snap=SNAP, interfaces=[]), bytes(60), facts=facts(0)) == 0


def test_too_many_patterns_are_left_to_user_space() -> None:
    many = [Pattern.parse(f"10.{n // 256}.{n % 256}.0/24:80") for n in range(2000)]
    program = capture_program(snap=SNAP, interfaces=[2], include=many)
    assert len(program) < LIMIT
    frame, kind = frame_of("172.16.0.1", 1, "172.16.0.2", 2, 6)
    assert run(program, frame, facts=facts(kind)) == SNAP
    assert run(program, frame, facts=facts(kind, interface=3)) == 0


def test_a_far_jump() -> None:
    code = Assembler()
    code.put(0x20, 0)
    code.when(7, "far")
    for _ in range(1000):
        code.put(0x54, 0xFF)
    code.put(0x06, 1)
    code.label("far")
    code.put(0x06, 2)
    program = code.assemble()
    assert run(program, struct.pack("!I", 7), facts={}) == 2
    assert run(program, struct.pack("!I", 8), facts={}) == 1
    assert decode(encode(program)) == program


def test_a_filter_of_tcpdump_within_ours() -> None:
    user = compile_filter("tcp port 9092 or udp")
    program = capture_program(snap=SNAP, user=user)
    for protocol, port, kept in ((6, 9092, SNAP), (6, 9093, 0), (17, 1, SNAP)):
        frame, kind = frame_of("10.0.0.1", 40000, "10.0.0.2", port, protocol)
        assert run(program, frame, facts=facts(kind)) == kept
        assert run(program, frame[14:], net=0, facts=facts(kind, hardware=65534)) == kept
