"""Encodes and decodes the entries of a recording: the contents of one chunk of commands.

    chunk    size of the stream, the stream, all datagrams packed together (see ``recording.messages``)
    stream   for each entry its code (1 byte) and its fields, in the order of their declaration

Numbers are little-endian: times are exact 64-bit floats, integers are unsigned with 32 bits. The bytes of a batch of
netlink datagrams are among the packed ones, in order. The columns of other batches are in the stream, except columns of
zeros. A configuration is reduced to the part that ``recording.settings`` keeps. Other fields are JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from flowmap.config.models import Config
from flowmap.engine.commands import Configure, CountFlowless, Decide, Deliver, Finish, GiveUp, Restore, TakeStep, Tidy
from flowmap.errors import DecodeError
from flowmap.flows.records.batch import COLUMNS, Datagrams, FlowBatch
from flowmap.recording import messages
from flowmap.recording.entries import Asked, ClockSet, Entry, Marked, Undecoded
from flowmap.recording.settings import first_problem, kept_settings, read_settings
from flowmap.sources.base import (
    AddressesRemoved,
    Broadcasts,
    CaughtUp,
    Lost,
    MeasuringFinished,
    NamespaceAddresses,
    NamespaceGone,
    NamespaceOpened,
    NamespaceRead,
    NamespacesNamed,
    OwnCalls,
    ReadFinished,
    ReadReason,
    ReadStarted,
    Step,
    WorkloadsNamed,
)

CODES: Mapping[type, int] = {
    Undecoded: 1,
    FlowBatch: 2,
    ReadStarted: 3,
    ReadFinished: 4,
    CaughtUp: 5,
    Lost: 6,
    Asked: 7,
    Deliver: 8,
    Decide: 9,
    GiveUp: 10,
    Tidy: 11,
    ClockSet: 12,
    Marked: 13,
    Restore: 15,
    MeasuringFinished: 16,
    Configure: 17,
    CountFlowless: 18,
    Finish: 19,
    Broadcasts: 20,
    WorkloadsNamed: 21,
    OwnCalls: 22,
    NamespacesNamed: 23,
    NamespaceOpened: 24,
    NamespaceRead: 25,
    NamespaceGone: 26,
    NamespaceAddresses: 27,
    AddressesRemoved: 28,
}
"""The code of each type of entry; a :class:`TakeStep` has the code of its step. Codes never change, since recordings
are kept. A new code, or a new field in a type, needs a higher ``recording.file.FORMAT``."""

_TYPES = {code: kind for kind, code in CODES.items()}
_STEPS = frozenset(get_args(Step))
_WHOLE = (Marked, Restore)
"""Types encoded as one JSON object with their times, as in format 1."""

_SIZE = struct.Struct("<I")
_INSTANTS = struct.Struct("<dd")
_DATAGRAMS = struct.Struct("<HII")  # marked, size, number
_REASONS: tuple[ReadReason, ...] = get_args(ReadReason)
_CUT = "invalid recording: an entry is cut off"


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The contents of a chunk of commands."""
    stream: list[bytes] = []
    data: list[bytes] = []
    lengths: list[messages.Lengths] = []
    for entry in entries:
        value = entry.step if isinstance(entry, TakeStep) else entry
        kind: type = type(value)
        stream.append(bytes((CODES[kind],)))
        if isinstance(entry, TakeStep):
            stream.append(_INSTANTS.pack(entry.now, entry.read_at))
        stream += _entry_form(kind).write(value)
        if isinstance(entry, Undecoded):
            data.append(bytes(entry.datagrams.data))
            lengths.append(messages.piece_lengths(data[-1], entry.datagrams.starts))
    packed = messages.pack(b"".join(data), np.concatenate(lengths)) if data else b""
    joined = b"".join(stream)
    return b"".join((_SIZE.pack(len(joined)), joined, packed))


def decode_entries(chunk: bytes) -> Iterator[Entry]:
    """The entries of a chunk; DecodeError for an invalid entry."""
    reader = _Reader(chunk)
    (size,) = reader.unpack(_SIZE)
    stream = _Reader(reader.take(size))
    packed = reader.rest()
    stream.data = memoryview(messages.unpack(packed)) if packed else memoryview(b"")
    while stream.left:
        (code,) = stream.take(1)
        kind = _TYPES.get(code)
        if kind is None:
            raise DecodeError(f"invalid recording: an entry has the unknown code {code}")
        instants = stream.unpack(_INSTANTS) if kind in _STEPS else ()
        value = _entry_form(kind).read(stream)
        yield TakeStep(value, *instants) if instants else value


def to_json(value: object) -> bytes:
    """``value`` as JSON; named tuples and dataclasses are objects with their fields."""
    return json.dumps(_plain(value), separators=(",", ":")).encode()


