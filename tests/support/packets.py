"""Packets for tests: one line a packet, made into the columns that frames decode to."""

from __future__ import annotations

from dataclasses import dataclass

from flowmap.model.address import Address
from flowmap.wire.packets.packets import Packets

FIN, SYN, RST, ACK = 1, 2, 4, 16


@dataclass(frozen=True)
class Packet:
    """One packet at a time, on an interface."""

    source: str = "10.0.0.1"
    source_port: int = 40000
    destination: str = "10.1.0.1"
    destination_port: int = 9092
    protocol: int = 6
    tcp_flags: int = 0
    length: int = 100
    time: float = 0.0
    interface: int = 1
    flags: int = 0
    fragment_id: int = 0
    sequence: int = 0


def packets_of(*packets: Packet) -> Packets:
    """The packets in columns."""
    made = Packets(len(packets))
    for n, packet in enumerate(packets):
        for end in ("source", "destination"):
            address = Address.parse(getattr(packet, end))
            getattr(made, f"{end}_high")[n], getattr(made, f"{end}_low")[n] = address
        for name in (
            "source_port",
            "destination_port",
            "protocol",
            "tcp_flags",
            "length",
            "flags",
            "fragment_id",
            "sequence",
        ):
            getattr(made, name)[n] = getattr(packet, name)
    return made
