"""Which packets start another connection on the same endpoints, and which are copies or answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.sources.packets.flows import PacketFlows
from flowmap.wire.packets.packets import Mark
from tests.sources.packets.test_flows import EPHEMERAL, kinds, packet, take
from tests.support.packets import ACK, FIN, RST, SYN, Packet


def test_a_handshake_on_a_flow_picked_up_in_the_middle_begins_another() -> None:
    flows = PacketFlows(10)
    (old,) = take(flows, packet(9092, 9093))
    closed, new = take(flows, packet(9092, 9093, SYN, time=1))
    assert kinds([old, closed, new]) == [RecordKind.UPDATED, RecordKind.CLOSED, RecordKind.OPENED]
    assert (old.id == closed.id).all() and (new.id != old.id).all()
    assert (old.client_port[0], new.client_port[0]) == (9093, 9092)


def test_a_client_that_vanished_does_not_go_on_in_who_has_its_address_next() -> None:
    """No FIN, no RST, no packet is missing: a host that was switched off, and another with its address and port."""
    flows = PacketFlows(10)
    handshake = [packet(EPHEMERAL, 80, SYN), packet(80, EPHEMERAL, SYN | ACK), packet(EPHEMERAL, 80)]
    take(flows, handshake[0], *handshake[:2])
    assert len(flows) == 1 and flows.next_id == 2, "a SYN that is sent again is of the same connection"
    take(flows, handshake[2])
    closed, new = take(flows, packet(EPHEMERAL, 80, SYN, time=1))
    assert kinds([closed, new]) == [RecordKind.CLOSED, RecordKind.OPENED]
    assert (closed.transmit_packets[0], new.transmit_packets[0]) == (3, 1)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize(("ports", "tcp_flags"), [((EPHEMERAL, 80), SYN), ((80, EPHEMERAL), SYN | ACK)])
def test_a_handshake_with_another_sequence_number_is_not_one_sent_again(
    ports: tuple[int, int], tcp_flags: int, answered: bool
) -> None:
    """Who sent the first may be gone, and somebody else have the address: a SYN that nobody answered is no claim."""
    flows = PacketFlows(10)

    def sent(sequence: int, time: float) -> Packet:
        return dataclasses.replace(packet(*ports, tcp_flags, time=time), sequence=sequence)

    take(flows, sent(111, 0.0), sent(111, 1.0))
    if answered and tcp_flags == SYN:
        take(flows, packet(*ports[::-1], SYN | ACK, time=1.5))
    assert flows.next_id == 2
    closed, new = take(flows, sent(99_000, 2.0), sent(99_000, 3.0))
    assert kinds([closed, new]) == [RecordKind.CLOSED, RecordKind.OPENED]
    assert (closed.client_port[0], new.client_port[0]) == (EPHEMERAL, EPHEMERAL)
    assert new.transmit_packets[0] + new.receive_packets[0] == 2


C, S = EPHEMERAL, 80
OTHER = 99_000


@pytest.mark.parametrize(
    ("packets", "counts"),
    [
        ([(C, S, SYN, 7), (S, C, SYN | ACK, 7), (C, S, ACK, 0), (C, S, SYN, 7), (C, S, ACK, 0)], [(4, 1)]),  # a copy
        ([(C, S, SYN, 7), (C, S, ACK, 0), (C, S, SYN, OTHER)], [(2, 0), (1, 0)]),
        ([(C, S, SYN, 7), (C, S, FIN | ACK, 0), (C, S, SYN, 7)], [(3, 0)]),  # after the end, too
        ([(C, S, SYN, 7), (C, S, FIN | ACK, 0), (C, S, SYN, OTHER)], [(2, 0), (1, 0)]),
        ([(C, S, SYN, 0), (C, S, FIN | ACK, 0), (C, S, SYN, 0)], [(2, 0), (1, 0)]),  # no number to go by
        ([(C, S, SYN, 7), (S, C, SYN | ACK, 7), (C, S, SYN, 7), (S, C, SYN | ACK, 7)], [(2, 2)]),
        ([(C, S, SYN, 7), (S, C, SYN | ACK, OTHER)], [(1, 0), (0, 1)]),  # an answer to another SYN
        ([(C, S, SYN, 7), (S, C, SYN | ACK, 7 + 1400), (C, S, SYN, 7)], [(2, 1)]),  # data with the SYN
        ([(S, C, SYN | ACK, 7), (C, S, SYN, 7)], [(1, 1)]),  # out of order
        ([(S, C, RST | ACK, 7), (C, S, SYN, 7)], [(1, 1)]),
        ([(S, C, RST | ACK, 7), (C, S, SYN, OTHER)], [(0, 1), (1, 0)]),
        ([(C, S, SYN, 7), (S, C, RST | ACK, 7), (C, S, SYN, 7), (S, C, RST | ACK, 7)], [(2, 2)]),  # tried again
        ([(C, S, ACK, 0), (S, C, RST | ACK, 7), (C, S, SYN, 7)], [(1, 1), (1, 0)]),  # of an older one
        ([(C, S, SYN, 7), (S, C, SYN, 8), (C, S, SYN | ACK, 8), (S, C, SYN | ACK, 7)], [(2, 2)]),  # both opened it
        ([(C, S, SYN, 7), (S, C, SYN | ACK, 7), (S, C, SYN, 8)], [(1, 1), (0, 1)]),  # the other end opens another
        ([(C, S, None, 7), (S, C, SYN | ACK, 7), (C, S, ACK, 0)], [(2, 1)]),  # flags that were not captured
        ([(C, S, None, 0), (S, C, SYN | ACK, 7)], [(1, 0), (0, 1)]),
        ([(C, S, SYN, 7), (C, S, None, 0), (C, S, SYN, 0)], [(3, 0)]),  # they do not say that the handshake is over
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_opener_s_number_tells_connections_apart(
    packets: list[tuple[int, int, int | None, int]], counts: list[tuple[int, int]], together: bool
) -> None:
    """``counts``: packets that the client (C) and the server sent, of each connection."""
    made = [
        dataclasses.replace(
            packet(source, target, tcp_flags or 0, time=n / 10, sequence=sequence),
            flags=Mark.FLAGS_UNKNOWN if tcp_flags is None else 0,
        )
        for n, (source, target, tcp_flags, sequence) in enumerate(packets)
    ]
    flows = PacketFlows(10)
    last: dict[int, tuple[int, int]] = {}
    batches = take(flows, *made) if together else [batch for one in made for batch in take(flows, one)]
    for batch in batches + [flows.report()]:
        sent = np.where(batch.client_port == C, batch.transmit_packets, batch.receive_packets)
        received = np.where(batch.client_port == C, batch.receive_packets, batch.transmit_packets)
        last.update(zip(batch.id.tolist(), zip(sent.tolist(), received.tolist(), strict=True), strict=True))
    assert list(last.values()) == counts
