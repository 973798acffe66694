"""Many inet_diag messages at once, as columns.

The messages of one dump have few layouts. A layout is learned from one message with the general decoder's rules; every
message of the same length whose attribute headers are the same words is then read by gathering 32-bit words. What fits
no layout goes through :func:`flowmap.wire.inet_diag.decode_socket`, so both ways give the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.errors import DecodeError
from flowmap.flows.address import V4_MAPPED
from flowmap.wire.inet_diag import (
    AF_INET,
    BIT_FIELDS,
    INFO_FIELDS,
    MESSAGE_SIZE,
    SOCK_DIAG_BY_FAMILY,
    Attribute,
    Socket,
    decode_socket,
)
from flowmap.wire.netlink import HEADER, AttributeReader, Message, MessageFlag, decode_messages

SOCKETS = np.dtype([(name, np.uint64) for name in Socket._fields])
"""A row of columns for each :class:`Socket`, in its order."""

Rows = npt.NDArray[np.void]
Words = npt.NDArray[np.uint32]
Index = npt.NDArray[np.int64]

_WORD = 4
_LAYOUT_LIMIT = 16  # layouts tried for one length before the rest is decoded one by one


class Decoded(NamedTuple):
    """What some datagrams held."""

    sockets: Rows
    """One row of :data:`SOCKETS` a message, in order."""
    controls: list[Message]
    """Ends and errors, in order."""
    malformed: int
    """Messages (or the rest of a datagram) that could not be read."""
    interrupted: bool
    """A message said NLM_F_DUMP_INTR."""


def decode_sockets(data: bytes | memoryview, starts: Sequence[int]) -> Decoded:
    """Decode the datagrams of ``data`` that begin at ``starts`` (multiples of 4, ascending; the last ends ``data``)."""
    view = memoryview(data)
    at, lengths, controls, malformed, interrupted = _frame(view, starts)
    index, sizes = np.array(at, np.int64), np.array(lengths, np.int64)
    rows = np.zeros(len(index), SOCKETS)
    good = np.ones(len(index), bool)
    whole = view if len(view) % _WORD == 0 else bytes(view) + bytes(-len(view) % _WORD)
    words = np.frombuffer(whole, np.uint32)
    for size in np.unique(sizes).tolist():
        rest = np.flatnonzero(sizes == size)
        for _ in range(_LAYOUT_LIMIT):
            if len(rest) == 0:
                break
            rest = _by_layout(view, words, index, rest, size, rows, good)
        for one in rest.tolist():
            good[one] = _by_one(view[index[one] : index[one] + size], rows, one)
    bad = len(good) - int(good.sum())
    return Decoded(rows if bad == 0 else rows[good], controls, malformed + bad, interrupted)


def _frame(view: memoryview, starts: Sequence[int]) -> tuple[list[int], list[int], list[Message], int, bool]:
    """Offsets and lengths of the payloads of socket messages, everything else, and what could not be framed."""
    at, lengths = [], []
    controls: list[Message] = []
    malformed, interrupted = 0, False
    unpack, head = HEADER.unpack_from, HEADER.size
    for start, end in zip(starts, [*starts[1:], len(view)], strict=True):
        here = start
        while here < end:
            if end - here < head:
                malformed += 1
                break
            length, kind, flags, _, _ = unpack(view, here)
            if not head <= length <= end - here:
                malformed += 1
                break
            interrupted = interrupted or bool(flags & MessageFlag.DUMP_INTR and flags & MessageFlag.MULTI)
            if kind == SOCK_DIAG_BY_FAMILY:
                at.append(here + head)
                lengths.append(length - head)
            else:
                controls.extend(decode_messages(view[here : here + length]))
            here += (length + 3) & ~3
    return at, lengths, controls, malformed, interrupted


def _by_one(payload: memoryview, rows: Rows, row: int) -> bool:
    try:
        rows[row] = tuple(decode_socket(payload))
    except DecodeError:
        return False
    return True


def _by_layout(
    view: memoryview, words: Words, index: Index, rest: Index, size: int, rows: Rows, good: npt.NDArray[np.bool_]
) -> Index:
    """Learn the layout of the first of ``rest``, decode all that share it, and return those that do not."""
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
    chosen = rest[same]
    rows[chosen] = _gather(words, base[same], layout)
    left: Index = rest[~same]
    return left


class _Layout(NamedTuple):
    family: int
    headers: list[tuple[int, int]]  # offset and word of each attribute header
    info: int  # offset of tcp_info; 0 if there is none
    info_size: int
    v6only: int  # offset of that attribute's byte; 0 if there is none


def _learn(payload: memoryview) -> _Layout:
    decode_socket(payload)  # its checks are ours
    headers: list[tuple[int, int]] = []
    info = info_size = v6only = 0
    reader = AttributeReader(payload[MESSAGE_SIZE:], "inet_diag message")
    while reader.next():
        start = MESSAGE_SIZE + reader.start
        headers.append((start - _WORD, int.from_bytes(payload[start - _WORD : start], "little")))
        if reader.type == Attribute.INFO:
            info, info_size = start, reader.length
        elif reader.type == Attribute.SKV6ONLY:
            v6only = start
    return _Layout(payload[0], headers, info, info_size, v6only)


def _gather(words: Words, base: Index, layout: _Layout) -> Rows:
    """The rows of messages that begin at word ``base`` and share ``layout``."""
    rows = np.zeros(len(base), SOCKETS)

    def word(offset: int) -> npt.NDArray[np.uint64]:
        return words[base + offset // _WORD].astype(np.uint64)

    def long(offset: int) -> npt.NDArray[np.uint64]:
        return word(offset) | word(offset + _WORD) << np.uint64(32)

    first, ports = word(0), words[base + 1].byteswap().astype(np.uint64)
    rows["family"], rows["state"], rows["timer"] = first & 0xFF, first >> 8 & 0xFF, first >> 16 & 0xFF
    rows["local_port"], rows["remote_port"] = ports >> 16, ports & 0xFFFF
    for end, offset in (("local", 8), ("remote", 24)):
        if layout.family == AF_INET:
            rows[f"{end}_low"] = words[base + offset // _WORD].byteswap() | np.uint64(V4_MAPPED)
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
    return rows
