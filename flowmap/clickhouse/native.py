"""Encodes columns in ClickHouse's format Native, for the body of an insert.

    block     number of columns, number of rows; then each column: name, type, values one after the other
    numbers   little-endian; IPv6 addresses as 16 bytes, the highest first; IPv4 addresses as numbers
    strings   dictionary-encoded: LowCardinality(String), the distinct ones and a number of one, two or four bytes a row
    arrays    of dictionary-encoded strings: where each row's part ends, then all parts

A body is any number of blocks. The server converts a column to the type of its table, and fills in the default of one
that a block lacks. Source: src/Formats/NativeWriter.cpp and src/DataTypes/Serializations of ClickHouse, revision 0 (as
over HTTP).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]

_KEYS_VERSION = struct.pack("<Q", 1)  # SharedDictionariesWithAdditionalKeys
_ADDITIONAL_KEYS = 0x600  # the dictionary comes with the block
_WIDTHS = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"), np.dtype("<u8"))
_UNSIGNED = {dtype.itemsize: f"UInt{8 * dtype.itemsize}" for dtype in _WIDTHS}


class Column(NamedTuple):
    """One column of a block, encoded."""

    name: str
    type: str
    body: bytes


def block(rows: int, columns: Sequence[Column]) -> bytes:
    """One block of ``rows`` rows."""
    parts = [_size(len(columns)), _size(rows)]
    for column in columns:
        parts += (_text(column.name), _text(column.type), column.body)
    return b"".join(parts)


def unsigned(name: str, values: Numbers) -> Column | None:
    """Numbers of at least 0, in as few bytes as the largest one needs. None if all are 0."""
    most = int(values.max()) if len(values) else 0
    if not most:
        return None
    dtype = _narrowest(most)
    return Column(name, _UNSIGNED[dtype.itemsize], values.astype(dtype).tobytes())


def flags(name: str, values: npt.NDArray[np.bool_]) -> Column | None:
    """Booleans. None if none is true."""
    return Column(name, "Bool", values.astype("<u1").tobytes()) if values.any() else None


def times(name: str, micro: Numbers) -> Column:
    """Times in µs since the epoch."""
    return Column(name, "DateTime64(6, 'UTC')", micro.astype("<i8").tobytes())


def addresses(name: str, high: Numbers, low: Numbers) -> Column | None:
    """Addresses as two halves each: IPv4 if all are. None if all are zero."""
    if not high.any():
        if np.array_equal(low >> np.uint64(32), np.full(len(low), 0xFFFF, np.uint64)):
            return Column(name, "IPv4", low.astype("<u4").tobytes())
        if not low.any():
            return None
    return Column(name, "IPv6", np.stack((high, low), axis=1).astype(">u8").tobytes())


def strings(name: str, distinct: Sequence[str], numbers: Numbers) -> Column | None:
    """For each row one of the distinct strings, by its position. None if only the empty one is there."""
    if distinct == ("",):
        return None
    return Column(name, "LowCardinality(String)", _KEYS_VERSION + _dictionary(distinct, numbers))


def constant(name: str, text: str, rows: int) -> Column | None:
    """The same string in every row."""
    return strings(name, (text,), np.zeros(rows, np.uint8))


def arrays(name: str, distinct: Sequence[str], ends: Numbers, numbers: Numbers) -> Column | None:
    """For each row several of the distinct strings: ``numbers`` of all rows, and where in it each row's part ends. None
    if every row has none."""
    if not len(numbers):
        return None
    body = _KEYS_VERSION + ends.astype("<u8").tobytes() + _dictionary(distinct, numbers)
    return Column(name, "Array(LowCardinality(String))", body)


def _dictionary(distinct: Sequence[str], numbers: Numbers) -> bytes:
    dtype = _narrowest(max(len(distinct) - 1, 0))
    head = struct.pack("<QQ", _ADDITIONAL_KEYS | dtype.itemsize.bit_length() - 1, len(distinct))
    keys = b"".join(_text(text) for text in distinct)
    return b"".join((head, keys, struct.pack("<Q", len(numbers)), numbers.astype(dtype).tobytes()))


def _narrowest(most: int) -> np.dtype[Any]:
    return next(dtype for dtype in _WIDTHS if most < 1 << 8 * dtype.itemsize)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return _size(len(data)) + data


def _size(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first (LEB128)."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def joined(blocks: Iterable[bytes]) -> bytes:
    """The body of several blocks."""
    return b"".join(blocks)
