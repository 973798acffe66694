"""The decoders of captured frames: both must say the same of any bytes, and never raise; and the readers of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flowmap.wire.capture_files.pcap import PcapReader
from flowmap.wire.capture_files.pcapng import PcapngReader
from flowmap.wire.capture_files.reader import Reader
from flowmap.wire.packets.frame import decode_frame
from flowmap.wire.packets.frames import Tunnels, decode_frames
from flowmap.wire.packets.numbers import LinkType
from flowmap.wire.packets.packets import Packet, Skipped
from tests.fuzz.target import Target

_CAPTURES = Path(__file__).parents[1] / "data" / "captures"
_LINKS = sorted(LinkType)
_MOST = 160  # bytes of a frame: headers, and a little behind them
_MODES: tuple[Tunnels, Tunnels] = ("outer", "inner")


def both_frames(data: bytes) -> None:
    """The first byte chooses link type and what of a tunnel counts, the second how much of the frame is missing."""
    if len(data) < 2:
        return
    link, mode, frame = _LINKS[data[0] // 2 % len(_LINKS)], data[0] % 2, data[2:]
    wire = len(frame) + data[1]
    expected = decode_frame(frame, wire, link, inner=bool(mode))
    found = decode_frames(b"\xff" + data, [3], [len(frame)], [wire], link, tunnels=_MODES[mode])
    if isinstance(expected, Packet):
        assert found.packets.rows() == [expected]
    else:
        assert isinstance(expected, Skipped)
        counts = found.malformed | found.unread | found.other
        assert counts == {expected.reason: 1}


def both_files(data: bytes) -> None:
    """Whatever a reader of capture files makes of the bytes lies within them."""
    for reader in (PcapReader.of(data[:24]), PcapngReader.of(data[:24])):
        if reader is not None:
            read = reader.read(data)
            assert 0 <= read.taken <= len(data)
            for frames in read.frames:
                assert (frames.starts + frames.captured <= len(data)).all()


def _files() -> Iterator[bytes]:
    yield from (path.read_bytes()[:1000] for path in sorted(_CAPTURES.glob("*.pcap*")))


def _frames() -> Iterator[bytes]:
    for path in sorted(_CAPTURES.glob("*.pcap*")):
        data = path.read_bytes()
        reader: Reader | None = PcapReader.of(data[:24]) or PcapngReader.of(data[:24])
        assert reader is not None
        for frames in reader.read(data).frames[:20]:
            for start, size in list(zip(frames.starts.tolist(), frames.captured.tolist(), strict=True))[:20]:
                link = 2 * _LINKS.index(LinkType(frames.link_type))
                frame = frames.data[start : start + min(size, _MOST)].tobytes()
                yield from (bytes([link + mode, 0]) + frame for mode in (0, 1))


TARGETS = {
    "frames": Target("captured frames, by both decoders", both_frames, _frames),
    "captures": Target("capture files", both_files, _files),
}
