"""Times of the events of timed flows, and the client's packets that prove it exists."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.sources.packets.flows import PacketFlows
from tests.support.packets import ACK, FIN, RST, SYN, Packet, packets_of

NEVER = -np.inf


def client(time: float, tcp_flags: int = ACK) -> Packet:
    return Packet(time=time, tcp_flags=tcp_flags, sequence=7 * bool(tcp_flags & SYN))


def server(time: float, tcp_flags: int = ACK) -> Packet:
    return Packet("10.1.0.1", 9092, "10.0.0.1", 40000, time=time, tcp_flags=tcp_flags)


def events(packets: list[Packet], until: float) -> list[tuple[RecordKind, float, float, float]]:
    """Kind of each record, between which times its event was, and the client's last proof."""
    flows = PacketFlows(10, timed=True)
    batches = flows.take(packets_of(*packets), np.array([packet.time for packet in packets]))
    found = []
    for batch in [*batches, *flows.expire(until)]:
        assert batch.moments is not None
        columns = (batch.kind, batch.moments.before, batch.moments.by, batch.moments.sent)
        found += [(RecordKind(kind), *times) for kind, *times in zip(*(one.tolist() for one in columns), strict=True)]
    return found


@pytest.mark.parametrize(
    ("packets", "last"),
    [
        # A flow that times out ends between its last packet and the timeout after it, whenever that is noticed.
        ([client(10, SYN), client(15)], (RecordKind.CLOSED, 15, 135, 15)),
        ([client(10, SYN), server(12, SYN | ACK)], None),
        ([client(10, SYN), server(12, SYN | ACK), client(13, FIN | ACK)], (RecordKind.CLOSED, 13, 133, 10)),
        ([client(10, SYN), client(11), server(12, RST)], (RecordKind.CLOSED, 12, 22, 11)),
        # What comes after a FIN or RST may be from another host with the same address.
        ([client(10, SYN), server(11, FIN | ACK), client(14)], (RecordKind.CLOSED, 14, 134, 10)),
        ([client(10, RST), client(11)], (RecordKind.CLOSED, 11, 21, NEVER)),
    ],
)
def test_ends_and_proof(packets: list[Packet], last: tuple[RecordKind, float, float, float] | None) -> None:
    found = [event for event in events(packets, 1000.0) if event[0] == RecordKind.CLOSED]
    assert found == ([] if last is None else [last])


@pytest.mark.parametrize(
    ("packets", "first"),
    [
        ([client(10, SYN), server(11)], (RecordKind.OPENED, 10, 10, 10)),
        ([server(10, SYN | ACK), client(11)], (RecordKind.OPENED, 10, 10, NEVER)),
        ([client(10, FIN | ACK)], (RecordKind.UPDATED, 10, 10, NEVER)),
        ([client(10)], (RecordKind.UPDATED, 10, 10, 10)),
    ],
)
def test_a_first_packet_proves_only_its_sender(
    packets: list[Packet], first: tuple[RecordKind, float, float, float]
) -> None:
    assert events(packets, 11.0)[0] == first
