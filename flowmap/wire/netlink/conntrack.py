"""Decodes ctnetlink messages one at a time, the reference for the columnar decoder, and encodes requests.

Names in comments are those of linux/netfilter/nfnetlink_conntrack.h. Attribute values are in network byte order. The
columnar decoder in ``conntrack_columns`` decodes many messages at a time and must give the same results.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np

from flowmap.errors import DecodeError
from flowmap.flows.records.batch import COLUMNS, Flag, FlowBatch, RecordKind
from flowmap.model.address import V4_MAPPED
from flowmap.model.namespace import OWN
from flowmap.wire.netlink.messages import (
    MIN_TYPE,
    AttributeReader,
    Control,
    Message,
    MessageFlag,
    ReplyStatus,
    decode_messages,
    decode_status,
    encode_message,
)

NFGENMSG = struct.Struct("!BBH")
"""struct nfgenmsg: address family, version (0), resource id (0)."""

AF_UNSPEC = 0
SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK, the high byte of the message type


class CtMessage(IntEnum):
    """Message types (IPCTNL_MSG_CT_*), including the subsystem."""

    NEW = SUBSYSTEM | 0
    GET = SUBSYSTEM | 1
    DELETE = SUBSYSTEM | 2
    STATISTICS = SUBSYSTEM | 5  # IPCTNL_MSG_CT_GET_STATS, since 3.6


class Group(IntEnum):
    """Multicast groups (NFNLGRP_CONNTRACK_*, linux/netfilter/nfnetlink.h)."""

    NEW = 1
    UPDATE = 2
    DESTROY = 3


class CtAttribute(IntEnum):
    """CTA_*."""

    TUPLE_ORIG = 1
    TUPLE_REPLY = 2
    STATUS = 3
    PROTOINFO = 4
    TIMEOUT = 7
    COUNTERS_ORIG = 9
    COUNTERS_REPLY = 10
    ID = 12
    ZONE = 18
    TIMESTAMP = 20


class _Statistic(IntEnum):
    """CTA_STATS_GLOBAL_*."""

    ENTRIES = 1
    LIMIT = 2  # CTA_STATS_GLOBAL_MAX_ENTRIES, since 4.18


class TableSize(NamedTuple):
    """Fill and limit of the conntrack table of a network namespace."""

    entries: int
    limit: int | None
    """None if the kernel is too old to report it."""


class CtTcpState(IntEnum):
    """enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h): the state that conntrack observed, not a socket's."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9


class EntryStatus(IntFlag):
    """IPS_* (linux/netfilter/nf_conntrack_common.h)."""

    SEEN_REPLY = 1 << 1
    ASSURED = 1 << 2
    CONFIRMED = 1 << 3
    OFFLOAD = 1 << 14
    HW_OFFLOAD = 1 << 15


REPLIED = EntryStatus.SEEN_REPLY | EntryStatus.ASSURED
OFFLOADED = EntryStatus.OFFLOAD | EntryStatus.HW_OFFLOAD
TCP = 6

# After the first FIN, its sender may be gone and its address reassigned. conntrack's CLOSE_WAIT follows FIN_WAIT (the
# FIN was acknowledged), so unlike a socket's CLOSE_WAIT it proves nothing about the side that closed.
ENDING_STATES = range(CtTcpState.FIN_WAIT, CtTcpState.CLOSE + 1)


class Field(NamedTuple):
    """An attribute to read: the name of its value, and its exact size in bytes."""

    name: str
    size: int


Schema = Mapping[int, "Field | Schema"]


def _tuple(side: str) -> Schema:
    return {
        1: {  # CTA_TUPLE_IP
            1: Field(f"{side}_v4_source", 4),
            2: Field(f"{side}_v4_destination", 4),
            3: Field(f"{side}_v6_source", 16),
            4: Field(f"{side}_v6_destination", 16),
        },
        2: {  # CTA_TUPLE_PROTO
            1: Field(f"{side}_protocol", 1),
            2: Field(f"{side}_source_port", 2),
            3: Field(f"{side}_destination_port", 2),
            4: Field(f"{side}_icmp_id", 2),
            7: Field(f"{side}_icmpv6_id", 2),
        },
        3: Field(f"{side}_zone", 2),  # CTA_TUPLE_ZONE, if the zone applies to one direction
    }


