"""What was recorded replays to the same books, and nothing else passes for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from flowmap.flows.columns import IGNORED
from flowmap.flows.index import Rows
from flowmap.record.reader import RecordingReader
from flowmap.record.replay import Replay
from tests.record.operations import config, recorded, scripts, state


def replayed(path: Path, until: float = float("inf")) -> Replay:
    with RecordingReader(path) as reader:
        replay = Replay(reader)
        for _ in replay.run(until):
            pass
    return replay


@settings(max_examples=80, deadline=None)
@given(
    script=scripts,
    confirm=st.sampled_from(["strict", "fast"]),
    semantics=st.sampled_from(["both", "connection", "dataflow"]),
)
def test_any_operations_replay_to_the_same_books(script: list[Any], confirm: str, semantics: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "recording"
        books, _ = recorded(path, script, config(confirm=confirm, semantics=semantics))
        replay = replayed(path)
        assert replay.difference is None
        assert (replay.reader.missing, replay.reader.ended) == ("", "stopped")
        assert state(replay.books) == state(books)


RECORDING = Path(__file__).parent.parent / "data" / "recording" / "orders.recording"
NAMES = {"10.77.0.11": ["orders"], "10.77.0.12": ["archive"], "10.77.0.99": []}


def test_a_recording_of_an_earlier_version_still_tells_who_owned_what() -> None:
    found: Counter[tuple[str, str]] = Counter()

    def count(rows: Rows) -> None:
        for row in rows[replay.books.table.columns.series[rows] != IGNORED].tolist():
            flow = replay.queries.flow(row)
            address = str(flow.client.address)
            assert [info.owner.name for info in flow.deployments] == NAMES[address]
            found[address, flow.state] += 1

    with RecordingReader(RECORDING) as reader:
        replay = Replay(reader, leaving=count)
        for _ in replay.run():
            pass
    assert (reader.ended, reader.missing) == ("stopped", "")
    count(replay.books.table.live())
    assert found == {
        ("10.77.0.11", "attributed"): 5,
        ("10.77.0.12", "attributed"): 4,
        ("10.77.0.99", "unknown"): 4,
    }
    snapshot = replay.snapshot()
    assert snapshot.conserved()
    assert snapshot.sources[0].records == 241
    assert sum(map(sum, (snapshot.ledger.totals().deployment, snapshot.ledger.totals().unattributed))) == 16_261
