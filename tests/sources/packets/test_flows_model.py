"""Flows from packets against a slow model that looks at one packet at a time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address
from flowmap.sources.packets import flows as packet_flows
from flowmap.sources.packets.flows import PacketFlows
from flowmap.wire.packets.packets import Mark
from tests.support.packets import ACK, FIN, RST, SYN, Packet, packets_of

End = tuple[str, int]
Told = tuple[str, int, str, int, int, tuple[int, int], tuple[int, int], bool, bool, bool, bool, Any]
"""Client, server, protocol, bytes and packets sent by each, guessed, joined, ending, over, and when."""
EPHEMERAL = (32_768, 60_999)


@dataclass
class Flow:
    """What the model knows of one flow."""

    client: End
    server: End
    protocol: int
    guessed: bool
    joined: bool
    sent: Counter[End] = field(default_factory=Counter)
    packets: Counter[End] = field(default_factory=Counter)
    fins: set[End] = field(default_factory=set)
    reset: bool = False
    talked: set[End] = field(default_factory=set)
    sequence: dict[End, int] = field(default_factory=dict)
    last: float = -math.inf
    began: tuple[float, float] = (0.0, 0.0)
    """The time of the packet before its first one, whatever its flow, and of that."""
    ended: tuple[float, float] | None = None
    """The same of its first FIN or RST, else of what ended it."""
    client_sent: float = -math.inf

    def timeout(self) -> float:
        replied = len(self.packets) == 2
        if self.protocol in (1, 58):
            return 30
        if self.protocol == 17:
            return 120 if replied else 30
        if self.protocol != 6:
            return 600
        if self.reset:
            return 10
        if self.fins:
            return 120 if len(self.fins) == 1 else 30
        return 432_000 if replied or self.guessed else 120

    def told(self, *, over: bool) -> Told:
        amount = self.sent[self.client], self.sent[self.server]
        packets = self.packets[self.client], self.packets[self.server]
        if self.client == self.server:  # connected to itself: both directions are one
            amount, packets = (amount[0], 0), (packets[0], 0)
        ending = bool(self.fins or self.reset)
        sent = None if self.client == self.server else self.client_sent
        facts = (self.guessed, self.joined, ending, over, (self.began, self.ended, sent))
        return (*self.client, *self.server, self.protocol, amount, packets, *facts)


def rank(port: int) -> int:
    """How much a port looks like a client's."""
    return (EPHEMERAL[0] <= port <= EPHEMERAL[1] or port >= 49_152) - (port < 512)


def refuses(packet: Packet) -> bool:
    """Whether it is a RST that answers a SYN."""
    return bool(packet.tcp_flags & (SYN | RST) == RST and packet.sequence)


def opener(packet: Packet) -> End:
    """Who opened the connection, if the packet has to do with that."""
    ends = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    to_opener = packet.tcp_flags & ACK and (packet.tcp_flags & SYN or refuses(packet))
    end = ends[1] if to_opener else ends[0]
    itself = ends[0] == ends[1]  # connected to itself: a number for each direction
    return (end[0], end[1] + 100_000) if itself and to_opener else end


def begin(packet: Packet, listened: float) -> Flow:
    """A flow that begins with this packet."""
    source, destination = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
    ranks = [rank(port) for port in (source[1], destination[1])]
    by_ports = (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])
    if by_ports == 0 and packet.protocol == 6:
        by_ports = (source[1] > destination[1]) - (source[1] < destination[1])
    opens, handshake = by_ports >= 0, bool(packet.tcp_flags & SYN or refuses(packet))
    if handshake:
        opens = not packet.tcp_flags & ACK
    client, server = (source, destination) if opens else (destination, source)
    guessed = not handshake and (packet.protocol == 6 or by_ports != 1)
    joined = packet.protocol == 6 or listened <= {17: 120, 1: 30, 58: 30}.get(packet.protocol, 600)
    return Flow(client, server, packet.protocol, guessed, guessed and joined)


