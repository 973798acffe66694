"""The state of the daemon: sources, attribution, control plane. All values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner


class Contradiction(NamedTuple):
    """An answer that denies what was attributed. Times are monotonic seconds, those of the status answer epoch ones."""

    asked_at: float
    answered_at: float
    question: str
    """The shape and what was asked about: ``client 10.0.0.1``."""
    namespace: str
    attributed: tuple[Owner, ...]
    """Whose the flows are, or whom the range named; this stays."""
    answered: tuple[Owner, ...]
    """Whom the answer names."""
    flows: int
    """Open flows it denies; 0: only a range."""
    flow: tuple[Endpoint, Endpoint] | None
    """Client and server end of one of them."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """State of one source, for the status answer."""

    name: str
    up: bool
    records: int
    overruns: int
    lost: Mapping[str, int]
    resyncs: Mapping[str, int]
    notes: Mapping[str, str]
    error: str | None = None
    role: str = "traffic"
    """``traffic``: its records are counted; ``health``: it measures what another source counts."""
    why: str = ""
    """Why it is read, where it was not named in the configuration."""
    exceptional_packets: Mapping[str, int] = field(default_factory=dict)
    """Packets that count unlike others, by reason."""


class ReadingView(NamedTuple):
    """What questions of one shape have brought since the start."""

    shape: str
    asked: int
    answered: int
    named: int
    """Answers that named somebody."""
    silent: bool
    """Whether the shape names nobody anywhere, so that what it was asked is repeated less often."""


class AttributionReport(NamedTuple):
    """How the attribution stands."""

    readings: tuple[ReadingView, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    """The newest, the last one first."""
    tied_pairs: int = 0
    """Pairs of ends between which flows have several candidates."""
    ties_waiting: int = 0
    """Questions about both ends of such pairs for which there was no call."""
    hint: str | None = None
    """What the answers say about the settings."""


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
    """Transmit and receive of ``observed``, ``attributed``, ``shared``, ``unattributed``, ``pending``, ``expired``."""
    conserved: bool
    """Whether observed equals the sum of the others, exactly, in both directions."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """The daemon's process id and file, and how the last reload went (times in epoch seconds)."""
    recording: Mapping[str, object] | None = None
    """How the recording of what happens stands: path, size, whether it goes on or why it ended; None without one."""
    attribution: AttributionReport = AttributionReport()
    """Its times are epoch seconds."""
    history: Mapping[str, object] | None = None
    """How the history file stands (times in epoch seconds); None without one."""
