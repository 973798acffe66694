"""Replays a capture file into its own accounting, on the clock of the capture."""

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

ANSWER_WAIT = 5.0
"""Seconds to wait for the answer to a question that is repeated after the last packet."""


class CaptureReplay:
    """A capture file and its accounting. Times are seconds since the epoch, from the capture."""

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
        """``answerer``: gives the owners of an endpoint at a time; None if there is none. ``origin``: its name.

        ``loopback``: see :func:`make_accounting`. ``timeless``: answers do not depend on the time. ``changes``: when
        answers can change, if known.
        """
        flows = PacketFlows(config.collect.max_flows, seed=os.urandom(48), timed=True)
        self.steps = CaptureSteps(file, flows, tunnels=tunnels, at_once=answerer is None or timeless)
        self.accounting = make_accounting(
            config, announces_births=FACTS.announces_births, loopback=loopback, timeless=timeless
        )
        self.queries = LiveQueries(self.accounting, source=FACTS.name, epoch=0.0, origin=origin)
        self.now = -math.inf
        self._driver = ReplayDriver(self.accounting, answerer, changes=never if timeless else changes)
        self.steps.is_awaited = lambda: self._driver.waits
        self.steps.is_calm = lambda: not (self.accounting.pending_flows or self._driver.waits)
        self._late = 0
        attribute = config.attribute
        longest = max(attribute.positive_ttl, attribute.negative_ttl, attribute.grace)
        self._wait = 0.0 if answerer is None else longest + ANSWER_WAIT

    def run(self, until: float = math.inf) -> Iterator[float]:
        """Replay up to ``until`` (seconds since the epoch). Yields the finished share of the file, frequently."""
        file = self.steps.file
        for timed in self._driver.run(self._timed(until)):
            self.now = timed.now
            self._count_late()
            yield file.position / max(file.size, 1)

    def snapshot(self) -> Snapshot:
        """The current series and totals."""
        return make_snapshot(self.accounting, FACTS, self._stats(), taken_at=max(self.now, 0.0))

    def findings(self) -> list[str]:
        """A line on each unusable part of the file."""
        steps = self.steps
        lines = [steps.file.fault] if steps.file.fault else []
        lines += skipped_frames.lines(steps)
        if steps.late:
            lines.append(
                f"packets out of order: {steps.late:,} packets are unattributed (reason late), since their time is "
                "unknown; sort the file with reordercap"
            )
        return lines

    def notes(self) -> list[str]:
        """A line on the contents of the file, and one on each notable fact."""
        steps, counts = self.steps, self.steps.flows.counts
        rest = f", not IP: {skipped_frames.not_ip(steps)}" if steps.other else ""
        when = f", {_moment(steps.began)} to {_moment(steps.ended)}" if steps.began <= steps.ended else ""
        later = "; the rest is after --until" if steps.later else ""
        lines = [f"{steps.frames:,} frames, {steps.packets:,} packets{when}{rest}{later}"]
        for number, what in (
            (steps.file.dropped, "frames were lost during the capture, according to the file"),
            (steps.unopened, "packets of tunnels could not be opened and count as flows of the tunnel"),
            (counts.duplicates, "packets were seen on a second interface, or in both directions, and count once"),
            (counts.lone_fragments, "later fragments without a first fragment count as flows without ports"),
            (steps.timeless, "frames have no time and count at the time of the previous frame"),
            (counts.shed, "flows were closed early: more than collect.max_flows"),
        ):
            if number:
                lines.append(f"{number:,} {what}")
        return lines

    def _timed(self, until: float) -> Iterator[TimedStep]:
        """The steps of the file, then the time for repeated questions about the last flows."""
        for at in self.steps.steps(until):
            yield TimedStep(*at)
        for at in self.steps.silence(self._wait):
            if at.now > until or not self.accounting.pending_flows:
                break
            yield TimedStep(*at)
        for at in self.steps.rest(until):
            yield TimedStep(*at)

    def _count_late(self) -> None:
        """Count the bytes of packets that are far out of order as unattributed."""
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
