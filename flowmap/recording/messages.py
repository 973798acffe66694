"""Rearranges netlink messages so that they deflate well, and restores them exactly.

Consecutive messages of one length usually differ in few bytes. So messages are grouped by length, each is replaced by
its difference to the previous one (bytewise, modulo 256), and stored by column: the first byte of all, then the second.
For events of a conntrack table the file becomes 2.5 times smaller than with deflate alone, and takes a third more time.

The pieces need not be messages: any division of the data into multiples of 4 bytes is restored exactly.
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
    """Lengths in words of the messages in the datagrams at ``starts``; of the datagrams if the framing is invalid.

    The first start is 0; all starts and the size of ``data`` are multiples of 4.
    """
    found = find_messages(data, starts)
    offsets = np.asarray(starts, np.int64) >> 2 if found is None else found[1]
    return np.diff(offsets, append=len(data) // 4).astype(np.uint32)


def pack(data: bytes, lengths: Lengths) -> bytes:
    """``data``, divided into pieces of ``lengths`` words, in the rearranged form."""
    words = np.frombuffer(data, np.uint32)
    ends = np.cumsum(lengths, dtype=np.int64)
    parts = [_SIZES.pack(len(lengths), len(data)), lengths.tobytes()]
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = words[_places(ends, lengths, length)].view(np.uint8)
        rows[1:] -= rows[:-1].copy()
        parts.append(np.ascontiguousarray(rows.T).tobytes())
    return b"".join(parts)


def unpack(packed: bytes | memoryview) -> bytes:
    """The data passed to :func:`pack`; DecodeError for an invalid form."""
    if len(packed) < _SIZES.size:
        raise DecodeError("recorded messages: too short")
    pieces, size = _SIZES.unpack_from(packed)
    at = _SIZES.size + 4 * pieces
    if len(packed) != at + size:
        raise DecodeError("recorded messages: inconsistent sizes")
    lengths = np.frombuffer(packed, np.uint32, pieces, _SIZES.size)
    ends = np.cumsum(lengths, dtype=np.int64)
    if size % 4 or (int(ends[-1]) if pieces else 0) != size // 4:
        raise DecodeError("recorded messages: inconsistent sizes")
    words = np.empty(size // 4, np.uint32)
    for length in np.unique(lengths[lengths > 0]).tolist():
        places = _places(ends, lengths, length)
        columns = np.frombuffer(packed, np.uint8, places.size * 4, at).reshape(length * 4, len(places))
        rows = np.add.accumulate(np.ascontiguousarray(columns.T), axis=0, dtype=np.uint8)
        words[places] = rows.view(np.uint32)
        at += places.size * 4
    return words.tobytes()


def _places(ends: npt.NDArray[np.int64], lengths: Lengths, length: int) -> npt.NDArray[np.int64]:
    """Indexes of the words of all pieces of ``length``, one row per piece."""
    places: npt.NDArray[np.int64] = (ends[lengths == length] - length)[:, None] + np.arange(length)
    return places
