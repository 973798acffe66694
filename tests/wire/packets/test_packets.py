"""Packets as columns: taken, joined and read back as rows."""

from __future__ import annotations

import numpy as np

from flowmap.wire.packets.packets import COLUMNS, Packet, Packets
from tests.support.packets import Packet as Made
from tests.support.packets import packets_of

MADE = packets_of(*(Made(source_port=n, length=100 + n) for n in range(5)))


def test_take_and_concatenate() -> None:
    for index in (np.array([3, 1]), np.array([True, False, True, False, False]), slice(2, None)):
        taken = MADE.take(index)
        assert taken.rows() == [MADE.rows()[n] for n in np.arange(5)[index]]
        assert len(taken) == len(taken.rows())
    assert Packets.concatenate([MADE, MADE.take(slice(1))]).rows() == [*MADE.rows(), MADE.rows()[0]]


def test_a_packet_is_a_row() -> None:
    assert Packet._fields == tuple(COLUMNS) == tuple(MADE.columns())
    assert Packets(2).rows() == [(0,) * len(COLUMNS)] * 2
