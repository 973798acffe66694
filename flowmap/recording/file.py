"""The file a recording is written to: made once, bounded, and always left readable."""

from __future__ import annotations

import os
from pathlib import Path

from flowmap.errors import ConfigError
from flowmap.recording.codec import to_json
from flowmap.recording.container import SIGNATURE, ChunkKind, encode_chunk

FORMAT = 3
"""Version of what the chunks hold, whatever flowmap wrote them. It grows when an older reader would not understand
them: with a new entry or field, not with a new setting. Every version from 1 on can be read.

1: the first. 2: reloads hold a configuration; traffic without a flow and the end of the daemon are entries.
3: a result of a question holds who had the address when; there are series of Flink's own connections."""

LAST_WORDS = 512
"""Bytes kept free for the chunk that says why the recording ends."""


class Full(Exception):
    """The next chunk would exceed the size allowed."""


class RecordingFile:
    """A new file for whole chunks, readable by its owner only: it holds addresses and names."""

    def __init__(self, path: Path, *, max_size: int, overwrite: bool = False) -> None:
        """ConfigError if it cannot be made, or is there and may not be overwritten. ``max_size`` is in bytes."""
        self.path = path
        self.size = 0
        """Bytes of whole chunks."""
        self._max_size = max_size
        self._number = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            if overwrite:
                path.unlink(missing_ok=True)
            self._descriptor = os.open(path, flags, 0o600)
        except FileExistsError as error:
            raise ConfigError(f"{path}: is there already; --record-overwrite replaces it") from error
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}: cannot record there") from error

    def begin(self, facts: object) -> None:
        """Write the signature and what is recorded. OSError or :class:`Full` as for :meth:`append`."""
        self._write(SIGNATURE)
        self.append(ChunkKind.BEGIN, to_json(facts))

    def append(self, kind: ChunkKind, data: bytes) -> None:
        """Write one chunk. OSError if the disk does not take it, :class:`Full` if it would become too large."""
        chunk = encode_chunk(kind, self._number, data)
        if kind is not ChunkKind.END and self.size + len(chunk) + LAST_WORDS > self._max_size:
            raise Full
        self._write(chunk)
        self._number += 1

    def end(self, facts: object) -> None:
        """Write why the recording ends, if that is possible, and close. What is not whole is cut off."""
        try:
            self._cut()
            self.append(ChunkKind.END, to_json(facts))
            os.fsync(self._descriptor)
        except OSError:  # the marker is lost, and a reader says so
            self._cut()
        finally:
            os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
        except OSError:  # a reader stops at the last whole chunk by itself
            return