def _counters(side: str) -> Schema:
    return {1: Field(f"{side}_packets", 8), 2: Field(f"{side}_bytes", 8)}


SCHEMA: Schema = {
    CtAttribute.TUPLE_ORIG: _tuple("original"),
    CtAttribute.TUPLE_REPLY: _tuple("reply"),
    CtAttribute.STATUS: Field("status", 4),
    CtAttribute.PROTOINFO: {1: {1: Field("tcp_state", 1)}},  # CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE
    CtAttribute.COUNTERS_ORIG: _counters("original"),
    CtAttribute.COUNTERS_REPLY: _counters("reply"),
    CtAttribute.ID: Field("id", 4),
    CtAttribute.ZONE: Field("zone", 2),
    CtAttribute.TIMESTAMP: {1: Field("started", 8)},  # CTA_TIMESTAMP_START
}
"""Every attribute that is read, by type; others are skipped."""

COUNTER_FIELDS = ("original_bytes", "reply_bytes", "original_packets", "reply_packets")


class DecodedEntries(NamedTuple):
    """The contents of one buffer of messages."""

    batch: FlowBatch
    malformed: int = 0
    """Skipped messages, and skipped rests of datagrams without valid framing."""
    unframed: int = 0
    """How many of them were rests of datagrams, which may have had any number of records."""
    interrupted: bool = False
    """The kernel marked the dump as inconsistent (NLM_F_DUMP_INTR)."""
    end: ReplyStatus | None = None
    """The outcome of the request, if its end was in the buffer."""
    fault: str = ""
    """The fault of the first malformed message."""


def encode_dump_request(sequence: int, family: int = AF_UNSPEC) -> bytes:
    """A request for every entry of ``family`` (AF_UNSPEC: of all families)."""
    header = NFGENMSG.pack(family, 0, 0)
    return encode_message(CtMessage.GET, MessageFlag.REQUEST | MessageFlag.DUMP, header, sequence=sequence)


def encode_table_size_request(sequence: int) -> bytes:
    """A request for fill and limit of the table."""
    return encode_message(CtMessage.STATISTICS, MessageFlag.REQUEST, NFGENMSG.pack(AF_UNSPEC, 0, 0), sequence=sequence)


def read_fields(reader: AttributeReader, schema: Schema, values: dict[str, int]) -> None:
    """Collect the values of all attributes in ``schema``; if one is repeated, the last counts."""
    while reader.next():
        entry = schema.get(reader.type)
        if isinstance(entry, Field):
            values[entry.name] = reader.unsigned(entry.size)
        elif entry is not None:
            read_fields(reader.nested(), entry, values)


def decode_record(message: Message) -> tuple[int, ...]:
    """One NEW or DELETE message as a row of FlowBatch columns; DecodeError for other messages.

    ICMP has no ports. conntrack distinguishes pings by their identifier, which is stored as the client's port.
    """
    if message.type not in (CtMessage.NEW, CtMessage.DELETE):
        raise DecodeError(f"netlink message of type {message.type:#x} is not a conntrack entry")
    if len(message.payload) < NFGENMSG.size:
        raise DecodeError("conntrack message: header cut")
    values: dict[str, int] = {}
    reader = AttributeReader(message.payload[NFGENMSG.size :], "conntrack message")
    read_fields(reader, SCHEMA, values)
    reader.check()
    return _row(decode_kind(message), values)


def decode_kind(message: Message) -> RecordKind:
    """The kind of the record, from type and flags of the message."""
    if message.type == CtMessage.DELETE:
        return RecordKind.CLOSED
    if message.flags & MessageFlag.MULTI:
        return RecordKind.DUMPED
    return RecordKind.OPENED if message.flags & MessageFlag.CREATE else RecordKind.UPDATED


