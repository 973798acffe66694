"""Frames written by hand, and the packets that they contain."""

from __future__ import annotations

import os
import struct

from flowmap.wire.packets.packets import Packet

EXAMPLES = int(os.environ.get("FUZZ_FRAMES", "100"))
"""More for a long hunt."""


V6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002")


TCP = struct.pack("!HHIIBBHHH", 40000, 9092, 1, 1, 0x50, 0x18, 100, 0, 0)


UDP = struct.pack("!HHHH", 40000, 53, 20, 0)


def ether(kind: int, payload: bytes) -> bytes:
    return bytes(12) + kind.to_bytes(2) + payload


def ipv4(payload: bytes, protocol: int = 6, *, total: int | None = None, fragment: int = 0, first: int = 0x45) -> bytes:
    total = 20 + len(payload) if total is None else total
    return struct.pack("!BBHHHBBHII", first, 0, total, 7, fragment, 64, protocol, 0, 0x0A000001, 0x0A000002) + payload


def ipv6(payload: bytes, following: int = 6, *, size: int | None = None) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload) if size is None else size, following, 64) + V6 + payload


def row(length: int, *, protocol: int = 6, ports: tuple[int, int] = (40000, 9092), **more: int) -> Packet:
    flags = 0x18 if protocol == 6 and ports[0] else 0
    found = Packet(0, 0xFFFF_0A00_0001, 0, 0xFFFF_0A00_0002, *ports, protocol, flags, 0, length, 0)
    return found._replace(**more)


def row6(length: int) -> Packet:
    high = 0x2001_0DB8_0000_0000
    return row(length, source_high=high, source_low=1, destination_high=high, destination_low=2)
