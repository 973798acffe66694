"""Fields of conntrack messages, for the encoder."""

from __future__ import annotations

from flowmap.wire.netlink.conntrack import (
    Field,
    Schema,
)
from flowmap.wire.netlink.messages import (
    MessageFlag,
)

CLIENT, SERVER, OTHER = 0x0A000001, 0x0A000002, 0x0A000003
CLIENT6, SERVER6 = 0x20010DB8_00000000_00000000_00000001, 0x20010DB8_00000000_FFFF0000_00000002
EVENT, NEW, DUMP = MessageFlag(0), MessageFlag.CREATE | MessageFlag.EXCL, MessageFlag.MULTI


def tcp(**changes: int) -> dict[str, int]:
    """Fields of an established connection 10.0.0.1:40000 → 10.0.0.2:9092 without NAT."""
    values = {
        "original_v4_source": CLIENT,
        "original_v4_destination": SERVER,
        "original_protocol": 6,
        "original_source_port": 40000,
        "original_destination_port": 9092,
        "reply_v4_source": SERVER,
        "reply_v4_destination": CLIENT,
        "reply_protocol": 6,
        "reply_source_port": 9092,
        "reply_destination_port": 40000,
        "status": 0xE,
        "id": 0xFFFF_FFFE,
    }
    return values | changes


COUNTERS = {"original_packets": 3, "original_bytes": 400, "reply_packets": 2, "reply_bytes": 2**64 - 1}
ADDRESSES = {name: value for name, value in tcp().items() if "_v4_" in name}


def names(schema: Schema) -> dict[str, int]:
    """Every field of a schema with its size."""
    found: dict[str, int] = {}
    for entry in schema.values():
        found |= {entry.name: entry.size} if isinstance(entry, Field) else names(entry)
    return found