@dataclass
class Model:
    """The rules as the module's heading tells them."""

    flows: dict[tuple[frozenset[End], int], Flow] = field(default_factory=dict)
    where: dict[tuple[End, End, int], tuple[int, float]] = field(default_factory=dict)
    done: list[Told] = field(default_factory=list)
    now: float = -math.inf
    since: float = math.inf
    duplicates: int = 0

    def take(self, packet: Packet) -> None:
        before = max(self.now, packet.time) if math.isinf(self.now) else self.now
        self.now = max(self.now, packet.time)
        self.since = min(self.since, self.now)
        source, destination = (packet.source, packet.source_port), (packet.destination, packet.destination_port)
        key, way = (frozenset((source, destination)), packet.protocol), (source, destination, packet.protocol)
        flow = self.flows.get(key)
        interface, heard = self.where.get(way, (packet.interface, -math.inf)) if flow else (packet.interface, 0)
        if interface != packet.interface and self.now - heard <= 1:
            self.duplicates += 1
            return
        if flow is None:
            self.where.pop((destination, source, packet.protocol), None)
        self.where[way] = packet.interface, self.now
        tcp_flags = packet.tcp_flags
        if flow is None or self.now - flow.last > flow.timeout() or self._handshake_again(flow, source, packet):
            if flow is not None:
                self._close(flow, before)
            flow = self.flows[key] = begin(packet, self.now - self.since)
            flow.began = before, self.now
        flow.last = self.now
        if tcp_flags & (FIN | RST) and flow.ended is None:
            flow.ended = before, self.now
        if source == flow.client and flow.ended is None:
            flow.client_sent = self.now
        flow.sent[source] += packet.length
        flow.packets[source] += 1
        if tcp_flags & FIN:
            flow.fins.add(source)
        flow.reset |= bool(tcp_flags & RST)
        if not packet.flags & Mark.FLAGS_UNKNOWN and tcp_flags & (SYN | ACK) != SYN:
            flow.talked.add(source)
        if packet.sequence and not (refuses(packet) and flow.guessed):
            flow.sequence.setdefault(opener(packet), packet.sequence)

    def _handshake_again(self, flow: Flow, source: End, packet: Packet) -> bool:
        if not packet.tcp_flags & SYN:
            return False
        known, number = flow.sequence.get(opener(packet), 0), packet.sequence
        if flow.guessed and opener(packet) != flow.client:
            return True
        if known and number:
            return not known <= number < known + (65_536 if packet.tcp_flags & ACK else 1)
        later = flow.fins or flow.reset or source in flow.talked
        return bool(flow.guessed or (not packet.tcp_flags & ACK and later))

    def _close(self, flow: Flow, before: float) -> None:
        silent = flow.last + flow.timeout()
        end = (flow.last, silent) if silent < self.now else (before, self.now)
        flow.ended = flow.ended or end
        self.done.append(flow.told(over=True))

    def expire(self) -> None:
        for key, flow in list(self.flows.items()):
            if self.now - flow.last > flow.timeout():
                self._close(flow, self.now)
                del self.flows[key]

    def all(self, *, timed: bool) -> list[Told]:
        told = self.done + [flow.told(over=False) for flow in self.flows.values()]
        return sorted(told if timed else [(*one[:-1], None) for one in told], key=repr)


class Listener:
    """Keeps the last record of every flow, and looks at how they follow one another."""

    def __init__(self) -> None:
        self.flows: dict[int, Told] = {}
        self.began: dict[int, tuple[float, float]] = {}
        self.ended: dict[int, tuple[float, float]] = {}

    def hear(self, batches: list[FlowBatch]) -> None:
        for batch in batches:
            assert len(set(batch.id.tolist())) == len(batch)
            for n in range(len(batch)):
                self._hear(batch, n)

    def _hear(self, batch: FlowBatch, n: int) -> None:
        kind, flags, number = RecordKind(batch.kind[n]), Flag(int(batch.flags[n])), int(batch.id[n])
        before = self.flows.get(number)
        assert before is None or not before[-2], "nothing comes after the end"
        assert (before is None) == (kind is RecordKind.OPENED or (kind is RecordKind.UPDATED and before is None))
        assert (kind is RecordKind.OPENED) <= (Flag.PICKED_UP not in flags)
        client = str(Address(int(batch.client_high[n]), int(batch.client_low[n])))
        server = str(Address(int(batch.server_high[n]), int(batch.server_low[n])))
        sent = int(batch.transmit_bytes[n]), int(batch.receive_bytes[n])
        packets = int(batch.transmit_packets[n]), int(batch.receive_packets[n])
        if (client, batch.client_port[n]) == (server, batch.server_port[n]):
            sent, packets = (sum(sent), 0), (sum(packets), 0)
        when = self._when(batch, n, number)
        if when and (client, batch.client_port[n]) == (server, batch.server_port[n]):
            when = (*when[:2], None)
        self.flows[number] = (
            client,
            int(batch.client_port[n]),
            server,
            int(batch.server_port[n]),
            int(batch.protocol[n]),
            sent,
            packets,
            Flag.GUESSED in flags,
            Flag.PICKED_UP in flags,
            Flag.ENDING in flags,
            kind is RecordKind.CLOSED,
            when,
        )
        assert Flag.COUNTERS in flags
        assert (Flag.REPLIED in flags) == all(self.flows[number][6])

    def _when(self, batch: FlowBatch, n: int, number: int) -> Any:
        if batch.moments is None:
            return None
        instants = float(batch.moments.before[n]), float(batch.moments.by[n])
        self.began.setdefault(number, instants)
        if batch.kind[n] == RecordKind.CLOSED or batch.flags[n] & Flag.ENDING:
            self.ended.setdefault(number, instants)
        return self.began[number], self.ended.get(number), float(batch.moments.sent[n])

    def all(self) -> list[Told]:
        return sorted(self.flows.values(), key=repr)


