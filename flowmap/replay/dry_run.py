"""What a recording would have cost: its steps again, with other settings, answered by what it knows of owners.

The control plane of a dry run says to a question what the recorded daemon last heard about it before that moment, or
else first heard after. A question about both ends that was never asked gets what the answers about each end have in
common. What the recording knows nothing of is answered with nobody, and counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.decisions import STATES
from flowmap.attribute.questions import Question, Shape
from flowmap.config import Config
from flowmap.engine.commands import Configure, Deliver, QuestionResult, TakeStep
from flowmap.engine.factory import make_accounting
from flowmap.flows.columns import IGNORED
from flowmap.flows.hash_index import Rows
from flowmap.model.deployment import DeploymentInfo
from flowmap.recording.entries import Undecoded
from flowmap.recording.reader import RecordingReader
from flowmap.replay.driver import ReplayDriver, Reply, TimedStep, answer
from flowmap.replay.recording import decoded
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder

USUAL_LATENCY = 0.1
"""Seconds an answer takes where the recording has none."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a dry run came to."""

    calls: int
    by_shape: dict[str, int]
    flows: int
    seconds: float
    """How long the recording is."""
    states: dict[str, int]
    """Flows by what is known of their owner in the end."""
    unknown: int
    """Calls that ask what the recording does not know."""
    recorded: int
    """Questions that came back to the daemon that recorded."""

    @property
    def per_1000_flows(self) -> float:
        return 1000 * self.calls / self.flows if self.flows else 0.0

    def facts(self) -> dict[str, object]:
        """All of it by name, for programs."""
        return {
            "calls": self.calls,
            "callsPer1000Flows": round(self.per_1000_flows, 3),
            "callsByShape": self.by_shape,
            "flows": self.flows,
            "flowsByState": self.states,
            "seconds": round(self.seconds, 3),
            "unknownCalls": self.unknown,
            "recordedCalls": self.recorded,
        }


class DryRun:
    """One dry run of the recording at ``path``: :meth:`run` to the end, then :meth:`cost`."""

    def __init__(self, path: Path, config: Config | None = None) -> None:
        """``config`` replaces the recorded settings and their reloads, but for those of the source. Errors as of the
        reader."""
        self.missing = ""
        self.calls = 0
        self._path = path
        self._config = config
        self._by_shape: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._first = self._last = 0.0
        self._known = KnownAnswers()

    def run(self) -> Iterator[float]:
        """Read the recording twice: for its answers, then for its steps; yields the share that is done."""
        with RecordingReader(self._path) as reader:
            for entry in reader.entries():
                if isinstance(entry, Deliver):
                    self._known.add(entry.result)
                yield reader.offset / reader.size / 2
        with RecordingReader(self._path) as reader:
            offline = self._offline(reader)
            for timed in offline.run(self._steps(reader)):
                self.calls, self._last = offline.calls, timed.now
                yield (1 + reader.offset / reader.size) / 2
            self.calls, self.missing = offline.calls, reader.missing
            self._count(offline.accounting.table.live())

    def cost(self) -> Cost:
        """What it came to."""
        return Cost(
            calls=self.calls,
            by_shape=dict(self._by_shape),
            flows=sum(self._states.values()),
            seconds=self._last - self._first,
            states=dict(self._states),
            unknown=self._known.unknown,
            recorded=self._known.recorded,
        )

    def _offline(self, reader: RecordingReader) -> ReplayDriver:
        config = self._config or reader.begin.config
        self._accounting = make_accounting(config, announces_births=reader.begin.source.announces_births)
        self._accounting.on_leaving(self._count)
        plane = config.control_plane
        self._budget = CallBudget(rate=plane.rate, burst=plane.burst, max_in_flight=plane.max_in_flight)
        return ReplayDriver(
            self._accounting, self._ask, budget=self._budget, give_up_after=config.attribute.give_up_after
        )

    def _configure_budget(self, config: Config) -> None:
        plane = config.control_plane
        self._budget.configure(rate=plane.rate, burst=plane.burst, max_in_flight=plane.max_in_flight)

    def _steps(self, reader: RecordingReader) -> Iterator[TimedStep]:
        decoder, first = ColumnDecoder(), True
        for entry in reader.entries():
            if isinstance(entry, (TakeStep, Undecoded)):
                self._first, first = (entry.now, False) if first else (self._first, False)
                taken = decoded(entry, decoder) if isinstance(entry, Undecoded) else entry
                yield TimedStep(taken.step, taken.now, taken.read_at)
            elif isinstance(entry, Configure) and self._config is None:
                self._accounting.apply(entry)
                self._configure_budget(entry.config)

    def _ask(self, question: Question, now: float) -> Reply:
        self._by_shape[question.shape] += 1
        return answer(question, now, self._known.about(question, now), latency=self._known.latency)

    def _count(self, rows: Rows) -> None:
        columns = self._accounting.table.columns
        counted = rows[columns.series[rows] != IGNORED]
        for code, count in enumerate(np.bincount(columns.state[counted], minlength=len(STATES)).tolist()):
            if count:
                self._states[STATES[code]] += count


@dataclass(frozen=True, slots=True)
class _Heard:
    arrived: float
    deployments: tuple[DeploymentInfo, ...]


class KnownAnswers:
    """Every answer of a recording, by question."""

    def __init__(self) -> None:
        self.recorded = 0
        self.unknown = 0
        """How often it was asked for what it does not know."""
        self._heard: dict[Question, list[_Heard]] = {}
        self._latencies: list[float] = []
        self._latency: float | None = None

    @property
    def latency(self) -> float:
        """Seconds an answer took, half of the time at most."""
        if self._latency is None:
            self._latency = median(self._latencies) if self._latencies else USUAL_LATENCY
        return self._latency

    def add(self, result: QuestionResult) -> None:
        """Take one result, in the order of the recording."""
        self.recorded += 1
        if result.answer is None:
            return
        owning = tuple(info for info in result.deployments if info.owner in result.answer.owners)
        self._heard.setdefault(result.question, []).append(_Heard(result.answer.arrived, owning))
        self._latencies.append(result.answer.arrived - result.answer.asked)

    def about(self, question: Question, now: float) -> tuple[DeploymentInfo, ...]:
        """Deployments the control plane would have named at that moment, as far as is known."""
        heard = self._last_heard(question, now)
        if heard is None and question.source is not None and question.destination is not None:
            client = question._replace(shape=Shape.CLIENT, source=question.source._replace(port=0), destination=None)
            sink = question._replace(shape=Shape.SINK, source=None)
            of_client, of_sink = self._last_heard(client, now), self._last_heard(sink, now)
            if of_client is not None and of_sink is not None:
                owners = {info.owner for info in of_sink}
                heard = tuple(info for info in of_client if info.owner in owners)
        if heard is None:
            self.unknown += 1
        return heard or ()

    def _last_heard(self, question: Question, now: float) -> tuple[DeploymentInfo, ...] | None:
        heard = self._heard.get(question)
        if heard is None:
            return None
        return heard[max(0, bisect_right(heard, now, key=lambda one: one.arrived) - 1)].deployments
