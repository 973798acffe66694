"""Decodes many inet_diag messages at a time, as columns.

The messages of one dump have few layouts. A layout is learnt from one message. Messages of the same length with equal
attribute headers are then read by gathering 32-bit words. :func:`flowmap.wire.netlink.inet_diag.decode_socket` decodes
the others, so both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.errors import DecodeError
from flowmap.model.address import V4_MAPPED
from flowmap.wire.netlink.inet_diag import (
    AF_INET,
    BIT_FIELDS,
    INFO_FIELDS,
    MESSAGE_SIZE,
    SOCK_DIAG_BY_FAMILY,
    DiagAttribute,
    Socket,
    decode_socket,
)
from flowmap.wire.netlink.messages import HEADER, AttributeReader, Message, MessageFlag, decode_messages

_WIDE = {"cookie", *(f"{end}_{half}" for end in ("local", "remote") for half in ("high", "low"))} | {
    name for name, _, size in INFO_FIELDS if size == 8
}
SOCKETS = np.dtype([(name, np.uint64 if name in _WIDE else np.uint32) for name in Socket._fields], align=True)
"""A row of columns for each :class:`Socket`, in its order."""

Rows = npt.NDArray[np.void]
Words = npt.NDArray[np.uint32]
Index = npt.NDArray[np.int64]

_WORD = 4
_LAYOUT_LIMIT = 16  # layouts per message length; the rest is decoded one by one


class DecodedSockets(NamedTuple):
    """The contents of some datagrams."""

    sockets: Rows
    """One row of :data:`SOCKETS` per message, in order."""
    controls: list[Message]
    """DONE and ERROR messages, in order."""
    malformed: int
    """Messages, or rests of datagrams, that could not be decoded."""
    interrupted: bool
    """A message had NLM_F_DUMP_INTR."""


def decode_sockets(data: bytes | memoryview, starts: Sequence[int]) -> DecodedSockets:
    """Decode the datagrams at ``starts`` in ``data``: ascending multiples of 4; the last one ends with ``data``."""
    view = memoryview(data)
    whole = view if len(view) % _WORD == 0 else bytes(view) + bytes(-len(view) % _WORD)
    words = np.frombuffer(whole, np.uint32)
    frames = _Frames(view, words)
    for start, end in zip(starts, [*starts[1:], len(view)], strict=False):
        frames.take(start, end)
    index, sizes = frames.index()
    rows = np.zeros(len(index), SOCKETS)
    good = np.ones(len(index), bool)
    for size in np.unique(sizes).tolist():
        rest = np.flatnonzero(sizes == size)
        for _ in range(_LAYOUT_LIMIT):
            if len(rest) == 0:
                break
            rest = _by_layout(view, words, index, rest, size, rows, good)
        for one in rest.tolist():
            good[one] = _by_one(view[index[one] : index[one] + size], rows, one)
    bad = len(good) - int(good.sum())
    interrupted = bool(frames.flags & MessageFlag.DUMP_INTR)
    return DecodedSockets(rows if bad == 0 else rows[good], frames.controls, frames.malformed + bad, interrupted)


class _Frames:
    """Finds the messages of datagrams."""

    def __init__(self, view: memoryview, words: Words) -> None:
        self._view, self._words = view, words
        self._at: list[int] = []  # payloads of socket messages
        self._lengths: list[int] = []
        self.controls: list[Message] = []
        self.malformed = 0
        self.flags = 0  # of all messages together

    def take(self, start: int, end: int) -> None:
        """One datagram."""
        unpack, head = HEADER.unpack_from, HEADER.size
        here = self._run(start, end)
        while here < end:
            length, kind, flags, _, _ = unpack(self._view, here) if end - here >= head else (0, 0, 0, 0, 0)
            if not head <= length <= end - here:
                self.malformed += 1
                break
            self.flags |= flags
            if kind == SOCK_DIAG_BY_FAMILY:
                self._at.append(here + head)
                self._lengths.append(length - head)
            else:
                self.controls.extend(decode_messages(self._view[here : here + length]))
            here += (length + 3) & ~3

    def _run(self, start: int, end: int) -> int:
        """Take the leading messages of a datagram with length and type of the first; returns the offset of the rest."""
        if end - start < HEADER.size:
            return start
        length, kind, flags, _, _ = HEADER.unpack_from(self._view, start)
        step = (length + 3) & ~3
        if kind != SOCK_DIAG_BY_FAMILY or not HEADER.size <= length <= end - start:
            return start
        first, last = start // _WORD, (start + (end - start) // step * step) // _WORD
        same = self._words[first : last : step // _WORD] == length
        same &= self._words[first + 1 : last + 1 : step // _WORD] == self._words[first + 1]
        number = len(same) if same.all() else int(np.argmin(same))
        stop: int = start + number * step
        self.flags |= flags
        self._at.extend(range(start + HEADER.size, stop, step))
        self._lengths.extend([length - HEADER.size] * number)
        return stop

    def index(self) -> tuple[Index, Index]:
        """Offset and size of the payload of each socket message."""
        return np.array(self._at, np.int64), np.array(self._lengths, np.int64)


def _by_one(payload: memoryview, rows: Rows, row: int) -> bool:
    try:
        rows[row] = tuple(decode_socket(payload))
    except DecodeError:
        return False
    return True


def _by_layout(
    view: memoryview, words: Words, index: Index, rest: Index, size: int, rows: Rows, good: npt.NDArray[np.bool_]
) -> Index:
    """Learn the layout of the first of ``rest``, decode all messages with it, and return the others."""
    first = int(index[rest[0]])
    try:
        layout = _learn(view[first : first + size])
    except DecodeError:
        good[rest[0]] = False
        return rest[1:]
    base = index[rest] // _WORD
    same = (words[base] & 0xFF) == layout.family
    for offset, word in layout.headers:
        same &= words[base + offset // _WORD] == word
    if same.all() and len(rest) == len(rows):
        _gather(words, base, layout, rows)
        return rest[:0]
    part = np.zeros(int(same.sum()), SOCKETS)
    _gather(words, base[same], layout, part)
    rows[rest[same]] = part
    left: Index = rest[~same]
    return left


class _Layout(NamedTuple):
    family: int
    headers: list[tuple[int, int]]  # offset and word of each attribute header
    info: int  # offset of tcp_info; 0 if there is none
    info_size: int
    v6only: int  # offset of that attribute's byte; 0 if there is none


def _learn(payload: memoryview) -> _Layout:
    decode_socket(payload)  # raises for a malformed message
    headers: list[tuple[int, int]] = []
    info = info_size = v6only = 0
    reader = AttributeReader(payload[MESSAGE_SIZE:], "inet_diag message")
    while reader.next():
        start = MESSAGE_SIZE + reader.start
        headers.append((start - _WORD, int.from_bytes(payload[start - _WORD : start], "little")))
        if reader.type == DiagAttribute.INFO:
            info, info_size = start, reader.length
        elif reader.type == DiagAttribute.SKV6ONLY:
            v6only = start
    return _Layout(payload[0], headers, info, info_size, v6only)


def _gather(words: Words, base: Index, layout: _Layout, rows: Rows) -> None:
    """Fill ``rows`` from the messages that start at the words ``base`` and have ``layout``."""

    def word(offset: int) -> Words:
        found: Words = words[base + offset // _WORD]
        return found

    def long(offset: int) -> npt.NDArray[np.uint64]:
        return word(offset).astype(np.uint64) | word(offset + _WORD).astype(np.uint64) << np.uint64(32)

    first, ports = word(0), word(4).byteswap()
    rows["family"], rows["state"], rows["timer"] = first & 0xFF, first >> 8 & 0xFF, first >> 16 & 0xFF
    rows["local_port"], rows["remote_port"] = ports >> 16, ports & 0xFFFF
    for end, offset in (("local", 8), ("remote", 24)):
        if layout.family == AF_INET:
            rows[f"{end}_low"] = word(offset).byteswap() | np.uint64(V4_MAPPED)
        else:
            rows[f"{end}_high"] = long(offset).byteswap()
            rows[f"{end}_low"] = long(offset + 8).byteswap()
    rows["interface"], rows["cookie"] = word(40), long(44)
    for name, offset in (("receive_queue", 56), ("send_queue", 60), ("uid", 64), ("inode", 68)):
        rows[name] = word(offset)
    rows["info_size"] = layout.info_size
    if layout.v6only:
        rows["v6only"] = word(layout.v6only) & 0xFF
    for name, at, shift, mask in BIT_FIELDS:
        if at < layout.info_size:
            rows[name] = word(layout.info + at) >> (shift + at % _WORD * 8) & mask
    for name, at, size in INFO_FIELDS:
        if at + size <= layout.info_size:
            rows[name] = word(layout.info + at) if size == _WORD else long(layout.info + at)
