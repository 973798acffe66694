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
from flowmap.wire.netlink.columns import TYPE_AND_FLAGS, find_messages
from flowmap.wire.netlink.inet_diag import (
    AF_INET,
    INFO_FIELDS,
    MESSAGE_SIZE,
    SOCK_DIAG_BY_FAMILY,
    DiagAttribute,
    Socket,
    decode_socket,
)
from flowmap.wire.netlink.messages import HEADER, AttributeReader, Message, MessageFlag, decode_messages

_WIDE = {"cookie", "cgroup", *(f"{end}_{half}" for end in ("local", "remote") for half in ("high", "low"))} | {
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
    at, broken = _find_messages(view, words, starts)
    halves = words[at // _WORD + TYPE_AND_FLAGS].view(np.uint16)
    is_socket = halves[0::2] == SOCK_DIAG_BY_FAMILY
    lengths = words[at // _WORD].astype(np.int64)
    controls = [
        message
        for start, length in zip(at[~is_socket].tolist(), lengths[~is_socket].tolist(), strict=True)
        for message in decode_messages(view[start : start + length])
    ]
    index, sizes = at[is_socket] + HEADER.size, lengths[is_socket] - HEADER.size
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
    interrupted = bool((halves[1::2] & np.uint16(MessageFlag.DUMP_INTR)).any())
    return DecodedSockets(rows if bad == 0 else rows[good], controls, broken + bad, interrupted)


def _find_messages(view: memoryview, words: Words, starts: Sequence[int]) -> tuple[Index, int]:
    """Offset of every message, and the number of datagrams whose rest has no valid framing."""
    found = find_messages(view, starts)
    if found is not None:
        return found[1] * _WORD, 0
    at: list[int] = []
    broken = 0
    for start, end in zip(starts, [*starts[1:], len(view)], strict=False):
        here = start
        while here < end:
            length = int(words[here // _WORD])
            if not HEADER.size <= length <= end - here:
                broken += 1
                break
            at.append(here)
            here += (length + 3) & ~3
    return np.array(at, np.int64), broken


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
    cgroup: int  # offset of that attribute's 8 bytes; 0 if there is none


def _learn(payload: memoryview) -> _Layout:
    decode_socket(payload)  # raises for a malformed message
    headers: list[tuple[int, int]] = []
    info = info_size = v6only = cgroup = 0
    reader = AttributeReader(payload[MESSAGE_SIZE:], "inet_diag message")
    while reader.next():
        start = MESSAGE_SIZE + reader.start
        headers.append((start - _WORD, int.from_bytes(payload[start - _WORD : start], "little")))
        if reader.type == DiagAttribute.INFO:
            info, info_size = start, reader.length
        elif reader.type == DiagAttribute.SKV6ONLY:
            v6only = start
        elif reader.type == DiagAttribute.CGROUP_ID:
            cgroup = start
    return _Layout(payload[0], headers, info, info_size, v6only, cgroup)


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
    if layout.cgroup:
        rows["cgroup"] = long(layout.cgroup)
    for name, at, size in INFO_FIELDS:
        if at + size <= layout.info_size:
            rows[name] = word(layout.info + at) if size == _WORD else long(layout.info + at)
