"""The file of a recording: private, never replaced unasked, within its size, and readable after every end."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flowmap.errors import ConfigError
from flowmap.recording.container import SIGNATURE, ChunkKind, Chunks
from flowmap.recording.file import LAST_WORDS, Full, RecordingFile


def chunks(path: Path) -> tuple[list[int], str]:
    """The kinds of the chunks in the file, and the problem after them."""
    with path.open("rb") as file:
        assert file.read(len(SIGNATURE)) == SIGNATURE
        found = Chunks(file)
        return [chunk.kind for chunk in found], found.problem


def test_chunks_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new"
    file = RecordingFile(path, max_size=1 << 20)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.begin({"a": 1})
    file.append(ChunkKind.OPERATIONS, b"data")
    file.end({"reason": "stopped"})
    assert chunks(path) == ([ChunkKind.BEGIN, ChunkKind.OPERATIONS, ChunkKind.END], "")
    assert path.stat().st_size == file.size


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_file_still_has_an_end(tmp_path: Path, room: int) -> None:
    path = tmp_path / "full"
    file = RecordingFile(path, max_size=LAST_WORDS + 200 + room)
    file.begin({})
    with pytest.raises(Full):
        for n in range(99):
            file.append(ChunkKind.OPERATIONS, bytes([n]))
    file.end({"reason": "size"})
    kinds, problem = chunks(path)
    assert (kinds[-1], problem) == (ChunkKind.END, "")
    assert path.stat().st_size <= LAST_WORDS + 200 + room


def test_an_incomplete_chunk_is_cut_off_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "torn"
    file = RecordingFile(path, max_size=1 << 20)
    file.begin({})
    with path.open("ab") as torn:
        torn.write(b"half a chunk")
    file.end({"reason": "disk"})
    assert chunks(path) == ([ChunkKind.BEGIN, ChunkKind.END], "")


def test_an_existing_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="the file exists; --record-overwrite replaces it"):
        RecordingFile(path, max_size=1 << 20)
    assert path.read_text() == "precious"
    RecordingFile(path, max_size=1 << 20, overwrite=True).end({})
    assert path.read_bytes() != b"precious"
    with pytest.raises(ConfigError, match="cannot record to this file: No such file or directory"):
        RecordingFile(tmp_path / "missing" / "x", max_size=1 << 20)
