"""Capture files on disk: pcap and pcapng, each also compressed with gzip, a piece at a time.

The containers are read by own code: scapy's readers take nine (pcapng) to eighteen (pcap) times as long for them, more
than all the rest of a replay.
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
    """Whether a file that begins with ``head`` is one, may be one once it is unpacked, or is one of another format:
    :class:`CaptureFile` says then what to do."""
    return head.startswith(_GZIP) or any(kind.of(head) is not None for kind in _KINDS) or bool(describe_foreign(head))


class CaptureFile:
    """One file, read once from its beginning."""

    def __init__(self, path: Path) -> None:
        """SourceError if it cannot be opened, DecodeError if it is no capture file."""
        self.path = path
        self.fault = ""
        """Why not all of it was read, with the place; empty while that is not known, and if all was."""
        self.size = 0
        """Bytes on disk."""
        self.position = 0
        """Bytes of them read so far."""
        try:
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
            head = self._file.read(len(_GZIP))
            self._file.seek(0)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        self._packed = gzip.GzipFile(fileobj=self._file) if head == _GZIP else None
        self._room = bytearray(PIECE)  # one for all pieces: fresh memory costs more than reading into it
        self._held = 0  # bytes of it that hold something
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
        """Frames that the capture itself lost, as far as the file says so far."""
        return self._reader.dropped

    def pieces(self) -> Iterator[list[CapturedFrames]]:
        """All frames that can be read, those of a piece of the file at a time; then ``fault`` says if that is all.

        Frames of one piece are in the same data; where they begin there is their order. The data is overwritten by the
        next piece.
        """
        offset = 0
        while True:
            read = self._reader.read(memoryview(self._room)[: self._held])
            if read.frames:
                yield read.frames
            offset += read.taken
            if read.fault:
                self.fault = f"{self.path}: byte {offset}: {read.fault}; what is before it counts"
                return
            self._keep_rest(read.taken)
            if not self._fill():
                break
        if not self.fault and self._held:
            self.fault = f"{self.path}: byte {offset}: the file ends inside of a record; what is before it counts"

    def _keep_rest(self, taken: int) -> None:
        """Move what was not taken to the front; where that fills all room, make more."""
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
        raise DecodeError(f"{self.path}: not a capture file that can be read (pcap, pcapng): {found}")

    def _fill(self) -> bool:
        """Read the next bytes of the capture; False at its end, and where nothing more can be read."""
        free = memoryview(self._room)[self._held :]
        try:
            number = (self._file.readinto(free) if self._packed is None else self._packed.readinto1(free)) or 0
            self.position = self._file.tell()
        except (OSError, EOFError, zlib.error) as error:
            what = "cannot be decompressed from there on" if self._packed else getattr(error, "strerror", "")
            self.fault = f"{self.path}: byte {self.position}: {what}; what is before it counts"
            return False
        self._held += number
        return number > 0
