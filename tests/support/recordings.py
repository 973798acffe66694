"""Recordings, replayed and compared."""

from __future__ import annotations

from pathlib import Path

from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import FlowBatch
from flowmap.recording.reader import RecordingReader
from flowmap.replay.recording import Replay


def comparable(entry: object) -> object:
    if isinstance(entry, TakeStep) and isinstance(entry.step, FlowBatch):
        return entry.now, entry.read_at, entry.step.rows()
    return entry


def replayed(path: Path, until: float = float("inf")) -> Replay:
    with RecordingReader(path) as reader:
        replay = Replay(reader)
        for _ in replay.run(until):
            pass
    return replay