class _Reader:
    """Reads bytes in order; DecodeError if there are too few."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._view = memoryview(data)
        self._at = 0
        self.data = memoryview(b"")
        """Datagrams of the chunk for the entries that follow."""

    @property
    def left(self) -> int:
        return len(self._view) - self._at

    def take(self, size: int) -> memoryview:
        if size > self.left:
            raise DecodeError(_CUT)
        self._at += size
        return self._view[self._at - size : self._at]

    def rest(self) -> memoryview:
        return self.take(self.left)

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.take(form.size))

    def sized(self) -> memoryview:
        (size,) = self.unpack(_SIZE)
        return self.take(size)

    def datagrams(self, size: int) -> bytes:
        if size > len(self.data):
            raise DecodeError("invalid recording: the datagrams of a step are missing")
        taken, self.data = bytes(self.data[:size]), self.data[size:]
        return taken


class _Form(NamedTuple):
    """The encoder and decoder of one type."""

    write: Callable[[Any], Sequence[bytes]]
    read: Callable[[_Reader], Any]


@cache
def _entry_form(kind: type) -> _Form:
    if kind in _FORMS or kind in _WHOLE:
        return _form(kind)
    hints = get_type_hints(kind)
    parts = [(field.name, _form(hints[field.name])) for field in fields(kind)]
    return _Form(
        lambda value: [piece for name, part in parts for piece in part.write(getattr(value, name))],
        lambda reader: kind(*(part.read(reader) for _, part in parts)),
    )


def _form(hint: Any) -> _Form:
    return _FORMS.get(hint) or _json_form(TypeAdapter(hint))


def _json_form(adapter: TypeAdapter[Any]) -> _Form:
    def read(reader: _Reader) -> Any:
        try:
            return adapter.validate_python(json.loads(bytes(reader.sized())))
        except ValidationError as error:
            raise DecodeError(f"invalid recording: an entry cannot be read: {first_problem(error)}") from error
        except ValueError as error:
            raise DecodeError("invalid recording: an entry is not valid JSON") from error

    return _Form(lambda value: _sized(to_json(value)), read)


def _number(form: str) -> _Form:
    packed = struct.Struct(form)
    return _Form(lambda value: (packed.pack(value),), lambda reader: reader.unpack(packed)[0])


def _sized(data: bytes) -> tuple[bytes, bytes]:
    return _SIZE.pack(len(data)), data


def _write_datagrams(datagrams: Datagrams) -> Sequence[bytes]:
    gaps = np.diff(np.array(datagrams.starts, np.uint32), prepend=np.uint32(0))
    head = _DATAGRAMS.pack(datagrams.marked, len(datagrams.data), len(datagrams.starts))
    return head, gaps.astype("<u4").tobytes()


def _read_datagrams(reader: _Reader) -> Datagrams:
    marked, size, count = reader.unpack(_DATAGRAMS)
    starts = np.cumsum(np.frombuffer(reader.take(4 * count), "<u4"), dtype=np.int64)
    if size % 4 or (count and (int(starts[0]) != 0 or int(starts[-1]) > size)):
        raise DecodeError("invalid recording: a datagram is outside its data")
    return Datagrams(reader.datagrams(size), tuple(starts.tolist()), marked)


def _write_batch(batch: FlowBatch) -> Sequence[bytes]:
    used = {name: column for name, column in batch.columns().items() if name == "kind" or column.any()}
    names = ",".join(used).encode()
    return _SIZE.pack(len(batch)), *_sized(names), *(column.tobytes() for column in used.values())


def _read_batch(reader: _Reader) -> FlowBatch:
    (count,) = reader.unpack(_SIZE)
    names = bytes(reader.sized()).decode(errors="replace")
    if count > reader.left:
        raise DecodeError(_CUT)
    batch = FlowBatch(count)
    for name in names.split(",") if names else ():
        if name not in COLUMNS:
            raise DecodeError(f"invalid recording: unknown column {name!r}")
        setattr(batch, name, np.frombuffer(reader.take(count * COLUMNS[name].itemsize), COLUMNS[name]).copy())
    return batch


def _read_config(reader: _Reader) -> Config:
    try:
        kept = json.loads(bytes(reader.sized()))
    except ValueError as error:
        raise DecodeError("invalid recording: the settings of a reload cannot be read") from error
    return read_settings(kept).config


_FORMS: Mapping[Any, _Form] = {
    float: _number("<d"),
    int: _number("<I"),
    bool: _number("<?"),
    str: _Form(lambda text: _sized(text.encode()), lambda reader: bytes(reader.sized()).decode(errors="replace")),
    ReadReason: _Form(
        lambda reason: (bytes((_REASONS.index(reason),)),),
        lambda reader: _REASONS[min(reader.take(1)[0], len(_REASONS) - 1)],
    ),
    Datagrams: _Form(_write_datagrams, _read_datagrams),
    FlowBatch: _Form(_write_batch, _read_batch),
    Config: _Form(lambda config: _sized(to_json(kept_settings(config))), _read_config),
}


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
