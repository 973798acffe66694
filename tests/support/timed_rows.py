"""Packets of a capture file, by the second."""

from __future__ import annotations

from tests.support.capture_files import SECOND, Row

EPOCH = 1_700_000_000
"""Time of the first frame of each file."""


def udp(time: float, source: int, target: int, ip: int = 1) -> Row:
    """A raw IP packet with a UDP datagram of no data; the lower port is the server's."""
    ends = bytes([10, 0, 0, ip, 10, 1, 0, 1]) if source > target else bytes([10, 1, 0, 1, 10, 0, 0, ip])
    head = bytes.fromhex("4500001c00000000 4011 0000") + ends
    return Row(head + source.to_bytes(2) + target.to_bytes(2) + bytes.fromhex("00080000"), 28, _at(time))


def tcp(time: float, source: int, target: int, tcp_flags: int) -> Row:
    """A raw IP packet with a TCP segment of no data."""
    ends = bytes([10, 0, 0, 1, 10, 1, 0, 1]) if source > target else bytes([10, 1, 0, 1, 10, 0, 0, 1])
    head = bytes.fromhex("4500002800000000 4006 0000") + ends + source.to_bytes(2) + target.to_bytes(2)
    return Row(head + bytes(4) + bytes(4) + bytes([0x50, tcp_flags]) + bytes(6), 40, _at(time))


def _at(time: float) -> int:
    return int((EPOCH + time) * 1000) * SECOND // 1000
