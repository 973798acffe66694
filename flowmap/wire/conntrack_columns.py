"""ctnetlink messages, many at a time: the same results as :mod:`flowmap.wire.conntrack`, by columns.

One kernel writes few layouts: which attributes, in which order, of which size. A layout is learnt from one message with
the general decoder's own table. Every other message of that length is taken by columns only if every one of its
attribute headers equals the layout's; so its values stand where the layout says. All else goes to the general decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.errors import DecodeError
from flowmap.flows.address import V4_MAPPED
from flowmap.flows.batch import Flag, FlowBatch, Kind
from flowmap.wire import conntrack
from flowmap.wire.conntrack import (
    COUNTER_FIELDS,
    ENDING_STATES,
    NFGENMSG,
    SCHEMA,
    EntryStatus,
    Field,
    Operation,
    Schema,
)
from flowmap.wire.netlink import HEADER, AttributeReader, MessageFlag, decode_messages

Words = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Values = dict[str, npt.NDArray[np.generic]]

LAYOUTS_A_LENGTH = 8
LENGTHS = 256
"""Bounds of what is remembered; a kernel needs about ten layouts."""

_TYPE_AND_FLAGS = 1  # words of nlmsghdr
_SEQUENCE = 2
_PORT = 3
_BODY = HEADER.size + NFGENMSG.size
_CREATED = np.uint16(MessageFlag.CREATE)
_REPLIED = np.uint32(EntryStatus.SEEN_REPLY | EntryStatus.ASSURED)


class Layout(NamedTuple):
    """Where things stand in messages of one shape. Offsets count 32-bit words from the message's beginning."""

    headers: Words
    """The attribute headers, as they stand in memory."""
    words: Offsets
    """What to read of a message: its headers, then the words of its fields."""
    fields: tuple[tuple[str, int, int], ...]
    """Name, position in ``words``, and size in bytes of each field."""


class ColumnDecoder:
    """Decodes buffers of messages and remembers the layouts it met; not shared between threads."""

    def __init__(self) -> None:
        self._layouts: dict[int, list[Layout]] = {}

    def decode(self, data: bytes | memoryview, starts: Sequence[int] = (0,)) -> conntrack.Decoded:
        """As :func:`flowmap.wire.conntrack.decode`: all messages of the datagrams at ``starts``, in order."""
        found = _find_messages(data, starts)
        if found is None:
            return conntrack.decode(data, starts)
        words, offsets = found
        lengths = words[offsets]
        kinds, rest, interrupted = _kinds(words, offsets)
        batch = FlowBatch(len(offsets))
        batch.kind[:] = kinds
        left = [rest]
        for length in _distinct(lengths[kinds != 0]):
            index = np.flatnonzero((lengths == length) & (kinds != 0))
            left.append(self._decode_length(words, offsets, index, length, batch))
        outcome = conntrack.Outcome(interrupted=interrupted)
        return _decode_rest(words, offsets, np.sort(np.concatenate(left)), batch, outcome)

    def _decode_length(self, words: Words, offsets: Offsets, index: Offsets, length: int, batch: FlowBatch) -> Offsets:
        """Fill in the records at ``index``, all of one length; returns those that fit no layout."""
        known = self._layouts.get(length, [])
        for layout in known:
            index = _take(layout, words, offsets, index, batch)
            if not len(index):
                return index
        unfit = []
        while len(index) and len(known) < LAYOUTS_A_LENGTH:
            layout_or_none = _learn(_message(words, offsets[index[0]]))
            if layout_or_none is None:
                unfit.append(index[:1])
                index = index[1:]
                if len(unfit) == LAYOUTS_A_LENGTH:
                    break
                continue
            known = self._remember(length, layout_or_none)
            index = _take(layout_or_none, words, offsets, index, batch)
        return np.concatenate([*unfit, index])

    def _remember(self, length: int, layout: Layout) -> list[Layout]:
        if length not in self._layouts and len(self._layouts) >= LENGTHS:
            self._layouts.clear()
        known = self._layouts.setdefault(length, [])
        known.append(layout)
        return known


def _find_messages(data: bytes | memoryview, starts: Sequence[int]) -> tuple[Words, Offsets] | None:
    """The data as words and the word offset of every message; None if the framing has any fault."""
    first = np.asarray(starts, np.int64)
    if not len(first) or len(data) % 4 or (first & 3).any():
        return None
    words = np.frombuffer(data, np.uint32)
    first >>= 2
    offsets: Offsets | None = first
    if not _chained(words, first):
        offsets = _guess(words, first)
    return None if offsets is None else (words, offsets)


