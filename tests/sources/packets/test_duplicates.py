"""A packet on several interfaces counts once; another interface replaces a silent one."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.sources.packets.duplicates import SILENCE
from flowmap.sources.packets.flows import PacketFlows
from tests.support.packets import Packet, packets_of

Sight = tuple[int, float]


@pytest.mark.parametrize(
    ("sights", "counted"),
    [
        ([(1, 0.0), (2, 0.1), (1, 0.2)], [0, 2]),
        ([(1, 0.0), (2, SILENCE)], [0]),
        ([(1, 0.0), (2, SILENCE + 0.01)], [0, 1]),
        ([(1, 0.0), (2, 1.5), (1, 1.6), (1, 2.4), (1, 2.6)], [0, 1, 4]),
        ([(3, 0.0), (3, 9.0)], [0, 1]),
        ([(1, 0.0), (2, 0.5), (2, 1.0), (2, 1.2)], [0, 3]),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 99])
def test_packets_that_count(sights: list[Sight], counted: list[int], piece: int) -> None:
    flows = PacketFlows(10)
    for start in range(0, len(sights), piece):
        some = [Packet(length=1 << n, interface=i, time=t) for n, (i, t) in enumerate(sights)][start : start + piece]
        interfaces = np.array([packet.interface for packet in some], np.int32)
        flows.take(packets_of(*some), np.array([packet.time for packet in some]), interfaces)
    (closed,) = flows.close_all()
    assert closed.transmit_bytes.tolist() == [sum(1 << n for n in counted)]
    assert flows.counts.duplicates == len(sights) - len(counted)


def test_directions_count_on_interfaces_of_their_own() -> None:
    flows = PacketFlows(10)
    there = [Packet(length=1, interface=1), Packet(length=2, interface=2, time=0.1)]
    back = [
        Packet("10.1.0.1", 9092, "10.0.0.1", 40000, length=4, interface=2, time=0.2),
        Packet("10.1.0.1", 9092, "10.0.0.1", 40000, length=8, interface=1, time=0.3),
    ]
    for packet in [*there, *back]:
        flows.take(packets_of(packet), np.array([packet.time]), packet.interface)
    assert [len(batch) for batch in flows.close_on(3)] == []
    (closed,) = flows.close_on(2)
    assert (closed.transmit_bytes.tolist(), closed.receive_bytes.tolist()) == ([1], [4])
    assert len(flows) == 0
