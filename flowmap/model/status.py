"""The state of the daemon: sources, attribution, control plane. All values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner
from flowmap.model.source import SourceStatus


class Contradiction(NamedTuple):
    """An answer that denies an attribution. Times are monotonic seconds, in the status answer epoch seconds."""

    asked_at: float
    answered_at: float
    question: str
    """Shape and endpoint of the question: ``client 10.0.0.1``."""
    namespace: str
    attributed: tuple[Owner, ...]
    """Owners of the flows, or of the ownership interval; they stay."""
    answered: tuple[Owner, ...]
    """Owners in the answer."""
    flows: int
    """Number of open flows whose owners the answer denies; 0 if it denies an ownership interval only."""
    flow: tuple[Endpoint, Endpoint] | None
    """Client and server endpoint of one of the flows."""


class ReadingView(NamedTuple):
    """Counts of the questions of one shape since the start."""

    shape: str
    asked: int
    answered: int
    named: int
    """Answers that named a deployment."""
    silent: bool
    """Whether the shape never names a deployment, so that its questions are repeated less often."""


class AttributionReport(NamedTuple):
    """State of the attribution."""

    readings: tuple[ReadingView, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    """The newest contradictions, the latest first."""
    tied_pairs: int = 0
    """Pairs of endpoints with flows that have several candidates."""
    ties_waiting: int = 0
    """Questions about both endpoints of such pairs that were due and got no call."""
    hint: str | None = None
    """Advice about the settings, from the answers so far."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The daemon's own state."""

    version: str
    started_at: float
    ready: bool
    sources: tuple[SourceStatus, ...]
    control_plane: Mapping[str, object]
    """Endpoint, last success and last error (times in epoch seconds), questions known and waiting, budget left."""
    flows: Mapping[str, int]
    """Open, pending, tracked and the limit."""
    bytes: Mapping[str, Mapping[str, int]]
    """Transmit and receive of ``observed``, ``attributed``, ``shared``, ``unattributed``, ``internal``, ``pending`` and
    ``expired``."""
    conserved: bool
    """Whether observed equals the sum of the others, exactly, in both directions."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """The daemon's process id and file, and how the last reload went (times in epoch seconds)."""
    recording: Mapping[str, object] | None = None
    """State of the recording: path, size, and whether it continues or why it ended; None without one."""
    attribution: AttributionReport = AttributionReport()
    """Its times are epoch seconds."""
    history: Mapping[str, object] | None = None
    """State of the history file (times in epoch seconds); None without one."""
