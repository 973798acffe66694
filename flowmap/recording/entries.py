"""Entries of a recording: commands, and checkpoints for the replay. Times are monotonic seconds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Command
from flowmap.flows.records.batch import Datagrams
from flowmap.model.source import SourceStats


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A :class:`TakeStep` whose batch is recorded as netlink datagrams, not decoded."""

    now: float
    read_at: float
    datagrams: Datagrams


@dataclass(frozen=True, slots=True)
class Asked:
    """An :class:`Ask` with its result."""

    now: float
    limit: int
    questions: int
    """Number of questions it returned."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The wall clock was set: from here on it is the monotonic clock plus ``epoch`` seconds."""

    epoch: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Figures of the accounting at one moment; the replay must reach the same ones."""

    observed: tuple[int, int]
    pending: tuple[int, int]
    ignored: int
    flows: int
    open_flows: int
    pending_flows: int
    contradictions: int
    complete_reads: int
    credited: Mapping[str, tuple[int, int]]
    """Bytes by kind of series, and expired bytes."""
    series: int
    """CRC-32 of the names and bytes of all series."""

    @classmethod
    def of(cls, accounting: FlowAccounting) -> Checkpoint:
        """The figures of ``accounting``."""
        series_table = accounting.series_table.freeze()
        names = "".join(series_table.texts).encode(errors="surrogatepass")
        series = zlib.crc32(series_table.receive_bytes.tobytes(), zlib.crc32(series_table.transmit_bytes.tobytes()))
        return cls(
            observed=(accounting.observed[0], accounting.observed[1]),
            pending=(accounting.pending[0], accounting.pending[1]),
            ignored=accounting.ignored,
            flows=len(accounting.table),
            open_flows=accounting.table.open_flows,
            pending_flows=accounting.pending_flows,
            contradictions=accounting.attribution.contradictions.count,
            complete_reads=accounting.complete_reads,
            credited={name: (part[0], part[1]) for name, part in series_table.totals()._asdict().items()},
            series=zlib.crc32(names, series),
        )

    def _without_empty_kinds(self) -> Checkpoint:
        """A recording of another version may lack kinds of series, or have more."""
        return replace(self, credited={name: part for name, part in self.credited.items() if any(part)})

    def difference(self, other: Checkpoint) -> str:
        """The first figure that differs from ``other``, as text; empty if all are equal."""
        mine, theirs = (asdict(one._without_empty_kinds()) for one in (self, other))
        return next((f"{name} {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]), "")


@dataclass(frozen=True, slots=True)
class Marked:
    """Figures of the accounting and statistics of the source, about once a second."""

    now: float
    figures: Checkpoint
    stats: SourceStats = field(default_factory=SourceStats)


Entry = Command | Undecoded | Asked | ClockSet | Marked
