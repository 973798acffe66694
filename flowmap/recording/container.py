"""The container of a recording: a signature, then chunks that each stand alone.

    file     signature, chunk…
    chunk    mark "FMch", kind (1 byte, 3 zero bytes), number, stored size, whole size, CRC-32, then the stored bytes

Integers are little-endian. A chunk is deflated (zlib) on its own; the CRC-32 is of the chunk's header before it and
of the stored bytes, and chunks are numbered from 0 without a gap. So what is whole before a cut or a flipped byte can
be read, nothing behind it is believed, and no chunk can be missing unnoticed. The first chunk says what is recorded, an
END chunk why nothing follows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from flowmap.errors import DecodeError

SIGNATURE = b"\x89flowmap\r\n\x1a\n"
"""The first bytes of a recording; a transfer that takes it for text breaks them."""

LARGEST = 1 << 30
"""Bytes of a chunk, whole: more is not written, and is no chunk when read."""

LEVEL = 1
"""Of deflate: higher ones cost several times as much and save little of what is arranged by columns already."""

_MARK = b"FMch"
_HEADER = struct.Struct("<4sB3xIII")
_CRC = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CRC.size


class ChunkKind(IntEnum):
    """What a chunk holds."""

    BEGIN = 1
    """What is recorded: JSON."""
    OPERATIONS = 2
    END = 3
    """Why the recording ends: JSON."""


class Chunk(NamedTuple):
    """One chunk as it was before it was stored."""

    kind: int
    data: bytes


def encode_chunk(kind: ChunkKind, number: int, data: bytes) -> bytes:
    """The chunk as it is stored."""
    stored = zlib.compress(data, LEVEL)
    header = _HEADER.pack(_MARK, kind, number, len(stored), len(data))
    return header + _CRC.pack(zlib.crc32(stored, zlib.crc32(header))) + stored


class Chunks:
    """The chunks of a file, from after its signature up to the first that is not whole. Iterate once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = len(SIGNATURE)
        """Where the first byte stands that is not read yet, or cannot be."""
        self.problem = ""
        """Why nothing more could be read, once iteration is over; empty at the end of the file."""

    def __iter__(self) -> Iterator[Chunk]:
        number = 0
        while True:
            header = self._file.read(OVERHEAD)
            if not header:
                return
            try:
                chunk = self._chunk(header, number)
            except DecodeError as error:
                self.problem = str(error)
                return
            self.offset += OVERHEAD + _HEADER.unpack_from(header)[3]
            number += 1
            yield chunk

    def _chunk(self, header: bytes, number: int) -> Chunk:
        if len(header) < OVERHEAD:
            raise DecodeError("is cut off")
        mark, kind, its_number, size, whole = _HEADER.unpack_from(header)
        if mark != _MARK or whole > LARGEST or size > LARGEST:
            raise DecodeError("is damaged")
        stored = self._file.read(size)
        if len(stored) < size:
            raise DecodeError("is cut off")
        if zlib.crc32(stored, zlib.crc32(header[: _HEADER.size])) != _CRC.unpack_from(header, _HEADER.size)[0]:
            raise DecodeError("is damaged")
        if its_number != number:
            raise DecodeError("lacks a part")
        return Chunk(kind, _inflate(stored, whole))


def _inflate(stored: bytes, whole: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stored, whole + 1)
    except zlib.error as error:
        raise DecodeError("is damaged") from error
    if len(data) != whole or not inflater.eof:
        raise DecodeError("is damaged")
    return data
