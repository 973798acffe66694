"""The container of a recording: a signature, then independent chunks.

    file     signature, chunk…
    chunk    mark "FMch", kind (1 byte, 3 zero bytes), number, stored size, whole size, CRC-32, then the stored bytes

Integers are little-endian. Each chunk is deflated (zlib) separately. Its CRC-32 covers the header before it and the
stored bytes. Chunks are numbered from 0 without gaps. So the chunks before a cut or a damaged byte can be read, later
ones are rejected, and a missing chunk is detected. The first chunk describes the recording, and the END chunk has the
reason for its end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from flowmap.errors import DecodeError

SIGNATURE = b"\x89flowmap\r\n\x1a\n"
"""The first bytes of a recording; a transfer as text changes them."""

LARGEST = 1 << 30
"""Largest size of a chunk in bytes, inflated."""

LEVEL = 1
"""Level of deflate: higher ones take several times as long and save little, since the data is arranged in columns."""

_MARK = b"FMch"
_HEADER = struct.Struct("<4sB3xIII")
_CRC = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CRC.size


class ChunkKind(IntEnum):
    """The contents of a chunk."""

    BEGIN = 1
    """Description of the recording: JSON."""
    OPERATIONS = 2
    END = 3
    """Reason for the end: JSON."""


class Chunk(NamedTuple):
    """One chunk, inflated."""

    kind: int
    data: bytes


def encode_chunk(kind: ChunkKind, number: int, data: bytes) -> bytes:
    """A chunk in its stored form."""
    stored = zlib.compress(data, LEVEL)
    header = _HEADER.pack(_MARK, kind, number, len(stored), len(data))
    return header + _CRC.pack(zlib.crc32(stored, zlib.crc32(header))) + stored


class Chunks:
    """The chunks of a file after its signature, up to the first incomplete or damaged one. Iterate once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = len(SIGNATURE)
        """Offset of the first byte that was not read."""
        self.problem = ""
        """Why the iteration ended; empty at the end of the file."""

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
            raise DecodeError("has a missing part")
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
