"""Finds the start of every netlink message in a buffer with array operations instead of a loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flowmap.wire.netlink.messages import HEADER

Words = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]

TYPE_AND_FLAGS = 1
"""Position of a word in nlmsghdr, as the next two; word 0 is the length."""
_SEQUENCE = 2
_PORT = 3


def find_messages(data: bytes | memoryview, starts: Sequence[int]) -> tuple[Words, Offsets] | None:
    """The data as words, and the word offset of every message; None if any length is invalid."""
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
    """Whether each message ends where the next one starts, and the last one at the end of the data."""
    if not len(offsets) or int(offsets[-1]) + HEADER.size // 4 > len(words):
        return False
    lengths = words[offsets].astype(np.int64)
    ends = offsets + ((lengths + 3) >> 2)
    return bool((lengths >= HEADER.size).all() and ends[-1] == len(words) and np.array_equal(ends[:-1], offsets[1:]))


def _guess(words: Words, first: Offsets) -> Offsets | None:
    """Find the messages of many datagrams by their common sequence number and port, then check the result.

    If each length leads exactly to the next place, and every datagram starts at one of them, a walk would find the same
    messages. Otherwise the datagrams are walked.
    """
    if int(first[0]) + HEADER.size // 4 > len(words):
        return None
    sequence, port = words[first[0] + _SEQUENCE], words[first[0] + _PORT]
    places: Offsets = np.flatnonzero(words[_SEQUENCE:-1] == sequence)
    places = places[words[places + _PORT] == port]
    if _chained(words, places):
        at = np.searchsorted(places, first)
        if at[0] == 0 and at[-1] < len(places) and np.array_equal(places[at], first):
            return places
    return _walk(words, first)


def _walk(words: Words, first: Offsets) -> Offsets | None:
    """The messages of each datagram, one after the other; None at the first invalid length."""
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
