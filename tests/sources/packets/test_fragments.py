"""Later fragments take the ports of the first one, for a limited time and in limited number."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.sources.packets.fragments import LIMIT, TIMEOUT, Fragments
from flowmap.wire.packets.packets import Mark
from tests.support.packets import Packet, packets_of

FIRST, LATER = int(Mark.FRAGMENT_FIRST), int(Mark.FRAGMENT_LATER)


def fragment(flags: int, time: float, *, number: int = 7, ports: bool = False, source: str = "10.0.0.1") -> Packet:
    one, other = (5000, 53) if ports else (0, 0)
    return Packet(source, one, "10.0.0.2", other, 17, flags=flags, fragment_id=number, time=time)


@pytest.mark.parametrize(
    ("packets", "ports", "lone"),
    [
        ([fragment(FIRST, 0, ports=True), fragment(LATER, 1)], [5000, 5000], 0),
        ([fragment(LATER, 0), fragment(FIRST, 1, ports=True)], [0, 5000], 1),
        ([fragment(FIRST, 0, ports=True), fragment(LATER, TIMEOUT)], [5000, 5000], 0),
        ([fragment(FIRST, 0, ports=True), fragment(LATER, TIMEOUT + 0.1)], [5000, 0], 1),
        ([fragment(FIRST, 0, ports=True), fragment(LATER, 1, number=8)], [5000, 0], 1),
        ([fragment(FIRST, 0, ports=True), fragment(LATER, 1, source="10.0.0.9")], [5000, 0], 1),
        ([Packet(time=0)], [40000], 0),
    ],
)
def test_ports_of_later_fragments(packets: list[Packet], ports: list[int], lone: int) -> None:
    settled, unknown = Fragments().settle(packets_of(*packets), np.array([packet.time for packet in packets]))
    assert (settled.source_port.tolist(), unknown) == (ports, lone)


def test_fragments_remembered_are_bounded() -> None:
    fragments = Fragments()
    for start in range(0, 3 * LIMIT, LIMIT):
        some = [Packet(flags=Mark.FRAGMENT_FIRST, fragment_id=start + n) for n in range(LIMIT)]
        fragments.settle(packets_of(*some), np.zeros(LIMIT))
        assert len(fragments) <= LIMIT
