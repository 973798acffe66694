"""Reads capture files (pcap and pcapng, also compressed with gzip) in pieces.

Own code reads the containers: scapy's readers take nine times (pcapng) to eighteen times (pcap) as long, more than the
rest of a replay.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from flowmap.errors import DecodeError, SourceError
from flowmap.wire.capture_files.foreign import FIRST_BYTES, describe_foreign
from flowmap.wire.capture_files.pcap import PcapReader
from flowmap.wire.capture_files.pcapng import PcapngReader
from flowmap.wire.capture_files.reader import CapturedFrames, Reader

PIECE = 1 << 22
"""Bytes read and decoded at a time; more is not faster."""
_GZIP = b"\x1f\x8b"
_KINDS = (PcapReader, PcapngReader)


def is_capture(head: bytes) -> bool:
    """Whether a file that starts with ``head`` is a capture, or one of a format or compression that is not read.

    For the latter :class:`CaptureFile` raises an error with a remedy.
    """
    return head.startswith(_GZIP) or any(kind.of(head) is not None for kind in _KINDS) or bool(describe_foreign(head))


class CaptureFile:
    """One file, read once from its start."""

    def __init__(self, path: Path) -> None:
        """SourceError if the file cannot be opened, DecodeError if it is not a capture."""
        self.path = path
        self.fault = ""
        """Why the file was not read completely, with the offset; empty before, and without a fault."""
        self.size = 0
        """Bytes on disk."""
        self.position = 0
        """Bytes read so far."""
        try:
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
            head = self._file.read(len(_GZIP))
            self._file.seek(0)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        self._packed = gzip.GzipFile(fileobj=self._file) if head == _GZIP else None
        self._room = bytearray(PIECE)  # reused for all pieces: new memory costs more than the read
        self._held = 0  # bytes in use
        self._fill()
        self._reader = self._find_reader(bytes(self._room[: min(self._held, FIRST_BYTES)]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    @property
    def dropped(self) -> int:
        """Frames lost during the capture, according to the file so far."""
        return self._reader.dropped

    def pieces(self) -> Iterator[list[CapturedFrames]]:
        """All readable frames, one piece of the file at a time; ``fault`` is set afterwards if some are missing.

        The frames of one piece share the same data, and their order is that of their offsets. The next piece
        overwrites the data.
        """
        offset = 0
        while True:
            read = self._reader.read(memoryview(self._room)[: self._held])
            if read.frames:
                yield read.frames
            offset += read.taken
            if read.fault:
                self.fault = f"{self.path}: byte {offset}: {read.fault}; the part before it counts"
                return
            self._keep_rest(read.taken)
            if not self._fill():
                break
        if not self.fault and self._held:
            self.fault = f"{self.path}: byte {offset}: the file ends within a record; the part before it counts"

    def _keep_rest(self, taken: int) -> None:
        """Move the unread bytes to the front; double the buffer if they fill it."""
        rest = memoryview(self._room)[taken : self._held]
        if len(rest) == len(self._room):
            self._room = bytearray(2 * len(rest))
        self._room[: len(rest)] = rest
        self._held = len(rest)

    def _find_reader(self, head: bytes) -> Reader:
        for kind in _KINDS:
            reader = kind.of(head)
            if reader is not None:
                return reader
        self.close()
        if self.fault:
            raise DecodeError(self.fault)
        found = describe_foreign(head) or f"it begins with {head[:4].hex(' ') or 'nothing'}"
        raise DecodeError(f"{self.path}: not a readable capture file (pcap, pcapng): {found}")

    def _fill(self) -> bool:
        """Read the next bytes of the capture; False at its end, or after a fault."""
        free = memoryview(self._room)[self._held :]
        try:
            number = (self._file.readinto(free) if self._packed is None else self._packed.readinto1(free)) or 0
            self.position = self._file.tell()
        except (OSError, EOFError, zlib.error) as error:
            what = "the file cannot be decompressed further" if self._packed else getattr(error, "strerror", "")
            self.fault = f"{self.path}: byte {self.position}: {what}; the part before it counts"
            return False
        self._held += number
        return number > 0
