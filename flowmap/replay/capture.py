"""A capture file done to books of its own, on the clock of the capture."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime

from flowmap.config import Config
from flowmap.engine.commands import CountFlowless
from flowmap.engine.factory import make_accounting, make_snapshot
from flowmap.export.snapshot import Snapshot
from flowmap.model.source import SourceStats
from flowmap.query.live import LiveQueries
from flowmap.replay import skipped_frames
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.capture_owners import never
from flowmap.replay.capture_steps import FACTS, CaptureSteps
from flowmap.replay.driver import Answerer, Changes, ReplayDriver, TimedStep
from flowmap.sources.packets.flows import PacketFlows
from flowmap.wire.packets.frames import Tunnels

LISTEN_ON = 5.0
"""Seconds after the last repeat of a question for which its answer is waited."""


class CaptureReplay:
    """The file, and the books that it is done to. Instants of the books are seconds since the epoch, by the capture."""

    def __init__(
        self,
        file: CaptureFile,
        config: Config,
        answerer: Answerer | None,
        *,
        origin: str,
        tunnels: Tunnels = "outer",
        loopback: bool | None = None,
        timeless: bool = False,
        changes: Changes | None = None,
    ) -> None:
        """``answerer`` says who is at an end at an instant (None: nobody does), ``origin`` where it knows that from.

        ``loopback``: see :func:`make_accounting`. ``timeless``: the answerer says the same at every instant.
        ``changes``: when else it says something new, if that is known.
        """
        flows = PacketFlows(config.collect.max_flows, seed=os.urandom(48), timed=True)
        self.steps = CaptureSteps(file, flows, tunnels=tunnels, at_once=answerer is None or timeless)
        self.accounting = make_accounting(
            config, announces_births=FACTS.announces_births, loopback=loopback, timeless=timeless
        )
        self.queries = LiveQueries(self.accounting, source=FACTS.name, epoch=0.0, origin=origin)
        self.now = -math.inf
        self._offline = ReplayDriver(self.accounting, answerer, changes=never if timeless else changes)
        self.steps.is_awaited = lambda: self._offline.waits
        self.steps.is_calm = lambda: not (self.accounting.pending_flows or self._offline.waits)
        self._late = 0
        attribute = config.attribute
        longest = max(attribute.positive_ttl, attribute.negative_ttl, attribute.grace)
        self._wait = 0.0 if answerer is None else longest + LISTEN_ON

    def run(self, until: float = math.inf) -> Iterator[float]:
        """Go on up to ``until`` (seconds since the epoch); yields the share of the file that is done, often."""
        file = self.steps.file
        for timed in self._offline.run(self._timed(until)):
            self.now = timed.now
            self._count_late()
            yield file.position / max(file.size, 1)

    def snapshot(self) -> Snapshot:
        """How the books stand."""
        return make_snapshot(self.accounting, FACTS, self._stats(), taken_at=max(self.now, 0.0))

    def findings(self) -> list[str]:
        """A line on each part of the file that could not be used."""
        steps = self.steps
        lines = [steps.file.fault] if steps.file.fault else []
        lines += skipped_frames.lines(steps)
        if steps.late:
            lines.append(
                f"the clock goes back: {steps.late:,} packets count for no flow (reason late), as nobody knows when "
                "they were; reordercap puts a file in order"
            )
        return lines

    def notes(self) -> list[str]:
        """A line on what was read, and on each thing about it that is worth knowing."""
        steps, counts = self.steps, self.steps.flows.counts
        rest = f", not IP: {skipped_frames.not_ip(steps)}" if steps.other else ""
        when = f", {_moment(steps.began)} to {_moment(steps.ended)}" if steps.began <= steps.ended else ""
        later = "; the rest is later than --until" if steps.later else ""
        lines = [f"{steps.frames:,} frames, {steps.packets:,} packets{when}{rest}{later}"]
        for number, what in (
            (steps.file.dropped, "frames were lost while capturing, says the file"),
            (steps.unopened, "packets of tunnels could not be opened and count as the tunnel's own flows"),
            (counts.duplicates, "packets were seen on a second interface, or going out as well as in, and count once"),
            (counts.lone_fragments, "later fragments without their first count as flows without ports"),
            (steps.timeless, "frames have no time and count at that of the frame before them"),
            (counts.shed, "flows left before their time: more than collect.max_flows"),
        ):
            if number:
                lines.append(f"{number:,} {what}")
        return lines

    def _timed(self, until: float) -> Iterator[TimedStep]:
        """The steps of the file, then of the time in which questions about the last flows are asked again."""
        for at in self.steps.steps(until):
            yield TimedStep(*at)
        for at in self.steps.silence(self._wait):
            if at.now > until or not self.accounting.pending_flows:
                break
            yield TimedStep(*at)
        for at in self.steps.rest(until):
            yield TimedStep(*at)

    def _count_late(self) -> None:
        """Packets that are far out of order: their bytes, without names."""
        late, self._late = self.steps.late_bytes - self._late, self.steps.late_bytes
        if late:
            self.accounting.apply(CountFlowless(self.now, "late", (late, 0, 0, 0)))

    def _stats(self) -> SourceStats:
        steps = self.steps
        exceptional = {
            "not_ip": sum(steps.other.values()),
            "unopened": steps.unopened,
            **steps.flows.counts.exceptional(),
        }
        return SourceStats(
            up=not steps.file.fault,
            records=steps.packets,
            lost={**steps.malformed, **({"unread": lost} if (lost := steps.unread.total()) else {})},
            exceptional_packets={reason: number for reason, number in exceptional.items() if number},
        )


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s"