def _row(kind: RecordKind, values: Mapping[str, int]) -> tuple[int, ...]:
    get = values.get
    if "original_protocol" not in values:
        raise DecodeError("conntrack message: the original tuple has no protocol")
    ends = _ends(values, "original", ("source", "destination"))
    reply = "reply_v4_source" in values or "reply_v6_source" in values
    translated = _ends(values, "reply", ("destination", "source")) if reply else ends
    counted = all(name in values for name in COUNTER_FIELDS)
    counters = [values[name] for name in COUNTER_FIELDS] if counted else [0, 0, 0, 0]
    flags = Flag(0)
    answer = EntryStatus.ASSURED if values["original_protocol"] == TCP else REPLIED
    for flag, holds in (
        (Flag.COUNTERS, counted),
        (Flag.TRANSLATED, translated != ends),
        (Flag.ENDING, get("tcp_state", 0) in ENDING_STATES),
        (Flag.REPLIED, get("status", 0) & REPLIED),
        (Flag.ASSURED, get("status", 0) & answer),
        (Flag.OFFLOADED, get("status", 0) & OFFLOADED),
        (Flag.HARDWARE, get("status", 0) & EntryStatus.HW_OFFLOAD),
    ):
        flags |= flag if holds else Flag(0)
    zone = get("zone", get("original_zone", 0))
    head = (kind, flags, values["original_protocol"], zone, get("id", 0))
    return (*head, *ends, *translated, *counters, get("started", 0), 0, 0, 0, 0, OWN)  # no health, no workloads


def _ends(values: Mapping[str, int], side: str, order: tuple[str, str]) -> tuple[int, ...]:
    """Both endpoints of one tuple: address and port of ``order[0]``, then of ``order[1]``."""
    icmp = values.get(f"{side}_icmp_id", values.get(f"{side}_icmpv6_id"))
    ends: list[int] = []
    for position, end in enumerate(order):
        v4, v6 = values.get(f"{side}_v4_{end}"), values.get(f"{side}_v6_{end}")
        if v4 is not None:
            ends += (0, V4_MAPPED | v4)
        elif v6 is not None:
            ends += (v6 >> 64, v6 & 0xFFFF_FFFF_FFFF_FFFF)
        else:
            raise DecodeError(f"conntrack message: the {side} tuple has no {end} address")
        ends.append(values.get(f"{side}_{end}_port", 0) if icmp is None or position else icmp)
    return tuple(ends)


def to_batch(rows: Sequence[tuple[int, ...]]) -> FlowBatch:
    """Rows of :func:`decode_record` as columns."""
    batch = FlowBatch(len(rows))
    if rows:
        for (name, dtype), column in zip(COLUMNS.items(), zip(*rows, strict=True), strict=True):
            setattr(batch, name, np.array(column, dtype))
    return batch


class DecodeTally:
    """Collects faults, flags and the end of a request while a buffer is decoded."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.malformed = 0
        self.unframed = 0
        self.interrupted = interrupted
        self.end: ReplyStatus | None = None
        self.fault = ""

    def reject(self, error: DecodeError) -> None:
        self.malformed += 1
        self.fault = self.fault or str(error)

    def take(self, message: Message) -> tuple[int, ...] | None:
        """The row of ``message``; None if it is malformed, or an end of a request, which is stored here."""
        self.interrupted |= bool(message.flags & MessageFlag.DUMP_INTR)
        try:
            if message.type >= MIN_TYPE:
                return decode_record(message)
            if message.type in (Control.ERROR, Control.DONE):
                self.end = decode_status(message)
        except DecodeError as error:
            self.reject(error)
        return None

    def decoded(self, batch: FlowBatch) -> DecodedEntries:
        return DecodedEntries(batch, self.malformed, self.unframed, self.interrupted, self.end, self.fault)


def decode(data: bytes | memoryview, starts: Iterable[int] = (0,)) -> DecodedEntries:
    """All messages of the datagrams that start at ``starts`` in ``data``, in order."""
    view, outcome = memoryview(data), DecodeTally()
    rows: list[tuple[int, ...]] = []
    bounds = [*starts, len(view)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        try:
            for message in decode_messages(view[start:stop]):
                row = outcome.take(message)
                if row is not None:
                    rows.append(row)
        except DecodeError as error:
            outcome.reject(error)
            outcome.unframed += 1
    return outcome.decoded(to_batch(rows))


def decode_table_size(payload: bytes | memoryview) -> TableSize:
    """The answer to a :attr:`CtMessage.STATISTICS` request; DecodeError if it is cut or has no number of entries."""
    entries = limit = None
    reader = AttributeReader(memoryview(payload)[NFGENMSG.size :], "conntrack statistics")
    while reader.next():
        if reader.type == _Statistic.ENTRIES:
            entries = reader.unsigned(4)
        elif reader.type == _Statistic.LIMIT:
            limit = reader.unsigned(4)
    reader.check()
    if entries is None:
        raise DecodeError("conntrack statistics: the number of entries is missing")
    return TableSize(entries, limit)
