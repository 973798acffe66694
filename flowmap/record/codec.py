"""Entries of a recording as bytes and back: what one chunk of operations holds.

    chunk    size of the stream, the stream, messages packed together (see ``record.messages``)
    stream   for each entry its code (1 byte) and its fields

Fields are little-endian; instants are 64-bit floats, exactly as they were. A batch of netlink messages has its bytes
among the packed messages, in order; any other batch has its columns in the stream, those that are all zero left out.
What comes seldom (deliveries, figures) is JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from flowmap.collect.base import Broadcasts, CaughtUp, Lost, MeasuringFinished, ReadFinished, ReadReason, ReadStarted
from flowmap.errors import DecodeError
from flowmap.flows.batch import COLUMNS, FlowBatch
from flowmap.operations import Delivery, Tuning
from flowmap.record import messages
from flowmap.record.entries import (
    Asked,
    ClockSet,
    Delivered,
    Entry,
    GaveUp,
    Marked,
    Messages,
    RecordedStep,
    Restored,
    Settled,
    Stepped,
    Tidied,
    Tuned,
)

T = TypeVar("T")

_SIZE = struct.Struct("<I")
_INSTANT = struct.Struct("<d")
_INSTANTS = struct.Struct("<dd")
_ASKED = struct.Struct("<dII")
_MESSAGES = struct.Struct("<HII")  # marked, size, datagrams

_REASONS: tuple[ReadReason, ...] = ("start", "timer", "overrun")
_DELIVERY: TypeAdapter[Delivery] = TypeAdapter(Delivery)
_BROADCASTS: TypeAdapter[Broadcasts] = TypeAdapter(Broadcasts)
_MARKED: TypeAdapter[Marked] = TypeAdapter(Marked)
_RESTORED: TypeAdapter[Restored] = TypeAdapter(Restored)
_TUNING: TypeAdapter[Tuning] = TypeAdapter(Tuning)


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """What a chunk of operations holds."""
    stream: list[bytes] = []
    data: list[bytes] = []
    lengths: list[messages.Lengths] = []
    for entry in entries:
        code, encode = _ENCODERS[_kind(entry)]
        stream += (bytes((code,)), *encode(entry))
        if isinstance(entry, Stepped) and isinstance(entry.step, Messages):
            data.append(entry.step.data)
            lengths.append(messages.piece_lengths(entry.step.data, entry.step.starts))
    packed = messages.pack(b"".join(data), np.concatenate(lengths)) if data else b""
    joined = b"".join(stream)
    return b"".join((_SIZE.pack(len(joined)), joined, packed))


def decode_entries(chunk: bytes) -> Iterator[Entry]:
    """The entries of a chunk; DecodeError for what is none."""
    reader = _Reader(chunk)
    (size,) = reader.unpack(_SIZE)
    stream = _Reader(reader.take(size))
    packed = reader.rest()
    stream.data = memoryview(messages.unpack(packed)) if packed else memoryview(b"")
    while stream.left:
        (code,) = stream.take(1)
        decode = _DECODERS.get(code)
        if decode is None:
            raise DecodeError(f"an entry of a recording has the unknown code {code}: a later flowmap wrote it")
        yield decode(stream)


def to_json(value: object) -> bytes:
    """``value`` as JSON, named tuples and dataclasses by the names of their fields."""
    return json.dumps(_plain(value), separators=(",", ":")).encode()


class _Reader:
    """Takes bytes from the front; DecodeError where there are too few."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._view = memoryview(data)
        self._at = 0
        self.data = memoryview(b"")
        """Messages of the chunk that no entry took yet."""

    @property
    def left(self) -> int:
        return len(self._view) - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise DecodeError("an entry of a recording is cut off")
        self._at += size
        return self._view[self._at - size : self._at]

    def rest(self) -> memoryview:
        return self.take(self.left)

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def sized(self) -> memoryview:
        (size,) = self.unpack(_SIZE)
        return self.take(size)

    def messages(self, size: int) -> bytes:
        if size > len(self.data):
            raise DecodeError("a recording lacks the messages of a step")
        taken, self.data = bytes(self.data[:size]), self.data[size:]
        return taken


def _sized(data: bytes) -> tuple[bytes, bytes]:
    return _SIZE.pack(len(data)), data


def _step(entry: Stepped) -> tuple[bytes, ...]:
    return (_INSTANTS.pack(entry.now, entry.read_at), *_STEP_ENCODERS[type(entry.step)](entry.step))


def _messages(step: Messages) -> tuple[bytes, ...]:
    gaps = np.diff(np.array(step.starts, np.uint32), prepend=np.uint32(0))
    return _MESSAGES.pack(step.marked, len(step.data), len(step.starts)), gaps.astype("<u4").tobytes()


def _batch(step: FlowBatch) -> tuple[bytes, ...]:
    used = {name: column for name, column in step.columns().items() if name == "kind" or column.any()}
    names = ",".join(used).encode()
    return _SIZE.pack(len(step)), *_sized(names), *(column.tobytes() for column in used.values())


def _read_messages(reader: _Reader) -> Messages:
    marked, size, datagrams = reader.unpack(_MESSAGES)
    starts = np.cumsum(np.frombuffer(reader.take(4 * datagrams), "<u4"), dtype=np.int64)
    if size % 4 or (datagrams and (int(starts[0]) != 0 or int(starts[-1]) > size)):
        raise DecodeError("a recording has datagrams that lie outside their data")
    return Messages(reader.messages(size), tuple(starts.tolist()), marked)


