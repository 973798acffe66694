"""Computes the calls that a recording would need with other settings, from its steps and its answers.

A question gets the last recorded answer before its time, or else the first one after it. A question about both
endpoints that was never asked gets the owners that the answers about each endpoint have in common. A question without a
recorded answer gets no deployment, and is counted.
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
from flowmap.flows.index.hash_index import Rows
from flowmap.model.deployment import DeploymentInfo
from flowmap.recording.entries import Undecoded
from flowmap.recording.reader import RecordingReader
from flowmap.replay.driver import ReplayDriver, Reply, TimedStep, answer
from flowmap.replay.recording import decoded
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder

USUAL_LATENCY = 0.1
"""Seconds until an answer arrives if the recording has no answers."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The result of a dry run."""

    calls: int
    by_shape: dict[str, int]
    flows: int
    seconds: float
    """Duration of the recording."""
    states: dict[str, int]
    """Flows by their final state."""
    unknown: int
    """Calls without a recorded answer."""
    recorded: int
    """Recorded results of questions."""

    @property
    def per_1000_flows(self) -> float:
        return 1000 * self.calls / self.flows if self.flows else 0.0

    def facts(self) -> dict[str, object]:
        """The result as JSON fields."""
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
        """``config`` replaces recorded settings and reloads, except those of the source. Errors: see the reader."""
        self.missing = ""
        self.calls = 0
        self._path = path
        self._config = config
        self._by_shape: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._first = self._last = 0.0
        self._known = KnownAnswers()

    def run(self) -> Iterator[float]:
        """Read the recording twice: for its answers, then for its steps. Yields the finished share."""
        with RecordingReader(self._path) as reader:
            for entry in reader.entries():
                if isinstance(entry, Deliver):
                    self._known.add(entry.result)
                yield reader.offset / reader.size / 2
        with RecordingReader(self._path) as reader:
            driver = self._driver(reader)
            for timed in driver.run(self._steps(reader)):
                self.calls, self._last = driver.calls, timed.now
                yield (1 + reader.offset / reader.size) / 2
            self.calls, self.missing = driver.calls, reader.missing
            self._count(driver.accounting.table.live())

    def cost(self) -> Cost:
        """The result."""
        return Cost(
            calls=self.calls,
            by_shape=dict(self._by_shape),
            flows=sum(self._states.values()),
            seconds=self._last - self._first,
            states=dict(self._states),
            unknown=self._known.unknown,
            recorded=self._known.recorded,
        )

    def _driver(self, reader: RecordingReader) -> ReplayDriver:
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
class _Received:
    arrived: float
    deployments: tuple[DeploymentInfo, ...]


class KnownAnswers:
    """Every answer of a recording, by question."""

    def __init__(self) -> None:
        self.recorded = 0
        self.unknown = 0
        """Number of questions without a recorded answer."""
        self._received: dict[Question, list[_Received]] = {}
        self._latencies: list[float] = []
        self._latency: float | None = None

    @property
    def latency(self) -> float:
        """Median latency of an answer in seconds."""
        if self._latency is None:
            self._latency = median(self._latencies) if self._latencies else USUAL_LATENCY
        return self._latency

    def add(self, result: QuestionResult) -> None:
        """Add one result, in the order of the recording."""
        self.recorded += 1
        if result.answer is None:
            return
        owning = tuple(info for info in result.deployments if info.owner in result.answer.owners)
        self._received.setdefault(result.question, []).append(_Received(result.answer.arrived, owning))
        self._latencies.append(result.answer.arrived - result.answer.asked)

    def about(self, question: Question, now: float) -> tuple[DeploymentInfo, ...]:
        """The deployments in the answer to a question at a time; empty if unknown."""
        found = self._last_received(question, now)
        if found is None and question.source is not None and question.destination is not None:
            client = question._replace(shape=Shape.CLIENT, source=question.source._replace(port=0), destination=None)
            sink = question._replace(shape=Shape.SINK, source=None)
            of_client, of_sink = self._last_received(client, now), self._last_received(sink, now)
            if of_client is not None and of_sink is not None:
                owners = {info.owner for info in of_sink}
                found = tuple(info for info in of_client if info.owner in owners)
        if found is None:
            self.unknown += 1
        return found or ()

    def _last_received(self, question: Question, now: float) -> tuple[DeploymentInfo, ...] | None:
        found = self._received.get(question)
        if found is None:
            return None
        return found[max(0, bisect_right(found, now, key=lambda one: one.arrived) - 1)].deployments
