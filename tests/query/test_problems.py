"""What is wrong, in sentences: each degradation of the status makes one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.model.status import (
    AttributionReport,
    FleetStatus,
    FlowCounts,
    PendingFor,
    RecordingReport,
    StatusView,
    StoreStatus,
)
from flowmap.query.problems import problems
from tests.support.fake_backend import FakeBackend

STATUS = FakeBackend().status()
SOURCE = STATUS.sources[0]
CONTROL = STATUS.control_plane
CATALOG = CONTROL.catalog
assert CATALOG is not None and STATUS.history is not None and STATUS.configuration is not None
FINE = replace(
    STATUS,
    sources=(replace(SOURCE, stats=replace(SOURCE.stats, notes={})),),
    control_plane=replace(CONTROL, catalog=replace(CATALOG, error=None)),
    attribution=AttributionReport(),
    recording=None,
    history=replace(STATUS.history, flows_lost=0),
)

FLEET = FleetStatus("redis://host", True, 2, 0, 0, 0.0, 0, 0, 0, None)
STORE = StoreStatus("http://host", False, 5, 1200, 0, 1.0, 1.0, None)

ROWS: list[tuple[StatusView, str]] = [
    (replace(FINE, conserved=False), "do not add up"),
    (replace(FINE, ready=False), "first full read"),
    (replace(FINE, sources=(replace(FINE.sources[0], error="no permission"),)), "Source conntrack: no permission"),
    (replace(FINE, sources=(replace(SOURCE, stats=replace(SOURCE.stats, up=False, notes={})),)), "is down"),
    (replace(FINE, control_plane=replace(FINE.control_plane, breaker_open=True)), "suspended"),
    (replace(FINE, control_plane=replace(FINE.control_plane, clock_skew_seconds=-90.0)), "differs by -90 s"),
    (replace(FINE, control_plane=replace(CONTROL, catalog=replace(CATALOG, error="timeout"))), "listed: timeout"),
    (replace(FINE, attribution=AttributionReport(pending_for=PendingFor(budget=1200))), "1,200 flows wait for a call"),
    (replace(FINE, attribution=AttributionReport(pending_for=PendingFor(outage=3))), "does not answer"),
    (replace(FINE, attribution=AttributionReport(hint="set it")), "set it"),
    (replace(FINE, flows=FlowCounts(1, 0, 95, 100)), "nearly full (95 of 100)"),
    (replace(FINE, history=replace(STATUS.history, flows_lost=0, up=False)), "cannot be written"),
    (replace(FINE, history=replace(STATUS.history, flows_lost=7)), "7 flows are missing"),
    (
        replace(FINE, configuration=replace(STATUS.configuration, last_reload_successful=False, last_error="line 3")),
        "rejected: line 3",
    ),
    (replace(FINE, recording=RecordingReport("/r", 9, False, "disk")), "recording ended: disk"),
    (replace(FINE, fleet=replace(FLEET, up=False, error="timeout")), "Fleet: timeout; until the server answers, this"),
    (replace(FINE, fleet=replace(FLEET, error="answers come late: denied")), "Fleet: answers come late: denied."),
    (replace(FINE, store=replace(STORE, error="no answer")), "ClickHouse: no answer; 1,200 flows wait"),
    (replace(FINE, store=replace(STORE, flows_lost=7)), "ClickHouse: 7 flows will never be sent"),
]


@pytest.mark.parametrize(("status", "expected"), ROWS, ids=[expected for _, expected in ROWS])
def test_each_problem(status: StatusView, expected: str) -> None:
    (sentence,) = problems(status)
    assert expected in sentence


def test_no_problem() -> None:
    assert list(problems(replace(FINE, fleet=FLEET, store=STORE))) == []
