"""Capture files on disk: formats told apart, compressed ones, and one clear line for those that end too early."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from unittest import mock

import pytest

from flowmap.errors import DecodeError, SourceError
from flowmap.replay import capture_file
from flowmap.replay.capture_file import CaptureFile, is_capture
from tests.support.capture_files import SECOND, Row, enhanced, interface, pcap, section

FRAMES = [Row(bytes([n]) * 1000, 1000, n * SECOND) for n in range(200)]
NEWER = section("<") + interface("<") + b"".join(enhanced("<", f.data, ticks=f.time // 1000) for f in FRAMES)


def read(path: Path) -> tuple[int, str]:
    """How many frames, and the fault."""
    with CaptureFile(path) as file:
        return sum(len(frames.starts) for piece in file.pieces() for frames in piece), file.fault


@pytest.mark.parametrize("data", [pcap(FRAMES), pcap(FRAMES, ">", nano=True), NEWER], ids=["pcap", "big", "pcapng"])
@pytest.mark.parametrize("packed", [False, True])
def test_formats(tmp_path: Path, data: bytes, packed: bool) -> None:
    path = tmp_path / "capture"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read(path) == (200, "")


def test_larger_than_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(FRAMES))
    with mock.patch.object(capture_file, "PIECE", 50_000), CaptureFile(path) as file:
        places = [(file.position, len(piece[0].starts)) for piece in file.pieces()]
        assert len(places) > 4
        assert places == sorted(places, key=lambda place: place[0])
        assert (places[-1][0], sum(number for _, number in places), file.fault) == (file.size, 200, "")


def test_compressed_in_parts(tmp_path: Path) -> None:
    data = pcap(FRAMES)
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + bytes(16))
    assert read(path) == (200, "")


@pytest.mark.parametrize("data", [pcap(FRAMES), NEWER], ids=["pcap", "pcapng"])
def test_cut(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "capture"
    path.write_bytes(data[:-1500])
    number, fault = read(path)
    assert number == 198
    where = (
        len(pcap(FRAMES[:198]))
        if data[:1] == b"\xd4"
        else data.index(enhanced("<", FRAMES[198].data, ticks=198 * 10**6))
    )
    assert fault == f"{path}: byte {where}: the file ends within a record; the part before it counts"


def test_a_length_that_lies(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(FRAMES) + b"\xff" * 40)
    fault = f"{path}: byte {len(pcap(FRAMES))}: a frame of 4294967295 bytes is impossible; the part before it counts"
    assert read(path) == (200, fault)


def test_compressed_data_that_ends_too_early_or_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    noise = bytes((n * n * 2654435761 >> 7) & 0xFF for n in range(60_000))
    packed = gzip.compress(pcap([Row(noise, len(noise), 0)] * 40))
    path.write_bytes(packed[: len(packed) // 2])
    number, fault = read(path)
    assert number < 40
    assert "the file cannot be decompressed further; the part before it counts" in fault
    path.write_bytes(packed[:2])
    with pytest.raises(DecodeError, match="cannot be decompressed"):
        CaptureFile(path)


@pytest.mark.parametrize("data", [b"", b"\n", b"hello, world", b"flow"])
def test_files_that_are_no_captures(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "capture"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match="not a readable capture file .*: it begins with"):
        CaptureFile(path)


ERF = struct.pack("<QBB", 1_700_000_000 << 32, 2, 4) + struct.pack("!HHH", 80, 0, 60) + bytes(64)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x34\xcd\xb2\xa1\2\0\4\0", r"modified pcap \(Kuznetzov's\): convert it with `editcap -F pcapng IN OUT`"),
        (b"\xa1\xb2\xcd\x34\0\2\0\4", r"modified pcap \(Kuznetzov's\): convert"),
        (b"snoop\0\0\0\0\0\0\2", "snoop: convert"),
        (b"RTSS\1\0", "Network Monitor 1: convert"),
        (b"GMBU\0\2", "Network Monitor 2: convert"),
        (ERF, r"probably ERF \(Endace\): convert"),
        (b"\x28\xb5\x2f\xfd\0", r"compressed with zstd: unpack it first \(`zstd -d FILE`\)"),
        (b"\xfd7zXZ\0\0", "compressed with xz: unpack it first"),
        (b"\x04\x22\x4d\x18\0", "compressed with lz4: unpack it first"),
        (b"BZh91AY", "compressed with bzip2: unpack it first"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_other_formats_are_named_with_the_way_out(tmp_path: Path, head: bytes, said: str, packed: bool) -> None:
    path = tmp_path / "capture"
    path.write_bytes(gzip.compress(head) if packed else head)
    assert is_capture(path.read_bytes()[:64])
    with pytest.raises(DecodeError, match=rf"capture: not a readable capture file \(pcap, pcapng\): {said}"):
        CaptureFile(path)


@pytest.mark.parametrize("head", [b"", b"hello, world, this is text of some length", bytes(64), b"\xff" * 64, ERF[:15]])
def test_bytes_that_are_no_format_known(head: bytes) -> None:
    assert not is_capture(head)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        CaptureFile(tmp_path / "missing")
    with pytest.raises(SourceError, match="Is a directory"):
        CaptureFile(tmp_path)
