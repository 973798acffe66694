"""A capture file as steps of a source, on the clock of the capture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.model.source import SourceFacts
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.copies import CopyWatch, interfaces_of
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted, Step
from flowmap.sources.packets.flows import PacketFlows
from flowmap.wire.capture_files.reader import NO_INTERFACE, CapturedFrames
from flowmap.wire.packets.frames import Tunnels, decode_frames
from flowmap.wire.packets.packets import Mark, Packets
from flowmap.wire.packets.scapy_fallback import ScapyFallback

FACTS = SourceFacts("replay", "ip", True)

SLICE = 0.1
"""Seconds of packets that are one step: how exactly the beginnings and ends of flows are known."""
DISORDER = 1.0
"""Seconds by which frames may be out of order without a word: several queues were read."""
POOL = 16_384
"""Packets that are enough for one step, however short their time."""

Times = npt.NDArray[np.float64]


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
    """Reads ``file`` once. The counts are of what was done so far, which is read up to the end of a piece."""

    def __init__(self, file: CaptureFile, flows: PacketFlows, *, tunnels: Tunnels = "outer") -> None:
        self.file = file
        self.flows = flows
        self.frames = 0
        self.packets = 0
        self.malformed: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        """Frames that cannot be read, by what they are; IP may be in them."""
        self.other: Counter[str] = Counter()
        self.copies = CopyWatch()
        self.timeless = 0
        """Frames without a time of their own."""
        self.unopened = 0
        """Packets of tunnels that count as the tunnel's own flow though tunnels are opened."""
        self.late = 0
        """Packets that are far out of order, and so of no flow."""
        self.late_bytes = 0
        """Bytes of these."""
        self.began = math.inf
        """Time of the earliest frame; infinite while there is none that has one."""
        self.ended = -math.inf
        """Time of the latest."""
        self.later = False
        """Whether it stopped before a frame, because of its time."""
        self.now = -math.inf
        """The time of the latest packet, going on in the silence after the last."""
        self._odd = ScapyFallback()
        self._tunnels: Tunnels = tunnels

    def steps(self, until: float = math.inf) -> Iterator[At]:
        """An empty full read, the flows as they come, and in the end word that their ends may have been missed.

        Nothing that comes after the first frame later than ``until`` is done, and without packets there are no steps.
        """
        begun = False
        for piece in map(self._in_order, self._pooled(until)):
            if not begun and len(piece.times):
                begun, self.now = True, float(piece.times[0])
                yield self._at(ReadStarted("start"))
                yield self._at(ReadFinished(True))
                yield self._at(CaughtUp(self.now))  # what shakes hands from here on began after it
            yield from self._slices(piece)
        if not begun:
            return
        yield self._at(self.flows.tell())
        if self.later:  # nothing is missing up to there
            self.now = max(self.now, until)
            yield self._at(CaughtUp(self.now))
        else:
            yield self._at(self.flows.doubt())

    def silence(self, seconds: float) -> Iterator[At]:
        """What comes after the capture: nothing, for so long. What is asked meanwhile may still decide something."""
        for _ in range(int(seconds)):
            self.now += 1.0
            yield self._at(CaughtUp(self.now))

    def _at(self, step: Step) -> At:
        return At(step, self.now, self.now)

    def _pooled(self, until: float) -> Iterator[_Piece]:
        """The packets of the file, so many at a time that most flows have several: what a flow costs is shared."""
        pool: list[_Piece] = []
        for piece in map(self._decoded, self._before(until)):
            if not len(piece.times):
                continue
            pool.append(piece)
            if sum(len(one.times) for one in pool) >= POOL or piece.times[-1] > pool[0].times[0] + SLICE:
                yield _joined(pool)
                pool = []
        if pool:
            yield _joined(pool)

    def _before(self, until: float) -> Iterator[list[CapturedFrames]]:
        """The frames of each piece of the file, up to the first that is later."""
        for piece in self.file.pieces():
            late = [frames.starts[frames.times > until * 1e9] for frames in piece] if until < math.inf else []
            end = min((int(starts[0]) for starts in late if len(starts)), default=None)
            if end is None:
                yield piece
                continue
            self.later = True
            yield [_first(frames, int(np.searchsorted(frames.starts, end))) for frames in piece]
            return

    def _slices(self, piece: _Piece) -> Iterator[At]:
        times = np.maximum(np.maximum.accumulate(piece.times), self.now)
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

    def _in_order(self, piece: _Piece) -> _Piece:
        """The piece without the packets that are far out of order: when they were, nobody knows.

        Either those that come after later ones, or those that come before earlier ones, whichever are fewer: one time
        that is far ahead is no reason to leave out all that follows.
        """
        late = self._behind(piece.times)
        if not late.any():
            return piece
        early = piece.times > np.minimum.accumulate(piece.times[::-1])[::-1] + DISORDER
        kept = ~early if np.count_nonzero(early) < np.count_nonzero(late) else ~late
        kept[kept] = ~self._behind(piece.times[kept])
        self.late += len(kept) - int(np.count_nonzero(kept))
        self.late_bytes += int(piece.packets.length[~kept].sum(dtype=np.uint64))
        return _Piece(piece.packets.take(kept), piece.times[kept], piece.interfaces[kept])

    def _behind(self, times: Times) -> npt.NDArray[np.bool_]:
        """Which of them are earlier than one before."""
        behind: npt.NDArray[np.bool_] = times < np.maximum(np.maximum.accumulate(times), self.now) - DISORDER
        return behind

    def _decoded(self, frames: list[CapturedFrames]) -> _Piece:
        parts = [self._part(one) for one in frames]
        if len(parts) == 1:
            return parts[0][0]
        packets = Packets.concatenate([piece.packets for piece, _ in parts])
        order = np.argsort(np.concatenate([starts for _, starts in parts]), kind="stable")
        times = np.concatenate([piece.times for piece, _ in parts])
        interfaces = np.concatenate([piece.interfaces for piece, _ in parts])
        return _Piece(packets.take(order), times[order], interfaces[order])

    def _part(self, frames: CapturedFrames) -> tuple[_Piece, npt.NDArray[np.int64]]:
        """The packets of frames of one link type, and where their frames begin."""
        self.frames += len(frames.starts)
        if frames.link_type == NO_INTERFACE:
            self.malformed["interface"] += len(frames.starts)
            return _Piece(Packets(0), np.zeros(0), np.zeros(0, np.int32)), frames.starts[:0]
        self._note(frames)
        decoded = decode_frames(
            frames.data,
            frames.starts,
            frames.captured,
            frames.wire_lengths,
            frames.link_type,
            tunnels=self._tunnels,
            odd=self._odd,
        )
        self.packets += len(decoded.packets)
        self.malformed.update(decoded.malformed)
        self.unread.update(decoded.unread)
        self.other.update(decoded.other)
        if self._tunnels == "inner":
            self.unopened += int(np.count_nonzero(decoded.packets.flags & np.uint16(Mark.UNOPENED)))
        starts, times, interfaces = frames.starts, frames.times, interfaces_of(frames, decoded)
        if len(decoded.index) != len(starts):
            starts, times = starts[decoded.index], times[decoded.index]
        self.copies.look(frames, decoded, interfaces)
        return _Piece(decoded.packets, times / 1e9, interfaces), starts

    def _note(self, frames: CapturedFrames) -> None:
        """What their times say."""
        if not frames.timed:
            self.timeless += len(frames.times)
        elif len(frames.times):
            self.began = min(self.began, float(frames.times.min()) / 1e9)
            self.ended = max(self.ended, float(frames.times.max()) / 1e9)


def _first(frames: CapturedFrames, number: int) -> CapturedFrames:
    """The first so many of them."""
    names = ("starts", "captured", "wire_lengths", "times", "interfaces")
    return replace(frames, **{name: getattr(frames, name)[:number] for name in names})


def _joined(pieces: list[_Piece]) -> _Piece:
    """Pieces that follow each other as one."""
    if len(pieces) == 1:
        return pieces[0]
    packets = Packets.concatenate([piece.packets for piece in pieces])
    times = np.concatenate([piece.times for piece in pieces])
    return _Piece(packets, times, np.concatenate([piece.interfaces for piece in pieces]))