def _chained(words: Words, offsets: Offsets) -> bool:
    """Whether each message ends where the next begins, and the last at the end of the data."""
    if not len(offsets) or int(offsets[-1]) + HEADER.size // 4 > len(words):
        return False
    lengths = words[offsets].astype(np.int64)
    ends = offsets + ((lengths + 3) >> 2)
    return bool((lengths >= HEADER.size).all() and ends[-1] == len(words) and np.array_equal(ends[:-1], offsets[1:]))


def _guess(words: Words, first: Offsets) -> Offsets | None:
    """Find the messages of many datagrams by the sequence number and port they share, then prove the guess.

    If the lengths lead from each place found exactly to the next, and every datagram begins at one, then these are
    the messages a walk would find.
    """
    if int(first[0]) + HEADER.size // 4 > len(words):
        return None
    sequence, port = words[first[0] + _SEQUENCE], words[first[0] + _PORT]
    places = np.flatnonzero(words[_SEQUENCE:-1] == sequence)
    places = places[words[places + _PORT] == port]
    if _chained(words, places) and np.isin(first, places, assume_unique=True).all() and places[0] == first[0]:
        return places
    return _walk(words, first)


def _walk(words: Words, first: Offsets) -> Offsets | None:
    """The messages of each datagram, one by one; None at the first fault."""
    found: list[int] = []
    bounds = [*first.tolist(), len(words)]
    for at, end in zip(bounds, bounds[1:], strict=False):
        while at < end:
            length = int(words[at])
            if length < HEADER.size or at * 4 + length > end * 4:
                return None
            found.append(at)
            at += (length + 3) >> 2
    return np.array(found, np.int64)


def _kinds(words: Words, offsets: Offsets) -> tuple[npt.NDArray[np.uint8], Offsets, bool]:
    """The Kind of every message (0 if it is no record), the places of those that are none, and if any says DUMP_INTR."""
    halves = words[offsets + _TYPE_AND_FLAGS].view(np.uint16)
    types, flags = halves[0::2], halves[1::2]
    kinds = np.where(flags & _CREATED, np.uint8(Kind.OPENED), np.uint8(Kind.UPDATED))
    kinds[(flags & np.uint16(MessageFlag.MULTI)) != 0] = Kind.SEEN
    kinds[types == Operation.DELETE] = Kind.CLOSED
    general = (types != Operation.NEW) & (types != Operation.DELETE)
    kinds[general] = 0
    return kinds, np.flatnonzero(general), bool((flags & np.uint16(MessageFlag.DUMP_INTR)).any())


def _distinct(lengths: Words) -> list[int]:
    return np.unique(lengths).tolist() if len(lengths) else []


def _message(words: Words, offset: int) -> memoryview:
    """The bytes of the message at word ``offset``."""
    start = int(offset) * 4
    return memoryview(words).cast("B")[start : start + int(words[offset])]


