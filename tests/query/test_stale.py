"""Stale connections as users see them: of a selection, at most so many, and above a limit."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.model.findings import PeerAboveLimit, StaleReason, StaleView
from flowmap.model.selection import LabelFilter, Selection
from flowmap.query.stale import stale_view
from tests.support.live_traffic import EPOCH, LiveTraffic, X, Y
from tests.support.open_connections import BORN, OF_X, OF_Y, OWNERS, RUNNING, listed, open_connections, read_again
from tests.support.records import replace

EVERYTHING = Selection()


@pytest.fixture
def traffic() -> LiveTraffic:
    return open_connections()


def view(traffic: LiveTraffic, selection: Selection = EVERYTHING, *, limit: int = 10, **limits: float) -> StaleView:
    connections = limits.get("connections")
    return stale_view(
        traffic.queries,
        selection,
        idle=limits.get("idle"),
        connections=None if connections is None else int(connections),
        limit=limit,
    )


def reasons(found: StaleView) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(str(one.flow.client.address), one.flow.client.port, one.reasons) for one in found.connections]


def test_what_is_said_of_a_stale_connection(traffic: LiveTraffic) -> None:
    listed(traffic, X, RUNNING)
    found = view(traffic)
    assert {one.flow.client.port for one in found.connections} == {40000, 2}
    assert {one.reasons for one in found.connections} == {(StaleReason.OLDER_THAN_RUN,)}
    assert {one.run_started_at for one in found.connections} == {EPOCH + BORN + 60}
    assert (found.total, found.checked, found.unjudged) == (2, 3, 1)


def test_idle_times_that_are_not_known(traffic: LiveTraffic) -> None:
    traffic.see(replace(OF_X, client_port=4, id=4, counters=None))
    traffic.answer(OWNERS)
    both = [replace(one, kind=RecordKind.DUMPED) for one in (OF_X, OF_Y)]
    both.append(replace(OF_X, kind=RecordKind.DUMPED, client_port=4, id=4, counters=None))
    assert view(traffic).idle_known, "no read of the counters has left it out"
    read_again(traffic, 50, *both)
    read_again(traffic, 50, *both)
    found = view(traffic, idle=60)
    assert (len(found.connections), found.idle_known) == (2, False)
    assert all(one.idle_seconds is not None and one.idle_seconds > 60 for one in found.connections)


def test_selection_and_limit(traffic: LiveTraffic) -> None:
    for owner in (X, Y):
        listed(traffic, owner, RUNNING, labels={"team": owner.name})
    assert (len(view(traffic, limit=1).connections), view(traffic, limit=1).total) == (1, 3)
    for selection, count_of in (
        (Selection(deployment="x"), 2),
        (Selection(deployment="id-y"), 1),
        (Selection(label=LabelFilter("team", ("y",))), 1),
        (Selection(label=LabelFilter("team", ("z",))), 0),
        (Selection(peer="10.1.0.1:9092"), 3),
        (Selection(peer="10.1.*"), 3),
        (Selection(peer="kafka"), 0),
    ):
        assert (view(traffic, selection).total, view(traffic, selection).checked) == (count_of, count_of)


def test_too_many_to_one_peer(traffic: LiveTraffic) -> None:
    assert view(traffic, connections=1).above_limit == (PeerAboveLimit((X,), "10.1.0.1:9092", 2),)
    assert view(traffic, connections=2).above_limit == ()
    assert view(traffic, Selection(deployment="y"), connections=1).above_limit == ()
