"""Reads a recording back, as far as it is whole."""

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
    """What was recorded."""

    flowmap: str
    """Version that recorded."""
    started_at: float
    """Seconds since the epoch."""
    epoch: float
    """What to add to a monotonic instant to get seconds since the epoch, when the recording began."""
    source: SourceFacts
    config: Config
    """The settings that decide how it replays; defaults for the rest."""
    unknown: tuple[str, ...] = ()
    """Keys of its settings that this flowmap does not know and leaves out."""


def is_recording(first: bytes) -> bool:
    """Whether a file that begins like this is a recording, or what a transfer or a full disk left of one."""
    return len(first) >= 4 and first[: len(SIGNATURE)] == SIGNATURE[: len(first)]


class RecordingReader:
    """An open recording. DecodeError if not even its beginning is whole; OSError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._file = path.open("rb")
        try:
            if self._file.read(len(SIGNATURE)) != SIGNATURE:
                raise DecodeError(f"{path}: not a recording of flowmap, or its first bytes are damaged")
            self._chunks = Chunks(self._file)
            self._iterator = iter(self._chunks)
            self.begin = self._begin(next(self._iterator, None))
        except BaseException:
            self._file.close()
            raise
        self.ended = ""
        """Why the recording ended, as it says itself; empty if it does not say."""
        self.missing = ""
        """One line on what could not be read, once :meth:`entries` is over; empty if the recording is whole."""

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
        """Everything that was recorded, in order; DecodeError for what is no entry. Once."""
        for chunk in self._iterator:
            if chunk.kind == ChunkKind.END:
                self.ended = str(_facts(chunk.data).get("reason", "unknown"))
                return
            if chunk.kind != ChunkKind.OPERATIONS:
                raise DecodeError(f"{self.path}: a chunk of the unknown kind {chunk.kind}")
            yield from decode_entries(chunk.data)
        left = self.size - self.offset
        if self._chunks.problem:
            self.missing = f"{self.path} {self._chunks.problem} at byte {self.offset}: {left} bytes are left out"
        else:
            self.missing = f"{self.path} has no end: flowmap still writes it, or was killed"

    def _begin(self, chunk: Chunk | None) -> Begin:
        if chunk is None or chunk.kind != ChunkKind.BEGIN:
            problem = self._chunks.problem or "is cut off"
            raise DecodeError(f"{self.path} {problem} before anything was recorded")
        facts = _facts(chunk.data)
        form = facts.get("format")
        if not isinstance(form, int) or form < 1:
            raise DecodeError(f"{self.path}: does not say the format of its entries")
        if form > FORMAT:
            raise DecodeError(
                f"{self.path}: its format {form} is newer than {FORMAT}, the newest that this flowmap reads; replay it "
                f"with flowmap {facts.get('flowmap')}, which wrote it, or a later one"
            )
        try:
            source = _SOURCE.validate_python(facts["source"])
            started_at, epoch = float(facts["startedAt"]), float(facts["epoch"])
            return Begin(str(facts["flowmap"]), started_at, epoch, source, *read_settings(facts["settings"]))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DecodeError(f"{self.path}: does not say what it recorded: {str(error).splitlines()[0]}") from error


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise DecodeError("a chunk of a recording is not the JSON it should be") from error
    return facts if isinstance(facts, dict) else {}
