"""Flows from packets: who is the client, what ends a flow, and what there is no room for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from flowmap.flows.columns import Row
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.table import FlowTable
from flowmap.sources.packets.flows import PacketFlows
from flowmap.sources.packets.fragments import TIMEOUT
from flowmap.wire.packets.packets import Mark
from tests.support.packets import ACK, FIN, RST, SYN, Packet, packets_of

EPHEMERAL = 40_000


def take(flows: PacketFlows, *packets: Packet) -> list[FlowBatch]:
    interfaces = np.array([packet.interface for packet in packets], np.int32)
    return flows.take(packets_of(*packets), np.array([packet.time for packet in packets]), interfaces)


def kinds(batches: list[FlowBatch]) -> list[RecordKind]:
    return [RecordKind(kind) for batch in batches for kind in batch.kind.tolist()]


def packet(
    source_port: int, destination_port: int, tcp_flags: int = ACK, protocol: int = 6, time: float = 0, sequence: int = 0
) -> Packet:
    """A packet between two hosts, of which one has the well-known ports."""
    ends = ("10.0.0.2", source_port, "10.0.0.1", destination_port)
    if source_port >= 1024 or source_port == destination_port:
        ends = ("10.0.0.1", source_port, "10.0.0.2", destination_port)
    return Packet(*ends, protocol, tcp_flags, time=time, sequence=sequence)


@pytest.mark.parametrize(
    ("first", "client_port", "guessed"),
    [
        (packet(9092, 9093, SYN), 9092, False),
        (packet(9092, 9093, SYN | ACK), 9093, False),
        (packet(9092, 9093), 9093, True),  # the higher port
        (packet(9093, 9092), 9093, True),
        (packet(EPHEMERAL, 61_000), 61_000, True),  # both are given to clients: the higher port
        (packet(9092, 49_152), 49_152, True),
        (packet(49_151, 9092), 49_151, True),
        (packet(2246, 1988, RST | ACK, sequence=7), 1988, False),  # it refuses a SYN that comes later
        (packet(2246, 1988, RST | ACK), 2246, True),
        (packet(1988, 53, 0, 17), 1988, False),
        (packet(53, 1988, 0, 17), 1988, True),
        (packet(700, 53, 0, 17), 700, False),
        (packet(700, 2049, 0, 17), 700, True),  # a privileged client: the first sender
        (packet(49_152, 1988, 0, 17), 49_152, False),
        (packet(1988, 65_535, 0, 17), 65_535, True),
        (packet(EPHEMERAL, 53, 0, 17), EPHEMERAL, False),
        (packet(53, EPHEMERAL, 0, 17), EPHEMERAL, True),
        (packet(123, 124, 0, 17), 123, True),  # the first sender
        (packet(EPHEMERAL, EPHEMERAL + 1, 0, 17), EPHEMERAL, True),
    ],
)
def test_who_is_the_client(first: Packet, client_port: int, guessed: bool) -> None:
    (batch,) = take(PacketFlows(10), first)
    assert batch.client_port.tolist() == [client_port]
    assert bool(batch.flags[0] & Flag.GUESSED) == guessed
    assert kinds([batch]) == [RecordKind.UPDATED if guessed else RecordKind.OPENED]


@pytest.mark.parametrize(
    ("protocol", "silence", "new"),
    [(1, 30, False), (1, 31, True), (17, 120, False), (17, 121, True), (6, 10**5, False)],
)
def test_what_never_shakes_hands_is_new_after_a_long_enough_silence(protocol: int, silence: int, new: bool) -> None:
    flows = PacketFlows(10)
    take(flows, packet(1, 2, 0, 132, time=0.0))
    (batch,) = (
        one for one in take(flows, packet(9092, 9092, 0, protocol, time=float(silence))) if protocol in one.protocol
    )
    assert (Flag.PICKED_UP not in Flag(int(batch.flags[0])), batch.kind[0] == RecordKind.OPENED) == (new, new)
    assert Flag.GUESSED in Flag(int(batch.flags[0]))
    close_one = partial(flows.close_on, 1)
    gaps: list[Callable[[], object]] = [flows.mark_doubtful, flows.close_all, flows.note_gap, close_one]
    for number, gap in enumerate(gaps):
        gap()
        ends = (f"10.0.1.{number}", 9092, "10.0.0.4", 9092)
        after = take(flows, Packet(*ends, protocol, 0, time=silence + 1.0))
        assert any(Flag.PICKED_UP in Flag(int(flags)) for one in after for flags in one.flags), (
            "its beginning may be lost"
        )


def test_an_end_is_told_at_once_and_the_flow_leaves_after_a_while() -> None:
    flows = PacketFlows(10, report_every=60.0)
    take(flows, packet(EPHEMERAL, 80, SYN), packet(80, EPHEMERAL, SYN | ACK))
    assert take(flows, packet(EPHEMERAL, 80, time=0.5)) == []
    (ending,) = take(flows, packet(EPHEMERAL, 80, FIN | ACK, time=0.6))
    assert ending.flags[0] & Flag.ENDING and ending.transmit_packets[0] == 3
    assert take(flows, packet(80, EPHEMERAL, FIN | ACK, time=0.7)) == []
    assert flows.expire(30.0) == []
    (closed,) = flows.expire(31.0)
    assert kinds([closed]) == [RecordKind.CLOSED]
    assert (closed.transmit_bytes[0], closed.receive_bytes[0]) == (300, 200)
    assert len(flows) == 0


@pytest.mark.parametrize(
    ("packets", "seconds"),
    [
        ([packet(EPHEMERAL, 80, SYN)], 120),
        ([packet(EPHEMERAL, 80, SYN), packet(80, EPHEMERAL, RST)], 10),
        ([packet(EPHEMERAL, 80, SYN), packet(80, EPHEMERAL, FIN)], 120),
        ([packet(EPHEMERAL, 80, SYN), packet(80, EPHEMERAL, SYN | ACK)], 432_000),
        ([packet(EPHEMERAL, 80)], 432_000),
        ([packet(EPHEMERAL, 53, 0, 17)], 30),
        ([packet(EPHEMERAL, 53, 0, 17), packet(53, EPHEMERAL, 0, 17)], 120),
        ([packet(0, 0, 0, 1)], 30),
        ([packet(0, 0, 0, 47)], 600),
    ],
)
def test_silence_ends_a_flow(packets: list[Packet], seconds: float) -> None:
    flows = PacketFlows(10)
    take(flows, *packets)
    assert flows.expire(seconds - 1.5) == []
    assert flows.expire(seconds) == []
    assert kinds(flows.expire(seconds + 1)) == [RecordKind.CLOSED]


def test_what_there_is_no_room_for_is_told_all_the_same() -> None:
    flows, ends = PacketFlows(3), []
    for port in range(5):
        ends += take(flows, packet(EPHEMERAL + port, 80, SYN, time=port / 10))
        ends += take(flows, packet(80, EPHEMERAL + port, SYN | ACK if port < 2 else RST, time=port / 10))
    assert len(flows) == 3
    assert flows.counts.shed == 2
    over = [port for batch in ends for kind, port in zip(batch.kind, batch.client_port, strict=True) if kind == 4]
    assert over == [EPHEMERAL + 2, EPHEMERAL + 3]  # those that are over, the longest silent first
    table = FlowTable(10)
    grown = sum(int(table.apply(batch, now=1, read_at=0).deltas[:, :2].sum()) for batch in ends)
    assert grown == sum(packet.length for packet in [Packet()] * 10)


def test_later_fragments_are_of_the_flow_of_the_first() -> None:
    first = Packet("10.0.0.1", 5000, "10.0.0.2", 53, 17, flags=Mark.FRAGMENT_FIRST, fragment_id=7)
    later = Packet("10.0.0.1", 0, "10.0.0.2", 0, 17, flags=Mark.FRAGMENT_LATER, fragment_id=7)
    lone = Packet("10.0.0.1", 0, "10.0.0.2", 0, 17, flags=Mark.FRAGMENT_LATER, fragment_id=8)
    flows = PacketFlows(10)
    take(flows, lone, first, later)
    batches = take(flows, later)
    assert [batch.client_port.tolist() for batch in batches] == [[5000]]
    assert batches[0].transmit_packets.tolist() == [3]
    assert flows.counts.lone_fragments == 1
    take(flows, Packet("10.0.0.1", 0, "10.0.0.2", 0, 17, flags=Mark.FRAGMENT_LATER, fragment_id=7, time=TIMEOUT + 1))
    assert flows.counts.lone_fragments == 2


def test_after_a_loss_a_flow_is_alive_only_when_it_sends() -> None:
    flows, table = PacketFlows(10), FlowTable(10)
    table.begin_read()
    table.end_read(complete=True, now=0.0)
    for batch in take(flows, packet(EPHEMERAL, 80, SYN)):
        table.apply(batch, now=1.0, read_at=0.5)
    rows = table.live()
    table.caught_up(5.0)
    assert table.alive_until(rows).tolist() == [5.0]
    table.apply(flows.mark_doubtful(), now=6.0, read_at=5.5)
    assert len(flows.mark_doubtful()) == 0, "said once"
    table.caught_up(7.0)
    assert table.alive_until(rows).tolist() == [0.5]
    for batch in take(flows, packet(EPHEMERAL, 80, time=8.0)):
        table.apply(batch, now=8.0, read_at=7.5)
    table.caught_up(9.0)
    assert table.alive_until(rows).tolist() == [9.0]


def test_a_flow_picked_up_in_the_middle_may_be_old_and_counts_from_there() -> None:
    flows, table = PacketFlows(10), FlowTable(10)
    (batch,) = take(flows, packet(EPHEMERAL, 80))
    applied = table.apply(batch, now=1.0, read_at=0.5, born_after=0.4)  # before the first full read is over, even
    assert applied.deltas.tolist() == [[100, 0, 1, 0]]
    assert table.columns.born_after[applied.opened].tolist() == [-np.inf]
    assert table.columns.flags[applied.opened] & Row.PICKED_UP
