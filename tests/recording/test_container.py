"""Cut and flipped bytes: what is whole is read, what is missing is said, nothing wrong passes for right."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from flowmap.errors import DecodeError
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import Owner
from flowmap.recording.container import SIGNATURE, Chunks
from flowmap.recording.reader import RecordingReader, is_recording
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.commands import OWNERS, recorded
from tests.support.recordings import comparable
from tests.support.records import Record, batch_of

X: frozenset[Owner] = frozenset(OWNERS[:1])
SCRIPT: list[Any] = [
    ("step", ReadStarted("start")),
    ("step", ReadFinished(True)),
    ("settle",),
    ("step", batch_of(Record(RecordKind.OPENED, counters=(0, 0, 0, 0)))),
    ("confirm", X),
    ("step", batch_of(Record(RecordKind.CLOSED, counters=(100, 50, 2, 1)))),
    ("tidy", 10.0),
    ("settle",),
]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("recording") / "recording"
    recorded(path, SCRIPT)
    return path.read_bytes()


def read(path: Path) -> tuple[list[object], str, str]:
    """Everything that can be read, comparable; why it ended; what is missing."""
    with RecordingReader(path) as reader:
        entries = list(reader.entries())
    return [comparable(entry) for entry in entries], reader.ended, reader.missing


def chunks(path: Path) -> tuple[list[object], str]:
    """The chunks of a file and why there are no more."""
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        found = Chunks(file)
        return list(found), found.problem


def some(places: list[int], size: int) -> set[int]:
    """Bytes at which the whole reader is tried: around every boundary, and some between."""
    around = {place + offset for place in places for offset in (-1, 0, 1, 24, 25)}
    return {place for place in around | set(range(0, size, 41)) if 0 <= place < size}


def boundaries(data: bytes) -> list[int]:
    """Where each chunk begins, and the end."""
    places = [len(SIGNATURE)]
    while places[-1] < len(data):
        size = int.from_bytes(data[places[-1] + 12 : places[-1] + 16], "little")
        places.append(places[-1] + 24 + size)
    return places


def flipped(data: bytes, place: int) -> bytes:
    """``data`` with one bit of one byte the other way."""
    return data[:place] + bytes((data[place] ^ (1 << place % 8),)) + data[place + 1 :]


def test_a_recording_cut_at_any_byte_is_read_up_to_its_last_whole_chunk(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(recording)
    whole, ended, missing = read(path)
    assert (ended, missing) == ("stopped", "")
    places = boundaries(recording)
    assert len(places) > 5
    longest = 0
    every, _ = chunks(path)
    for size in range(len(SIGNATURE), len(recording)):
        path.write_bytes(recording[:size])
        found, problem = chunks(path)
        assert found == every[: sum(place <= size for place in places[1:])]
        assert problem == ("" if size in places else "is cut off")
    for size in sorted(some(places, len(recording))):
        path.write_bytes(recording[:size])
        if size < places[1]:
            with pytest.raises(DecodeError, match=r"damaged|before the first entry"):
                read(path)
            continue
        entries, ended, missing = read(path)
        assert entries == whole[: len(entries)]
        assert len(entries) >= longest
        longest = len(entries)
        assert ended == ""
        place = max(place for place in places if place <= size)
        if size in places:
            assert missing == f"{path} has no end: flowmap is still writing it, or was killed"
        else:
            assert missing == f"{path} is cut off at byte {place}: the last {size - place} bytes are ignored"
    assert longest == len(whole), "only the chunk that says why it ended was cut"


def test_a_flipped_byte_is_found_and_nothing_behind_it_believed(recording: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flipped"
    path.write_bytes(recording)
    whole, _, _ = read(path)
    places = boundaries(recording)
    every, _ = chunks(path)
    for place in range(len(SIGNATURE), len(recording)):
        path.write_bytes(flipped(recording, place))
        found, problem = chunks(path)
        assert found == every[: sum(start <= place for start in places) - 1]
        assert problem in ("is damaged", "is cut off", "has a missing part")
    for place in some(places, len(recording)):
        path.write_bytes(flipped(recording, place))
        if place < places[1]:
            with pytest.raises(DecodeError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
            continue
        entries, ended, missing = read(path)
        chunk = sum(start <= place for start in places)
        assert entries == whole[: len(entries)]
        assert ended == ""
        assert f"at byte {places[chunk - 1]}" in missing, "it was found where it is"


def test_a_chunk_that_was_taken_out_is_missed(recording: bytes, tmp_path: Path) -> None:
    places = boundaries(recording)
    path = tmp_path / "short"
    path.write_bytes(recording[: places[2]] + recording[places[3] :])
    _, ended, missing = read(path)
    assert ended == ""
    assert "has a missing part" in missing


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (SIGNATURE, True),
        (SIGNATURE + b"FMch", True),
        (SIGNATURE[:6], True),
        (b"", False),
        (b"\x89", False),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", False),
        (SIGNATURE.replace(b"\r\n", b"\n"), False),
    ],
)
def test_what_is_a_recording(first: bytes, expected: bool) -> None:
    assert is_recording(first) is expected


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    stored = zlib.compress(bytes(50 << 20), 9)
    header = b"FMch" + bytes((2, 0, 0, 0)) + (0).to_bytes(4, "little") + len(stored).to_bytes(4, "little")
    header += (100).to_bytes(4, "little")
    crc = zlib.crc32(stored, zlib.crc32(header)).to_bytes(4, "little")
    path = tmp_path / "bomb"
    path.write_bytes(header + crc + stored)
    with path.open("rb") as file:
        chunks = Chunks(file)
        assert list(chunks) == []
    assert chunks.problem == "is damaged"
