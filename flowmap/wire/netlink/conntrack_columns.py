"""Decodes many ctnetlink messages at a time, as columns, with the results of :mod:`flowmap.wire.netlink.conntrack`.

One kernel writes few layouts (attributes, their order and sizes). A layout is learnt from one message, with the table
of the general decoder. Another message of the same length is read as columns only if all its attribute headers equal
those of the layout, so that its values are at the same offsets. The general decoder decodes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.errors import DecodeError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import V4_MAPPED
from flowmap.wire.netlink import conntrack
from flowmap.wire.netlink.columns import TYPE_AND_FLAGS, Offsets, Words, find_messages
from flowmap.wire.netlink.conntrack import (
    COUNTER_FIELDS,
    ENDING_STATES,
    NFGENMSG,
    OFFLOADED,
    REPLIED,
    SCHEMA,
    TCP,
    CtMessage,
    EntryStatus,
    Field,
    Schema,
)
from flowmap.wire.netlink.messages import HEADER, AttributeReader, MessageFlag, decode_messages

Values = dict[str, npt.NDArray[np.generic]]

LAYOUTS_A_SHAPE = 8
SHAPES = 256
"""Limits of the remembered layouts; a kernel needs about ten. A shape is a length, family and message type."""

FEW = 1024
"""Bytes (about four messages) up to which the general decoder is faster, as measured."""

_BODY = HEADER.size + NFGENMSG.size
_COUNTERS = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")
_PLAIN = (("id", "id"), ("started", "started"), ("zone", "original_zone"), ("zone", "zone"))
_ENDING = np.zeros(256, np.uint16)
_ENDING[ENDING_STATES.start : ENDING_STATES.stop] = Flag.ENDING
_CREATED = np.uint16(MessageFlag.CREATE)
_REPLIED, _ASSURED = np.uint32(REPLIED), np.uint32(EntryStatus.ASSURED)
_OFFLOADED, _HARDWARE = np.uint32(OFFLOADED), np.uint32(EntryStatus.HW_OFFLOAD)


class Layout(NamedTuple):
    """The offsets of headers and fields in messages of one shape."""

    headers: Words
    """The nlattr headers of such a message as words; zero elsewhere."""
    mask: Words
    """All ones where ``headers`` has a header, so ``message & mask == headers`` for every message with this layout."""
    fields: tuple[tuple[str, int, int], ...]
    """Name, offset from the start of the message, and size of each field, in bytes."""


class ColumnDecoder:
    """Decodes buffers of messages and remembers their layouts; not thread-safe."""

    def __init__(self, *, few: int = FEW) -> None:
        """``few``: bytes of a buffer up to which the general decoder is used."""
        self._few = few
        self._layouts: dict[int, list[Layout]] = {}

    @property
    def layouts(self) -> int:
        """Number of layouts learnt: at most :data:`LAYOUTS_A_SHAPE` for each of :data:`SHAPES` shapes."""
        return sum(map(len, self._layouts.values()))

    def decode(self, data: bytes | memoryview, starts: Sequence[int] = (0,)) -> conntrack.DecodedEntries:
        """As :func:`flowmap.wire.netlink.conntrack.decode`: all messages of the datagrams at ``starts``, in order."""
        found = find_messages(data, starts) if len(data) > self._few else None
        if found is None:
            return conntrack.decode(data, starts)
        words, offsets = found
        kinds, shapes, interrupted = _survey_headers(words, offsets)
        batch = FlowBatch(len(offsets))
        batch.kind[:] = kinds
        left = [np.flatnonzero(kinds == 0)]
        for shape in np.unique(shapes[kinds != 0]).tolist():
            left.append(self._decode_shape(shape, np.flatnonzero(shapes == shape), words, offsets, batch))
        outcome = conntrack.DecodeTally(interrupted=interrupted)
        return _decode_rest(words, offsets, np.sort(np.concatenate(left)), batch, outcome)

    def _decode_shape(self, shape: int, index: Offsets, words: Words, offsets: Offsets, batch: FlowBatch) -> Offsets:
        """Fill in the records at ``index``, all of one shape; returns those without a known layout."""
        known = self._layouts.get(shape, [])
        for layout in known:
            index = _take(layout, words, offsets, index, batch)
            if not len(index):
                return index
        unfit: list[Offsets] = []
        while len(index) and len(known) < LAYOUTS_A_SHAPE and len(unfit) < LAYOUTS_A_SHAPE:
            learnt = _learn(_message(words, offsets[index[0]]))
            if learnt is None:
                unfit.append(index[:1])
                index = index[1:]
            else:
                known = self._remember(shape, learnt)
                index = _take(learnt, words, offsets, index, batch)
        return np.concatenate([*unfit, index])

    def _remember(self, shape: int, layout: Layout) -> list[Layout]:
        if shape not in self._layouts and len(self._layouts) >= SHAPES:
            self._layouts.clear()
        known = self._layouts.setdefault(shape, [])
        known.append(layout)
        return known


def _survey_headers(words: Words, offsets: Offsets) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], bool]:
    """The RecordKind (0 if it is no record) and the shape of every message, and whether any has DUMP_INTR."""
    halves = words[offsets + TYPE_AND_FLAGS].view(np.uint16)
    types, flags = halves[0::2], halves[1::2]
    kinds = np.where(flags & _CREATED, np.uint8(RecordKind.OPENED), np.uint8(RecordKind.UPDATED))
    kinds[(flags & np.uint16(MessageFlag.MULTI)) != 0] = RecordKind.DUMPED
    kinds[types == CtMessage.DELETE] = RecordKind.CLOSED
    lengths = words[offsets]
    record = ((types == CtMessage.NEW) | (types == CtMessage.DELETE)) & (lengths >= _BODY)
    kinds[~record] = 0
    families = words.view(np.uint8)[np.where(record, offsets * 4 + HEADER.size, 0)]
    shapes = (lengths.astype(np.uint64) << np.uint64(16)) | (families.astype(np.uint64) << np.uint64(8))
    return kinds, shapes | (types & np.uint16(0xFF)), bool((flags & np.uint16(MessageFlag.DUMP_INTR)).any())


def _message(words: Words, offset: int) -> memoryview:
    """The bytes of the message at word ``offset``."""
    start = int(offset) * 4
    return words.data.cast("B")[start : start + int(words[offset])]


def _learn(data: memoryview) -> Layout | None:
    """The layout of a message; None if the general decoder rejects it."""
    try:
        (message,) = decode_messages(data)
        conntrack.decode_record(message)
    except DecodeError:
        return None
    headers: list[int] = []
    fields: dict[str, tuple[int, int]] = {}
    _survey(AttributeReader(data[_BODY:], "conntrack message"), SCHEMA, headers, fields)
    mask = np.zeros((len(data) + 3) // 4, np.uint32)
    mask[headers] = 0xFFFF_FFFF
    whole = np.frombuffer(bytes(data) + bytes(-len(data) % 4), np.uint32)
    return Layout(whole & mask, mask, tuple((name, *place) for name, place in fields.items()))


def _survey(reader: AttributeReader, schema: Schema, headers: list[int], fields: dict[str, tuple[int, int]]) -> None:
    """Collect the offsets of headers and fields of a well-formed message, as ``read_fields`` walks it."""
    while reader.next():
        payload = _BODY + reader.start
        headers.append(payload // 4 - 1)
        entry = schema.get(reader.type)
        if isinstance(entry, Field):
            fields[entry.name] = (payload, entry.size)
        elif entry is not None:
            _survey(reader.nested(), entry, headers, fields)


def _take(layout: Layout, words: Words, offsets: Offsets, index: Offsets, batch: FlowBatch) -> Offsets:
    """Fill in the records at ``index`` that have this layout; returns the others."""
    messages = _gather(words, offsets[index], len(layout.mask))
    wrong = messages & layout.mask
    wrong ^= layout.headers
    left = index[:0]
    if wrong.any():
        fits = np.bitwise_or.reduce(wrong, axis=1) == 0
        index, left = index[fits], index[~fits]
        messages = _gather(words, offsets[index], len(layout.mask))
    if len(index):
        _fill(batch, slice(None) if len(index) == len(batch) else index, _values(layout, messages))
    return left


def _gather(words: Words, offsets: Offsets, length: int) -> Words:
    """Messages of ``length`` words as the rows of one array; each is copied as one opaque item."""
    item = np.dtype((np.void, length * 4))
    windows = np.ndarray((len(words) - length + 1,), item, words.data, strides=(4,))
    return windows[offsets].view(np.uint32).reshape(len(offsets), length)


def _values(layout: Layout, messages: Words) -> Values:
    """The fields as views in network byte order; an IPv6 address is two columns of 64 bits."""
    values: Values = {}
    n, stride = len(messages), messages.strides[0]
    for name, at, size in layout.fields:
        if size == 16:
            values[name] = np.ndarray((n, 2), ">u8", messages.data, at, (stride, 8))
        else:
            values[name] = np.ndarray((n,), f">u{size}", messages.data, at, (stride,))
    return values


def _fill(batch: FlowBatch, at: Offsets | slice, values: Values) -> None:
    """Fill in the columns of one layout, with the values ``conntrack.decode_record`` gives for one message."""
    ends = _ends(values, "original", ("source", "destination"))
    reply = "reply_v4_source" in values or "reply_v6_source" in values
    translated = _ends(values, "reply", ("destination", "source")) if reply else ends
    columns: Values = {"flags": _flags(values, ends, translated), "protocol": values["original_protocol"]}
    columns |= ends
    columns |= {f"translated_{name}": column for name, column in translated.items()}
    columns |= {name: values[field] for name, field in _PLAIN if field in values}
    if _counted(values):
        columns |= {name: values[field] for name, field in zip(_COUNTERS, COUNTER_FIELDS, strict=True)}
    for name, column in columns.items():
        getattr(batch, name)[at] = column


def _counted(values: Values) -> bool:
    return all(name in values for name in COUNTER_FIELDS)


def _flags(values: Values, ends: Values, translated: Values) -> npt.NDArray[np.uint16]:
    flags = np.full(len(values["original_protocol"]), Flag.COUNTERS if _counted(values) else 0, np.uint16)
    for name, column in ends.items() if translated is not ends else ():
        flags |= (column != translated[name]) * np.uint16(Flag.TRANSLATED)
    if "tcp_state" in values:
        flags |= _ENDING[values["tcp_state"]]
    if "status" in values:
        flags |= (np.bitwise_and(values["status"], _REPLIED) != 0) * np.uint16(Flag.REPLIED)
        answer = np.where(values["original_protocol"] == TCP, _ASSURED, _REPLIED)
        flags |= (np.bitwise_and(values["status"], answer) != 0) * np.uint16(Flag.ASSURED)
        offloaded = np.bitwise_and(values["status"], _OFFLOADED)
        if offloaded.any():
            flags |= (offloaded != 0) * np.uint16(Flag.OFFLOADED)
            flags |= (offloaded & _HARDWARE != 0) * np.uint16(Flag.HARDWARE)
    return flags


def _ends(values: Values, side: str, order: tuple[str, str]) -> Values:
    """Both endpoints of one tuple, by column name, in host byte order."""
    icmp = values.get(f"{side}_icmp_id", values.get(f"{side}_icmpv6_id"))
    columns: Values = {}
    for name, end in zip(("client", "server"), order, strict=True):
        v4 = values.get(f"{side}_v4_{end}")
        if v4 is not None:
            columns[f"{name}_high"] = np.zeros(1, np.uint64)
            columns[f"{name}_low"] = np.bitwise_or(v4, np.uint64(V4_MAPPED))
        else:
            address = values[f"{side}_v6_{end}"]
            columns[f"{name}_high"], columns[f"{name}_low"] = address.astype(np.uint64).T
        port = values.get(f"{side}_{end}_port") if icmp is None or name == "server" else icmp
        columns[f"{name}_port"] = np.zeros(1, np.uint16) if port is None else port.astype(np.uint16)
    return columns


def _decode_rest(
    words: Words, offsets: Offsets, rest: Offsets, batch: FlowBatch, outcome: conntrack.DecodeTally
) -> conntrack.DecodedEntries:
    """Decode the messages at ``rest`` with the general decoder, and remove those that are not records."""
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
