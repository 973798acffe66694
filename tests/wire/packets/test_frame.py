"""The number of a TCP connection's opener, as far as one packet shows it: the same from both decoders."""

from __future__ import annotations

import struct

import pytest

from flowmap.wire.packets.frame import decode_frame
from flowmap.wire.packets.frames import decode_frames
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Packet
from tests.support.packets import ACK, FIN, RST, SYN


@pytest.mark.parametrize(
    ("tcp_flags", "number", "acknowledged", "opener"),
    [
        (SYN, 100, 0, 100),
        (SYN, 100, 55, 100),  # rubbish where nothing is acknowledged
        (SYN, 0, 0, 0),
        (SYN | FIN, 100, 0, 100),
        (SYN | ACK, 900, 101, 100),
        (SYN | ACK, 900, 0, 0),
        (SYN | ACK, 900, 1, 0),
        (SYN | ACK, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFE),
        (RST | ACK, 0, 101, 100),
        (RST | ACK, 0, 0, 0),
        (RST | ACK, 1, 101, 0),  # not the answer to a SYN
        (RST, 0, 101, 0),
        (RST, 900, 0, 0),
        (ACK, 0, 101, 0),
        (FIN | ACK, 0, 101, 0),
    ],
)
def test_the_opener_s_number(tcp_flags: int, number: int, acknowledged: int, opener: int) -> None:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, number, acknowledged, 0x50, tcp_flags, 0, 0, 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    one = decode_frame(ip + tcp, 40, LinkType.RAW)
    assert isinstance(one, Packet)
    assert one.sequence == opener
    many = decode_frames((ip + tcp) * 2, [0, 40], [40, 40], [40, 40], LinkType.RAW)
    assert many.general == 0
    assert many.packets.sequence.tolist() == [opener, opener]
