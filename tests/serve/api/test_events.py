"""The event about the state of the daemon: what a reader must know beside the figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.export.snapshot import Snapshot
from flowmap.model.source import SourceStats
from flowmap.serve.api.events import StatusEvent
from tests.support.fake_backend import FakeBackend


@pytest.mark.parametrize(("age", "shown"), [(None, None), (0.0, 0.0), (12.34, 12.3)])
def test_age_of_the_counters(age: float | None, shown: float | None) -> None:
    found = StatusEvent.made_from(FakeBackend().status(), Snapshot(counter_age=age)).as_json()
    assert found["counterAgeSeconds"] == shown


def test_losses_of_all_sources_add_up() -> None:
    status = FakeBackend().status()
    (source, *_) = status.sources
    stats = [SourceStats(lost={"malformed": 2, "truncated": 3}, overruns=1), SourceStats(lost={"ring_full": 10})]
    status = replace(status, sources=tuple(replace(source, stats=one) for one in stats), problems=("one", "two"))
    found = StatusEvent.made_from(
        status, Snapshot(source="capture", open_flows=7, pending_flows=2, shed={"a": 1, "b": 4})
    )
    shown = found.as_json()
    assert (shown["lost"], shown["overruns"], shown["shed"]) == (15, 1, 5)
    assert (shown["source"], shown["openFlows"], shown["pendingFlows"]) == ("capture", 7, 2)
    assert shown["problems"] == ["one", "two"]


def test_a_window_of_the_past_needs_a_history() -> None:
    status = FakeBackend().status()
    assert StatusEvent.made_from(status, Snapshot()).as_json()["history"] is True
    assert StatusEvent.made_from(replace(status, history=None), Snapshot()).as_json()["history"] is False
