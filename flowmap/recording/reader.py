"""Reads a recording, up to its last whole chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from flowmap.config import Config
from flowmap.errors import DecodeError
from flowmap.model.source import SourceFacts
from flowmap.recording.codec import decode_entries
from flowmap.recording.container import SIGNATURE, Chunk, ChunkKind, Chunks
from flowmap.recording.entries import Entry
from flowmap.recording.file import FORMAT
from flowmap.recording.settings import read_settings

_SOURCE = TypeAdapter(SourceFacts)


@dataclass(frozen=True, slots=True)
class Begin:
    """The description of a recording."""

    flowmap: str
    """Version that wrote it."""
    started_at: float
    """Seconds since the epoch."""
    epoch: float
    """Seconds to add to a monotonic time for seconds since the epoch, at the start of the recording."""
    source: SourceFacts
    config: Config
    """The recorded settings; defaults for the others."""
    unknown: tuple[str, ...] = ()
    """Recorded settings that this flowmap does not know; they are ignored."""


def is_recording(first: bytes) -> bool:
    """Whether a file that starts with ``first`` is a recording, possibly a damaged or very short one."""
    return len(first) >= 4 and first[: len(SIGNATURE)] == SIGNATURE[: len(first)]


class RecordingReader:
    """An open recording. DecodeError if its first chunk is incomplete; OSError if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._file = path.open("rb")
        try:
            if self._file.read(len(SIGNATURE)) != SIGNATURE:
                raise DecodeError(f"{path}: not a flowmap recording, or its first bytes are damaged")
            self._chunks = Chunks(self._file)
            self._iterator = iter(self._chunks)
            self.begin = self._begin(next(self._iterator, None))
        except BaseException:
            self._file.close()
            raise
        self.ended = ""
        """Recorded reason for the end; empty if unknown."""
        self.missing = ""
        """A line on the missing part, after :meth:`entries`; empty if the recording is complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._chunks.offset

    def entries(self) -> Iterator[Entry]:
        """All entries in order; DecodeError for an invalid one. Iterate once."""
        for chunk in self._iterator:
            if chunk.kind == ChunkKind.END:
                self.ended = str(_facts(chunk.data).get("reason", "unknown"))
                return
            if chunk.kind != ChunkKind.OPERATIONS:
                raise DecodeError(f"{self.path}: unknown kind of chunk: {chunk.kind}")
            yield from decode_entries(chunk.data)
        left = self.size - self.offset
        if self._chunks.problem:
            self.missing = (
                f"{self.path} {self._chunks.problem} at byte {self.offset}: the last {left} bytes are ignored"
            )
        else:
            self.missing = f"{self.path} has no end: flowmap is still writing it, or was killed"

    def _begin(self, chunk: Chunk | None) -> Begin:
        if chunk is None or chunk.kind != ChunkKind.BEGIN:
            problem = self._chunks.problem or "is cut off"
            raise DecodeError(f"{self.path} {problem} before the first entry")
        facts = _facts(chunk.data)
        form = facts.get("format")
        if not isinstance(form, int) or form < 1:
            raise DecodeError(f"{self.path}: the format of its entries is missing")
        if form > FORMAT:
            raise DecodeError(
                f"{self.path}: format {form} is newer than {FORMAT}, the newest that this flowmap reads; replay it "
                f"with flowmap {facts.get('flowmap')}, which wrote it, or a later version"
            )
        try:
            source = _SOURCE.validate_python(facts["source"])
            started_at, epoch = float(facts["startedAt"]), float(facts["epoch"])
            return Begin(str(facts["flowmap"]), started_at, epoch, source, *read_settings(facts["settings"]))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DecodeError(f"{self.path}: invalid description: {str(error).splitlines()[0]}") from error


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise DecodeError("invalid recording: a chunk is not valid JSON") from error
    return facts if isinstance(facts, dict) else {}
