"""Encodes conntrack messages as the kernel sends them, and fields for them."""

from __future__ import annotations

from collections.abc import Mapping

from flowmap.wire.netlink.conntrack import NFGENMSG, SCHEMA, CtMessage, Field, Schema
from flowmap.wire.netlink.messages import MessageFlag, encode_attribute, encode_message

AF_INET, AF_INET6 = 2, 10
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


def encode_fields(schema: Schema, values: Mapping[str, int]) -> bytes:
    """The attributes of ``schema`` that have a value; the inverse of :func:`read_fields`."""
    parts: list[bytes] = []
    for kind, entry in schema.items():
        if not isinstance(entry, Field):
            inner = encode_fields(entry, values)
            parts += [encode_attribute(kind, inner, nested=True)] if inner else []
        elif entry.name in values:
            parts.append(encode_attribute(kind, values[entry.name].to_bytes(entry.size, "big")))
    return b"".join(parts)


def encode_entry(
    operation: CtMessage,
    flags: int,
    values: Mapping[str, int],
    *,
    sequence: int = 0,
    port: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A message about one entry, by the field names of :data:`SCHEMA`: an event, a part of a dump, or a request.

    ``extra``: encoded attributes to append, such as CTA_TIMEOUT, which a request to create an entry needs.
    """
    family = AF_INET6 if "original_v6_source" in values else AF_INET
    payload = NFGENMSG.pack(family, 0, 0) + encode_fields(SCHEMA, values) + extra
    return encode_message(operation, flags, payload, sequence=sequence, port=port)
