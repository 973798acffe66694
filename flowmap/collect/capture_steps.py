"""A capture file as steps of a source, on the clock of the capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.collect.base import CaughtUp, ReadFinished, ReadStarted, SourceFacts, Step
from flowmap.collect.capture_file import CaptureFile
from flowmap.collect.packet_flows import PacketFlows
from flowmap.wire.captures import Frames, gather
from flowmap.wire.frame_numbers import LinkType
from flowmap.wire.frames import Tunnels, decode_frames
from flowmap.wire.odd import OddFrames
from flowmap.wire.packets import Mark, Packets

FACTS = SourceFacts("replay", "ip", True)

SLICE = 0.1
"""Seconds of packets that are one step: how exactly the beginnings and ends of flows are known."""
DISORDER = 1.0
"""Seconds by which frames may be out of order without a word: several queues were read."""
POOL = 16_384
"""Packets that are enough for one step, however short their time."""
ODD_LIMIT = 1000
"""Frames that scapy gets of each piece of the file."""

Times = npt.NDArray[np.float64]

_COOKED = np.dtype([("interface", ">u4")])  # at byte 4 of the cooked header


class At(NamedTuple):
    """A step, and between which instants it was read (seconds since the epoch, by the capture)."""

    step: Step
    now: float
    read_at: float


class _Piece(NamedTuple):
    """The packets of a piece of the file, in order."""

    packets: Packets
    times: Times
    interfaces: npt.NDArray[np.int32]


class CaptureSteps:
    """Reads ``file`` once. The counts are of what was read so far."""

    def __init__(self, file: CaptureFile, flows: PacketFlows, *, tunnels: Tunnels = "outer") -> None:
        self.file = file
        self.flows = flows
        self.frames = 0
        self.packets = 0
        self.malformed: Counter[str] = Counter()
        self.other: Counter[str] = Counter()
        self.unopened = 0
        """Packets of tunnels that count as the tunnel's own flow though tunnels are opened."""
        self.late = 0
        """Packets that came after ones of a later time, and count at that."""
        self.odd = OddFrames(ODD_LIMIT)
        self.now = self.ended = 0.0
        """The time of the latest packet; the first goes on in the silence after the last."""
        self._tunnels: Tunnels = tunnels

    def steps(self) -> Iterator[At]:
        """An empty full read, the flows as they come, and in the end word that their ends may have been missed."""
        begun = False
        for piece in self._pooled():
            if not begun:
                begun, self.now = True, float(piece.times[0])
                yield self._at(ReadStarted("start"))
                yield self._at(ReadFinished(True))
                yield self._at(CaughtUp(self.now))  # what shakes hands from here on began after it
            yield from self._slices(piece)
        self.ended = self.now
        for batch in (self.flows.tell(), self.flows.doubt()):
            yield self._at(batch)

    def silence(self, seconds: float) -> Iterator[At]:
        """What comes after the capture: nothing, for so long. What is asked meanwhile may still decide something."""
        for _ in range(int(seconds)):
            self.now += 1.0
            yield self._at(CaughtUp(self.now))

    def _at(self, step: Step) -> At:
        return At(step, self.now, self.now)

    def _pooled(self) -> Iterator[_Piece]:
        """The packets of the file, so many at a time that most flows have several: what a flow costs is shared."""
        pool: list[_Piece] = []
        for piece in map(self._decoded, self.file.pieces()):
            if not len(piece.times):
                continue
            pool.append(piece)
            if sum(len(one.times) for one in pool) >= POOL or piece.times[-1] > pool[0].times[0] + SLICE:
                yield _joined(pool)
                pool = []
        if pool:
            yield _joined(pool)

    def _slices(self, piece: _Piece) -> Iterator[At]:
        times = np.maximum(np.maximum.accumulate(piece.times), self.now)
        self.late += int(np.count_nonzero(piece.times < times - DISORDER))
        start = 0
        while start < len(times):
            end = int(np.searchsorted(times, times[start] + SLICE, "right"))
            part = piece.packets if end - start == len(times) else piece.packets.take(slice(start, end))
            batches = self.flows.take(part, times[start:end], piece.interfaces[start:end])
            begun, self.now = float(times[start]), float(times[end - 1])
            for batch in batches:
                yield At(batch, self.now, begun)
            yield self._at(CaughtUp(self.now))
            start = end

    def _decoded(self, frames: list[Frames]) -> _Piece:
        self.odd.allow()
        parts = [self._part(one) for one in frames]
        if len(parts) == 1:
            return parts[0][0]
        packets = Packets.concatenate([piece.packets for piece, _ in parts])
        order = np.argsort(np.concatenate([starts for _, starts in parts]), kind="stable")
        times = np.concatenate([piece.times for piece, _ in parts])
        interfaces = np.concatenate([piece.interfaces for piece, _ in parts])
        return _Piece(packets.take(order), times[order], interfaces[order])

    def _part(self, frames: Frames) -> tuple[_Piece, npt.NDArray[np.int64]]:
        """The packets of frames of one link type, and where their frames begin."""
        decoded = decode_frames(
            frames.data,
            frames.starts,
            frames.captured,
            frames.wire_lengths,
            frames.link_type,
            tunnels=self._tunnels,
            odd=self.odd,
        )
        self.frames += len(frames.starts)
        self.packets += len(decoded.packets)
        self.malformed.update(decoded.malformed)
        self.other.update(decoded.other)
        if self._tunnels == "inner":
            self.unopened += int(np.count_nonzero(decoded.packets.flags & np.uint16(Mark.UNOPENED)))
        starts, times, interfaces = frames.starts, frames.times, frames.interfaces
        if len(decoded.index) != len(starts):
            starts, times, interfaces = starts[decoded.index], times[decoded.index], interfaces[decoded.index]
        if frames.link_type == LinkType.SLL2 and len(starts):  # taken on all interfaces at once, each frame says where
            interfaces = gather(frames.data, starts + 4, _COOKED)["interface"].astype(np.int32)
        return _Piece(decoded.packets, times / 1e9, interfaces), starts


def _joined(pieces: list[_Piece]) -> _Piece:
    """Pieces that follow each other as one."""
    if len(pieces) == 1:
        return pieces[0]
    packets = Packets.concatenate([piece.packets for piece in pieces])
    times = np.concatenate([piece.times for piece in pieces])
    return _Piece(packets, times, np.concatenate([piece.interfaces for piece in pieces]))
