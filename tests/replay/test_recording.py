"""What was recorded replays to the same books, and nothing else passes for it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from tests.support.commands import config, recorded, scripts, state
from tests.support.recordings import replayed


@settings(max_examples=80, deadline=None)
@given(
    script=scripts,
    confirm=st.sampled_from(["strict", "fast"]),
    semantics=st.sampled_from(["both", "connection", "dataflow"]),
)
def test_any_operations_replay_to_the_same_books(script: list[Any], confirm: str, semantics: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "recording"
        accounting, _ = recorded(path, script, config(confirm=confirm, semantics=semantics))
        replay = replayed(path)
        assert replay.difference is None
        assert (replay.reader.missing, replay.reader.ended) == ("", "stopped")
        assert state(replay.accounting) == state(accounting)