def _read_batch(reader: _Reader) -> FlowBatch:
    (count,) = reader.unpack(_SIZE)
    names = bytes(reader.sized()).decode(errors="replace")
    if count > reader.left:
        raise DecodeError("an entry of a recording is cut off")
    batch = FlowBatch(count)
    for name in names.split(",") if names else ():
        if name not in COLUMNS:
            raise DecodeError(f"a recording has the unknown column {name!r}: a later flowmap wrote it")
        setattr(batch, name, np.frombuffer(reader.take(count * COLUMNS[name].itemsize), COLUMNS[name]).copy())
    return batch


def _kind(entry: Entry) -> type:
    return type(entry.step) if isinstance(entry, Stepped) else type(entry)


_Encode = Callable[[Any], tuple[bytes, ...]]

_STEP_ENCODERS: Mapping[type, _Encode] = {
    Messages: _messages,
    FlowBatch: _batch,
    ReadStarted: lambda step: (bytes((_REASONS.index(step.reason),)),),
    ReadFinished: lambda step: (bytes((step.complete,)),),
    CaughtUp: lambda step: (_INSTANT.pack(step.at),),
    Lost: lambda step: _sized(step.reason.encode()),
    MeasuringFinished: lambda step: (bytes((step.complete,)),),
    Broadcasts: lambda step: _sized(to_json(step)),
}
_STEP_DECODERS: Mapping[type, Callable[[_Reader], RecordedStep]] = {
    Messages: _read_messages,
    FlowBatch: _read_batch,
    ReadStarted: lambda reader: ReadStarted(_REASONS[min(reader.take(1)[0], len(_REASONS) - 1)]),
    ReadFinished: lambda reader: ReadFinished(bool(reader.take(1)[0])),
    CaughtUp: lambda reader: CaughtUp(*reader.unpack(_INSTANT)),
    Lost: lambda reader: Lost(bytes(reader.sized()).decode(errors="replace")),
    MeasuringFinished: lambda reader: MeasuringFinished(bool(reader.take(1)[0])),
    Broadcasts: lambda reader: _from_json(_BROADCASTS, reader.sized()),
}


def _read_step(kind: type) -> Callable[[_Reader], Entry]:
    def read(reader: _Reader) -> Entry:
        now, read_at = reader.unpack(_INSTANTS)
        return Stepped(_STEP_DECODERS[kind](reader), now, read_at)

    return read


def _delivered(entry: Delivered) -> tuple[bytes, ...]:
    return (_INSTANT.pack(entry.now), *_sized(to_json(entry.delivery)))


def _read_delivered(reader: _Reader) -> Entry:
    (now,) = reader.unpack(_INSTANT)
    return Delivered(_from_json(_DELIVERY, reader.sized()), now)


def _from_json(adapter: TypeAdapter[T], data: memoryview) -> T:
    try:
        return adapter.validate_python(json.loads(bytes(data)))
    except (ValidationError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise DecodeError(f"a recording has an entry of another form, a later flowmap wrote it: {problem}") from error


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


_ENCODERS: Mapping[type, tuple[int, _Encode]] = {
    Messages: (1, _step),
    FlowBatch: (2, _step),
    ReadStarted: (3, _step),
    ReadFinished: (4, _step),
    CaughtUp: (5, _step),
    Lost: (6, _step),
    Asked: (7, lambda entry: (_ASKED.pack(entry.now, entry.limit, entry.questions),)),
    Delivered: (8, _delivered),
    Settled: (9, lambda entry: (_INSTANT.pack(entry.now),)),
    GaveUp: (10, lambda entry: (_INSTANTS.pack(entry.older_than, entry.now),)),
    Tidied: (11, lambda entry: (_INSTANT.pack(entry.now),)),
    ClockSet: (12, lambda entry: (_INSTANT.pack(entry.epoch),)),
    Marked: (13, lambda entry: _sized(to_json(entry))),
    Tuned: (14, lambda entry: _sized(to_json(entry.tuning))),
    Restored: (15, lambda entry: _sized(to_json(entry))),
    MeasuringFinished: (16, _step),
    Broadcasts: (17, _step),
}
"""The code of each kind of entry, and how its fields are written. Codes stay what they are: recordings are kept."""

_READERS: Mapping[type, Callable[[_Reader], Entry]] = {kind: _read_step(kind) for kind in _STEP_DECODERS} | {
    Asked: lambda reader: Asked(*reader.unpack(_ASKED)),
    Delivered: _read_delivered,
    Settled: lambda reader: Settled(*reader.unpack(_INSTANT)),
    GaveUp: lambda reader: GaveUp(*reader.unpack(_INSTANTS)),
    Tidied: lambda reader: Tidied(*reader.unpack(_INSTANT)),
    ClockSet: lambda reader: ClockSet(*reader.unpack(_INSTANT)),
    Marked: lambda reader: _from_json(_MARKED, reader.sized()),
    Restored: lambda reader: _from_json(_RESTORED, reader.sized()),
    Tuned: lambda reader: Tuned(_from_json(_TUNING, reader.sized())),
}
_DECODERS = {code: _READERS[kind] for kind, (code, _) in _ENCODERS.items()}