ends = st.sampled_from(
    [("10.0.0.1", 40000), ("10.0.0.1", 9092), ("10.1.0.1", 9092), ("10.1.0.1", 50000), ("2001:db8::1", 9092)]
    + [("2001:db8::ff:0:0:1", 40000), ("::1", 9092), ("10.0.0.1", 0)]
)
gaps = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.5, 1.0, 1.5, 9.0, 11.0, 31.0, 121.0, 700.0, -0.5])
steps = st.tuples(
    ends,
    ends,
    st.sampled_from([6, 6, 6, 6, 17, 1, 132]),
    st.sampled_from([ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, SYN | FIN, 0, None]),
    st.integers(20, 70_000),
    gaps,
    st.sampled_from([1, 1, 1, 2, 3]),
    st.sampled_from([1, 1, 2, 90_000, 0]),
)
Row = tuple[End, End, int, int | None, int, float, int, int]


def made(rows: list[Row]) -> list[Packet]:
    """Packets at times that are sums of the gaps."""
    now, packets = 1000.0, []
    for source, destination, protocol, tcp_flags, length, gap, interface, number in rows:
        now += gap
        mark = Mark.FLAGS_UNKNOWN if protocol == 6 and tcp_flags is None else Mark(0)
        flags = tcp_flags if protocol == 6 and tcp_flags is not None else 0
        tells = mark or flags & SYN or flags & (RST | ACK) == RST | ACK
        sequence = number if tells else 0
        one = Packet(*source, *destination, protocol, flags, length, now, interface, flags=mark, sequence=sequence)
        packets.append(one)
    return packets


def run(packets: list[Packet], cuts: list[int], report_every: float, timed: bool) -> tuple[Listener, PacketFlows]:
    flows, listener = PacketFlows(1000, report_every=report_every, timed=timed), Listener()
    for start, end in zip([0, *cuts], [*cuts, len(packets)], strict=True):
        part = packets[start:end]
        if part:
            times, interfaces = np.array([p.time for p in part]), np.array([p.interface for p in part], np.int32)
            one = all(p.interface == part[0].interface for p in part)
            listener.hear(flows.take(packets_of(*part), times, part[0].interface if one else interfaces))
    listener.hear([flows.report()])
    return listener, flows


# A row that an IPv6 flow had, taken by an IPv4 flow, and looked for among IPv6 packets.
_V4, _V6 = ("10.0.0.1", 40000), ("2001:db8::1", 9092)
_REUSED = [
    (_V4, _V6, 6, RST, 24, 0.0, 2, 1),
    (_V4, _V4, 6, ACK, 26, 42.0, 2, 1),
    (_V4, _V6, 6, ACK, 27, 31.0, 2, 1),
    (_V4, _V4, 6, ACK, 25, 1.5, 1, 1),
]


@settings(max_examples=300, deadline=None)
@example(_REUSED, [], 0.0, False)
@given(
    st.lists(steps, min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
    st.sampled_from([0.0, 5.0]),
    st.booleans(),
)
def test_any_packets_in_any_pieces(rows: list[Row], cuts: list[int], tell: float, timed: bool) -> None:
    packets = made(rows)
    model = Model()
    for packet in packets:
        model.take(packet)
    listener, flows = run(packets, sorted(min(cut, len(packets)) for cut in cuts), tell, timed)
    listener.hear(flows.expire(model.now + packet_flows.EXPIRE_EVERY))
    model.now += packet_flows.EXPIRE_EVERY
    model.expire()
    assert listener.all() == model.all(timed=timed)
    assert flows.counts.duplicates == model.duplicates
    assert len(flows) == len(model.flows)
