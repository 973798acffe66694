"""Turns a capture file into the steps of a source, on the clock of the capture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.records.batch import FlowBatch
from flowmap.model.source import SourceFacts
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.copies import CopyWatch, interfaces_of
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted, Step
from flowmap.sources.packets.flows import SLICE, PacketFlows
from flowmap.sources.packets.silence import SPAN
from flowmap.sources.packets.table import OTHER
from flowmap.wire.capture_files.reader import NO_INTERFACE, CapturedFrames
from flowmap.wire.packets.frames import Tunnels, decode_frames
from flowmap.wire.packets.packets import Mark, Packets
from flowmap.wire.packets.scapy_fallback import ScapyFallback

FACTS = SourceFacts("replay", "ip", True)

CELL = 0.1
"""Seconds of packets in one step, if questions are asked between steps."""
WINDOW, CALM_WINDOW = 1.0, 30.0
"""Seconds of packets that are processed together: while flows wait for their owners, and while none does. Growing
counters are reported at the end of a window."""
DISORDER = 1.0
"""Seconds by which frames may be out of order, as in captures from several queues."""
WINDOW_PACKETS = 4 * SLICE
"""Largest number of packets in one window."""
POOL = 16_384
"""Packets that are collected before they are processed, unless they cover a window."""

Times = npt.NDArray[np.float64]


class At(NamedTuple):
    """A step, and the times between which it was read (seconds since the epoch, from the capture)."""

    step: Step
    now: float
    read_at: float


class _Piece(NamedTuple):
    """The packets of a piece of the file, in order."""

    packets: Packets
    times: Times
    interfaces: npt.NDArray[np.int32]


class CaptureSteps:
    """Reads ``file`` once. The counts cover the pieces of the file that were read so far."""

    def __init__(
        self, file: CaptureFile, flows: PacketFlows, *, tunnels: Tunnels = "outer", at_once: bool = False
    ) -> None:
        """``flows`` are timed. ``at_once``: no questions are asked between steps, so steps may have many packets.

        Steps end at multiples of CELL and WINDOW, so steps and decisions do not depend on how the file is read.
        """
        self.file = file
        self.flows = flows
        self.frames = 0
        self.packets = 0
        self.malformed: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        """Frames that cannot be decoded and may contain IP, by the name of their content."""
        self.other: Counter[str] = Counter()
        self.copies = CopyWatch()
        self.timeless = 0
        """Frames without a time."""
        self.unopened = 0
        """Packets of tunnels that count as the flow of the tunnel, although tunnels are opened."""
        self.late = 0
        """Packets that are far out of order and belong to no flow."""
        self.late_bytes = 0
        """Their bytes."""
        self.began = math.inf
        """Time of the earliest frame; infinite without one."""
        self.ended = -math.inf
        """Time of the latest frame."""
        self.later = False
        """Whether reading stopped at a frame after ``until``."""
        self.now = -math.inf
        """Time of the latest packet, or of the silence after the last one."""
        self._at_once = at_once
        self._until = -math.inf
        """End of the current window."""
        self._held: list[FlowBatch] = []
        """Records of the current window."""
        self._taken = 0
        """Packets of the current window."""
        self._cells: dict[int, float] = {}
        """Time of the last packet in each cell of the current window."""
        self.is_awaited: Callable[[], bool] = lambda: True
        """Whether CaughtUp is needed after cells in which only counters changed."""
        self.is_calm: Callable[[], bool] = lambda: False
        """Whether no flow waits for its owner."""
        self._fallback = ScapyFallback()
        self._tunnels: Tunnels = tunnels

    def steps(self, until: float = math.inf) -> Iterator[At]:
        """An empty full read, the records of flows, and at the end of the file marks that their ends may be missed.

        Reading stops at the first frame after ``until``. Without packets there are no steps.
        """
        begun = False
        for piece in map(self._in_order, self._pooled(until)):
            if not begun and len(piece.times):
                begun, self.now = True, float(piece.times[0])
                yield self._at(ReadStarted("start"))
                yield self._at(ReadFinished(True))
                yield self._at(CaughtUp(self.now))  # a handshake from here on belongs to a new connection
            yield from self._windows(piece)
        if not begun:
            return
        yield from self._finish()
        yield self._at(self.flows.report())
        if self.later:  # the file is complete up to this time
            yield from self._pass_to(until)
            self.now = max(self.now, until)
            yield self._at(CaughtUp(self.now))
        else:
            yield self._at(self.flows.mark_doubtful())

    def silence(self, seconds: float) -> Iterator[At]:
        """``seconds`` of silence after the capture, in which repeated questions can still decide flows."""
        for _ in range(int(seconds)):
            then = self.now + 1.0
            yield from self._pass_to(then)
            self.now = then
            yield self._at(CaughtUp(self.now))

    def rest(self, until: float = math.inf) -> Iterator[At]:
        """Flows that time out after the capture, up to ``until``; if infinite, all except established TCP.

        After each flow there is time for a question and its answer.
        """
        silent = self.flows.expire(self.now + OTHER + 1.0 if until == math.inf else until)
        if self._at_once:
            yield from map(self._at, silent)
            return
        ends = list(self._by_cell(silent, {}))
        for number, at in enumerate(ends, 1):
            yield at
            following = ends[number].now if number < len(ends) else until
            for then in (at.now + 2 * CELL, at.now + 4 * CELL):
                if then < following:
                    yield At(CaughtUp(then), then, then)

    def _at(self, step: Step) -> At:
        return At(step, self.now, self.now)

    def _pooled(self, until: float) -> Iterator[_Piece]:
        """The packets of the file, in groups so large that most flows have several packets, which costs less."""
        pool: list[_Piece] = []
        for piece in map(self._decoded, self._before(until)):
            if not len(piece.times):
                continue
            pool.append(piece)
            if sum(len(one.times) for one in pool) >= POOL or piece.times[-1] > pool[0].times[0] + self._window():
                yield _joined(pool)
                pool = []
        if pool:
            yield _joined(pool)

    def _before(self, until: float) -> Iterator[list[CapturedFrames]]:
        """The frames of each piece of the file, up to the first one after ``until``."""
        for piece in self.file.pieces():
            late = [frames.starts[frames.times > until * 1e9] for frames in piece] if until < math.inf else []
            end = min((int(starts[0]) for starts in late if len(starts)), default=None)
            if end is None:
                yield piece
                continue
            self.later = True
            yield [frames.first(int(np.searchsorted(frames.starts, end))) for frames in piece]
            return

    def _windows(self, piece: _Piece) -> Iterator[At]:
        times = np.maximum(np.maximum.accumulate(piece.times), self.now)
        start = 0
        while start < len(times):
            if times[start] >= self._until:
                yield from self._finish()
                yield from self._pass_to(float(times[start]))
                window = self._window()
                self._until = (math.floor(times[start] / window) + 1) * window
            end = int(np.searchsorted(times, self._until))
            while start < end:
                stop = min(end, start + WINDOW_PACKETS - self._taken)
                whole = stop - start == len(times)
                part = piece.packets if whole else piece.packets.take(slice(start, stop))
                self._take(part, times[start:stop], piece.interfaces[start:stop])
                start = stop
                if self._taken == WINDOW_PACKETS:
                    yield from self._finish()

    def _window(self) -> float:
        if self._at_once:
            return SPAN
        return CALM_WINDOW if self.is_calm() else WINDOW

    def _take(self, packets: Packets, times: Times, interfaces: npt.NDArray[np.int32]) -> None:
        self._held += self.flows.take(packets, times, interfaces)
        self._taken += len(times)
        self.now = float(times[-1])
        if not self._at_once:
            cells = np.floor(times / CELL).astype(np.int64)
            last = np.append(np.flatnonzero(np.diff(cells)), len(cells) - 1)
            self._cells.update(zip(cells[last].tolist(), times[last].tolist(), strict=True))

    def _finish(self) -> Iterator[At]:
        """The records of the current window, which ends."""
        if self._taken and self._at_once:
            for batch in self._held:
                yield self._at(batch)
            yield self._at(CaughtUp(self.now))
        elif self._taken:
            yield from self._by_cell([*self._held, self.flows.report()], self._cells)
        self._held, self._cells, self._taken = [], {}, 0

    def _by_cell(self, batches: list[FlowBatch], last: dict[int, float]) -> Iterator[At]:
        """Records by the cell of their event, so that a question after a cell does not know later events."""
        parts: dict[int, list[FlowBatch]] = {cell: [] for cell in last}
        for batch in batches:
            cells = np.floor(_ends(batch) / CELL).astype(np.int64)
            for cell in np.unique(cells).tolist():
                parts.setdefault(cell, []).append(batch.take(cells == cell))
        for cell, some in sorted(parts.items()):
            now = max([last.get(cell, -math.inf), *(float(_ends(batch).max()) for batch in some)])
            for batch in some:
                yield At(batch, now, now)
            if cell in last and (some or self.is_awaited()):
                yield At(CaughtUp(last[cell]), now, now)

    def _pass_to(self, then: float) -> Iterator[At]:
        """Flows that time out before ``then``, each at its end."""
        silent = self.flows.expire(then)
        if self._at_once:
            yield from map(self._at, silent)
        else:
            yield from self._by_cell(silent, {})

    def _in_order(self, piece: _Piece) -> _Piece:
        """The piece without the packets that are far out of order, whose time is unknown.

        These are either packets after later ones, or packets before earlier ones, whichever are fewer. So one wrong
        time in the future does not exclude all packets after it.
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
        """Which times are earlier than a previous one by more than DISORDER."""
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
        """The packets of frames of one link type, and the offsets of their frames."""
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
            fallback=self._fallback,
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
        """Update the counts about times."""
        if not frames.timed:
            self.timeless += len(frames.times)
        elif len(frames.times):
            self.began = min(self.began, float(frames.times.min()) / 1e9)
            self.ended = max(self.ended, float(frames.times.max()) / 1e9)


def _ends(batch: FlowBatch) -> Times:
    """The latest possible time of the event of each record."""
    assert batch.moments is not None, "flows are timed"
    return batch.moments.by


def _joined(pieces: list[_Piece]) -> _Piece:
    """Consecutive pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    packets = Packets.concatenate([piece.packets for piece in pieces])
    times = np.concatenate([piece.times for piece in pieces])
    return _Piece(packets, times, np.concatenate([piece.interfaces for piece in pieces]))