def _learn(data: memoryview) -> Layout | None:
    """The layout of a message, or None if the general decoder refuses it."""
    try:
        (message,) = decode_messages(data)
        conntrack.decode_record(message)
    except DecodeError:
        return None
    headers: list[int] = []
    fields: dict[str, tuple[int, int]] = {}
    _survey(AttributeReader(data[_BODY:], "conntrack message"), SCHEMA, headers, fields)
    words = headers.copy()
    places = []
    for name, (at, size) in fields.items():
        places.append((name, len(words), size))
        words += range(at, at + (size + 3) // 4)
    whole = np.frombuffer(bytes(data) + bytes(-len(data) % 4), np.uint32)
    return Layout(whole[headers], np.array(words, np.int64), tuple(places))


def _survey(reader: AttributeReader, schema: Schema, headers: list[int], fields: dict[str, tuple[int, int]]) -> None:
    """Note where the headers and the fields of a well-formed message are, walking as ``read_fields`` does."""
    while reader.next():
        payload = (_BODY + reader.start) // 4
        headers.append(payload - 1)
        entry = schema.get(reader.type)
        if isinstance(entry, Field):
            fields[entry.name] = (payload, entry.size)
        elif entry is not None:
            _survey(reader.nested(), entry, headers, fields)


def _take(layout: Layout, words: Words, offsets: Offsets, index: Offsets, batch: FlowBatch) -> Offsets:
    """Fill in those records at ``index`` that have this layout; returns the others."""
    read = np.take(words, layout.words[:, None] + offsets[index])
    n = len(layout.headers)
    fits = (read[:n] == layout.headers[:, None]).all(axis=0)
    if not fits.all():
        index, left = index[fits], index[~fits]
        read = np.ascontiguousarray(read[:, fits])
    else:
        left = index[:0]
    if len(index):
        _fill(batch, slice(None) if len(index) == len(batch) else index, _values(layout, read))
    return left


def _values(layout: Layout, read: Words) -> Values:
    """The fields as columns; an IPv6 address becomes two, ``…_high`` and ``…_low``."""
    values: Values = {}
    for name, at, size in layout.fields:
        if size == 16:
            values[f"{name}_high"], values[f"{name}_low"] = _wide(read, at), _wide(read, at + 2)
        elif size == 8:
            values[name] = _wide(read, at)
        else:
            values[name] = read[at].view(f">u{size}")[:: 4 // size]
    return values


def _wide(read: Words, at: int) -> npt.NDArray[np.uint64]:
    return (read[at].view(">u4").astype(np.uint64) << np.uint64(32)) | read[at + 1].view(">u4")


def _fill(batch: FlowBatch, at: Offsets | slice, values: Values) -> None:
    """The columns of one layout, as ``conntrack._row`` makes them of one message."""
    n = len(values["original_protocol"])
    flags = np.zeros(n, np.uint16)
    ends = _ends(values, "original", ("source", "destination"))
    reply = "reply_v4_source" in values or "reply_v6_source_high" in values
    translated = _ends(values, "reply", ("destination", "source")) if reply else ends
    if reply:
        differ = np.zeros(n, np.bool_)
        for name, column in ends.items():
            differ |= column != translated[name]
        flags |= np.where(differ, np.uint16(Flag.TRANSLATED), np.uint16(0))
    if all(name in values for name in COUNTER_FIELDS):
        flags |= np.uint16(Flag.COUNTERS)
        for name, field in zip(_COUNTERS, COUNTER_FIELDS, strict=True):
            getattr(batch, name)[at] = values[field]
    if "tcp_state" in values:
        state = values["tcp_state"]
        flags |= _ENDING[state]
    if "status" in values:
        seen = values["status"] & _REPLIED  # type: ignore[operator]
        flags |= np.where(seen, np.uint16(Flag.REPLIED), np.uint16(0))
    batch.flags[at] = flags
    batch.protocol[at] = values["original_protocol"]
    for name, column in ends.items():
        getattr(batch, name)[at] = column
    for name, column in translated.items():
        getattr(batch, f"translated_{name}")[at] = column
    zone = values.get("zone", values.get("original_zone"))
    for name, optional in (("zone", zone), ("id", values.get("id")), ("started", values.get("started"))):
        if optional is not None:
            getattr(batch, name)[at] = optional


_COUNTERS = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")
_ENDING = np.zeros(256, np.uint16)
_ENDING[ENDING_STATES.start : ENDING_STATES.stop] = Flag.ENDING


def _ends(values: Values, side: str, order: tuple[str, str]) -> Values:
    """Both ends of one tuple, by column name."""
    icmp = values.get(f"{side}_icmp_id", values.get(f"{side}_icmpv6_id"))
    columns: Values = {}
    for name, end in zip(("client", "server"), order, strict=True):
        v4 = values.get(f"{side}_v4_{end}")
        if v4 is not None:
            columns[f"{name}_high"] = np.zeros(len(v4), np.uint64)
            columns[f"{name}_low"] = v4.astype(np.uint64) | np.uint64(V4_MAPPED)
        else:
            columns[f"{name}_high"] = values[f"{side}_v6_{end}_high"]
            columns[f"{name}_low"] = values[f"{side}_v6_{end}_low"]
        port = values.get(f"{side}_{end}_port") if icmp is None or name == "server" else icmp
        columns[f"{name}_port"] = np.zeros(len(columns[f"{name}_low"]), np.uint16) if port is None else port
    return columns


def _decode_rest(
    words: Words, offsets: Offsets, rest: Offsets, batch: FlowBatch, outcome: conntrack.Outcome
) -> conntrack.Decoded:
    """Give the messages at ``rest`` to the general decoder and leave out what is not a record."""
    keep = np.ones(len(batch), np.bool_)
    for position in rest.tolist():
        (message,) = decode_messages(_message(words, offsets[position]))
        row = outcome.take(message)
        if row is None:
            keep[position] = False
            continue
        for column, value in zip(batch.columns().values(), row, strict=True):
            column[position] = value
    return outcome.decoded(batch if not len(rest) or keep.all() else batch.take(keep))
