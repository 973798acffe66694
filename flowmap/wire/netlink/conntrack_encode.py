"""Encodes ctnetlink messages: requests to the kernel, and entries as the kernel sends them."""

from __future__ import annotations

from collections.abc import Mapping

from flowmap.wire.netlink.conntrack import NFGENMSG, SCHEMA, CtMessage, Field, Schema
from flowmap.wire.netlink.messages import MessageFlag, encode_attribute, encode_message

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10


def encode_dump_request(sequence: int, family: int = AF_UNSPEC) -> bytes:
    """A request for every entry of ``family`` (AF_UNSPEC: of all families)."""
    header = NFGENMSG.pack(family, 0, 0)
    return encode_message(CtMessage.GET, MessageFlag.REQUEST | MessageFlag.DUMP, header, sequence=sequence)


def encode_table_size_request(sequence: int) -> bytes:
    """A request for fill and limit of the table."""
    return encode_message(CtMessage.STATISTICS, MessageFlag.REQUEST, NFGENMSG.pack(AF_UNSPEC, 0, 0), sequence=sequence)


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
