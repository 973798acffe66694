"""Netlink messages arranged so that they deflate well, and back, byte for byte.

Messages of one length mostly differ in few bytes from the one before. So the messages of each length stand together,
each as its difference from the one before it (byte by byte, modulo 256), column by column: the first byte of all, then
the second of all. On events of a conntrack table that makes the file 2.5 times smaller than deflate alone, for
a third more time. Where one length has few messages this costs little more than it gains.

The pieces need not be messages: any cut of the data into multiples of 4 bytes comes back as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flowmap.errors import DecodeError
from flowmap.wire.netlink.columns import find_messages

_SIZES = struct.Struct("<II")

Lengths = npt.NDArray[np.uint32]


def piece_lengths(data: bytes, starts: Sequence[int]) -> Lengths:
    """Lengths in words of the messages of the datagrams at ``starts``, or of the datagrams if these are no messages.

    The first start is 0, all are multiples of 4, and so is the size of ``data``.
    """
    found = find_messages(data, starts)
    offsets = np.asarray(starts, np.int64) >> 2 if found is None else found[1]
    return np.diff(offsets, append=len(data) // 4).astype(np.uint32)


def pack(data: bytes, lengths: Lengths) -> bytes:
    """``data``, cut into pieces of so many words each, as said in the module's heading."""
    words = np.frombuffer(data, np.uint32)
    ends = np.cumsum(lengths, dtype=np.int64)
    parts = [_SIZES.pack(len(lengths), len(data)), lengths.tobytes()]
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = words[_places(ends, lengths, length)].view(np.uint8)
        rows[1:] -= rows[:-1].copy()
        parts.append(np.ascontiguousarray(rows.T).tobytes())
    return b"".join(parts)


def unpack(packed: bytes | memoryview) -> bytes:
    """The data that :func:`pack` was given; DecodeError if it is not of that form."""
    if len(packed) < _SIZES.size:
        raise DecodeError("recorded messages: too short")
    pieces, size = _SIZES.unpack_from(packed)
    at = _SIZES.size + 4 * pieces
    if len(packed) != at + size:
        raise DecodeError("recorded messages: the sizes do not add up")
    lengths = np.frombuffer(packed, np.uint32, pieces, _SIZES.size)
    ends = np.cumsum(lengths, dtype=np.int64)
    if size % 4 or (int(ends[-1]) if pieces else 0) != size // 4:
        raise DecodeError("recorded messages: the sizes do not add up")
    words = np.empty(size // 4, np.uint32)
    for length in np.unique(lengths[lengths > 0]).tolist():
        places = _places(ends, lengths, length)
        columns = np.frombuffer(packed, np.uint8, places.size * 4, at).reshape(length * 4, len(places))
        rows = np.add.accumulate(np.ascontiguousarray(columns.T), axis=0, dtype=np.uint8)
        words[places] = rows.view(np.uint32)
        at += places.size * 4
    return words.tobytes()


def _places(ends: npt.NDArray[np.int64], lengths: Lengths, length: int) -> npt.NDArray[np.int64]:
    """Where the words of all pieces of ``length`` stand, a row a piece."""
    places: npt.NDArray[np.int64] = (ends[lengths == length] - length)[:, None] + np.arange(length)
    return places
