"""Writes the file of a recording: new, of limited size, and always readable up to its last whole chunk."""

from __future__ import annotations

import os
from pathlib import Path

from flowmap.errors import ConfigError
from flowmap.recording.codec import to_json
from flowmap.recording.container import SIGNATURE, ChunkKind, encode_chunk

FORMAT = 7
"""Version of the contents of chunks, independent of flowmap's version. A new entry or field increases it, since older
readers do not know it; a new setting does not. All versions from 1 on can be read.

1: the first. 2: reloads contain a configuration; traffic without a flow and the end of the daemon are entries.
3: results of questions contain who had the address when; there are series of Flink's own connections.
4: records contain the workloads of their endpoints, and results of questions the processes that tenures belong to.
5: flowmap's own connections to control planes are entries; workloads have the names that Kubernetes gives them.
6: records contain the number of their network namespace, and what the numbers stand for is an entry; statistics of
sources count what tables of workloads dropped.
7: workloads have the start of their process, and deployments whether they have a cluster of their own; addresses that
were taken off the host are entries."""

LAST_WORDS = 512
"""Bytes reserved for the END chunk."""


class Full(Exception):
    """The next chunk would exceed the maximum size."""


class RecordingFile:
    """A new file of chunks. Only its owner can read it, since it contains addresses and names."""

    def __init__(self, path: Path, *, max_size: int, overwrite: bool = False) -> None:
        """``max_size``: in bytes. ConfigError if the file cannot be created, or exists without ``overwrite``."""
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
            raise ConfigError(f"{path}: the file exists; --record-overwrite replaces it") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot record to this file: {error.strerror}") from error

    def begin(self, facts: object) -> None:
        """Write the signature and the description. OSError or :class:`Full` as for :meth:`append`."""
        self._write(SIGNATURE)
        self.append(ChunkKind.BEGIN, to_json(facts))

    def append(self, kind: ChunkKind, data: bytes) -> None:
        """Write one chunk. OSError if writing fails, :class:`Full` if the file would become too large."""
        chunk = encode_chunk(kind, self._number, data)
        if kind is not ChunkKind.END and self.size + len(chunk) + LAST_WORDS > self._max_size:
            raise Full
        self._write(chunk)
        self._number += 1

    def end(self, facts: object) -> None:
        """Write the END chunk if possible, and close the file. An incomplete chunk is removed first."""
        try:
            self._cut()
            self.append(ChunkKind.END, to_json(facts))
            os.fsync(self._descriptor)
        except OSError:  # without an END chunk; a reader reports that
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
        except OSError:  # a reader ignores an incomplete chunk
            return
