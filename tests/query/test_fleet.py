"""Answers from the store of a fleet, from a reader with known connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from flowmap.errors import HistoryError, QueryError
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.traffic_map import MapQuery
from flowmap.model.views import AttributionView, Connection, FlowFilter, Lookup, PeerSeen, PeerWindow, Traffic
from flowmap.query.fleet import NOT_STORED, FleetAnswers, FleetQueries
from tests.support.closed_flows import X, Y
from tests.support.fake_backend import FLOW

CONNECTION = Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.1.0.1"), 9092, 6)
BEHIND = "web-3: connections that ended after 2026-11-30T09:12:00Z are missing"


def stored(*owners: Owner, sure: bool = True) -> StoredFlow:
    state = (State.UNKNOWN, State.ATTRIBUTED, State.SHARED)[min(2, len(owners))]
    view = replace(FLOW, state=state, deployments=tuple(map(DeploymentInfo, owners)))
    return StoredFlow(view, (), "", 0.0, sure)


@dataclass
class Reader:
    """A store with these connections."""

    kept: Sequence[StoredFlow] = ()
    several: Sequence[list[StoredFlow]] = ()
    seen: Sequence[PeerSeen] = ()
    lacks: tuple[str, ...] = ()
    asked: list[object] = field(default_factory=list)
    closed: bool = False

    def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> tuple[Sequence[StoredFlow], str | None]:
        self.asked.append((limit, cursor))
        return self.kept[:limit], "more"

    def at(self, wanted: Connection, moment: float) -> list[StoredFlow]:
        return list(self.kept)

    def at_several(self, lookups: Sequence[Lookup], moment: float) -> list[list[StoredFlow]]:
        return list(self.several)

    def last(self, wanted: Connection) -> StoredFlow | None:
        return self.kept[-1] if self.kept else None

    def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        seen = (one for one in self.seen if one.first_seen <= until and one.last_seen >= since)
        return PeerWindow(since, until, tuple(seen))

    def missing(self, since: float, until: float, *, rows: bool) -> tuple[str, ...]:
        return self.lacks

    def close(self) -> None:
        self.closed = True


def queries(reader: Reader) -> FleetQueries:
    return FleetQueries(reader, owners_limit=4)


AT = [
    # connections at the moment: state, owners
    ([stored(X)], State.ATTRIBUTED, [X]),
    ([stored(X), stored(Y, sure=False)], State.ATTRIBUTED, [X]),  # one that was open for sure counts alone
    ([stored(X, sure=False), stored(Y, sure=False)], State.SHARED, [X, Y]),
    ([stored(X), stored(X)], State.ATTRIBUTED, [X]),
    ([stored(X, Y)], State.SHARED, [X, Y]),
    ([stored()], State.UNKNOWN, []),
    ([], State.UNKNOWN, []),
]


@pytest.mark.parametrize(("kept", "state", "owners"), AT)
def test_a_connection_at_a_moment(kept: list[StoredFlow], state: State, owners: list[Owner]) -> None:
    view = asyncio.run(queries(Reader(kept)).attribution(CONNECTION, 5.0))
    assert (view.state, [info.owner for info in view.deployments]) == (state, owners)
    (other,) = asyncio.run(queries(Reader(several=[kept])).attributions([CONNECTION.lookup], 5.0))
    assert (other.state, other.deployments) == (view.state, view.deployments)


def test_a_connection_that_is_not_stored_may_be_missing() -> None:
    view = asyncio.run(queries(Reader(lacks=(BEHIND,))).attribution(CONNECTION, 5.0))
    assert (view.state, view.observed, view.cause) == (
        State.UNKNOWN,
        False,
        f"{NOT_STORED.format(' at that time')}; {BEHIND}",
    )
    answers = FleetAnswers(queries(Reader(lacks=(BEHIND,))))
    assert asyncio.run(answers.attribution(CONNECTION, None)).cause == f"{NOT_STORED.format('')}; {BEHIND}"


def test_without_a_time_the_last_connection_counts() -> None:
    view = asyncio.run(FleetAnswers(queries(Reader([stored(Y), stored(X)]))).attribution(CONNECTION, None))
    assert [info.owner for info in view.deployments] == [X]
    assert view.cause == "this connection is closed; this is its final attribution"


def test_flows_come_with_what_is_missing() -> None:
    reader = Reader([stored(X), stored(Y)], lacks=(BEHIND,))
    page = asyncio.run(queries(reader).flows(FlowFilter(), 1, "here"))
    assert (len(page.flows), page.next_cursor, page.incomplete) == (1, "more", (BEHIND,))
    assert reader.asked == [(1, "here")]


def seen(peer: str, count: int, counts: str = "ip", at: float = 15.0) -> PeerSeen:
    return PeerSeen(peer, "tcp", Traffic(count, 0, 1, 0, 1), (X,), at, at, counts=counts)


def test_changes_between_windows() -> None:
    reader = Reader(seen=[seen("kafka", 5, at=5.0), seen("kafka", 5), seen("redis", 1, at=5.0)], lacks=(BEHIND,))
    changes = asyncio.run(FleetAnswers(queries(reader)).peer_changes("x", (0.0, 10.0), (10.0, 20.0)))
    assert ([one.peer for one in changes.new], [one.peer for one in changes.vanished]) == ([], ["redis"])
    assert changes.incomplete == (BEHIND,)


def test_a_map_has_one_kind_of_bytes_and_names_the_other() -> None:
    reader = Reader(seen=[seen("kafka", 5), seen("redis", 7), seen("kafka", 100, "payload")], lacks=(BEHIND,))
    answers = FleetAnswers(queries(reader))
    found = asyncio.run(answers.traffic_map(MapQuery(), (10.0, 20.0)))
    assert (found.counts, found.total.transmit_bytes) == ("ip", 12)
    assert found.incomplete == (BEHIND, "1 connections are left out: their bytes count payload, not ip")
    found = asyncio.run(answers.traffic_map(MapQuery(counts="payload"), (10.0, 20.0)))
    assert (found.counts, found.total.transmit_bytes, found.incomplete) == ("payload", 100, (BEHIND,))
    with pytest.raises(QueryError, match="window of time"):
        asyncio.run(answers.traffic_map(MapQuery()))


class Local(FleetQueries):
    """Answers of this host, which names the owner of every endpoint."""

    def __init__(self) -> None:
        super().__init__(Reader([stored(Y)], several=[[stored(Y)]]), owners_limit=4)

    async def attribution(self, connection: Connection, at: float) -> AttributionView:
        return replace(await super().attribution(connection, at), cause="of this host")


def test_this_host_answers_what_the_store_lacks() -> None:
    async def described(owners: Iterable[Owner]) -> Mapping[Owner, DeploymentInfo]:
        return {owner: DeploymentInfo(owner, labels={"team": "a"}) for owner in owners}

    empty, full = Reader(several=[[]]), Reader([stored(X)], several=[[stored(X)]])
    lookups = [CONNECTION.lookup]
    for reader, owner in ((empty, Y), (full, X)):
        both = FleetQueries(reader, owners_limit=4, describe=described, local=Local())
        views = [asyncio.run(both.attribution(CONNECTION, 5.0)), *asyncio.run(both.attributions(lookups, 5.0))]
        assert all(view.deployments[0].owner == owner for view in views)
        both.close()
        assert reader.closed
    assert views[0].deployments[0].labels == {"team": "a"}


class Broken(Reader):
    """A store that is away."""

    def last(self, wanted: Connection) -> StoredFlow | None:
        raise HistoryError("away", reason="connect")


LAST = [
    # what this host has, what the store has: the owner
    ([stored(Y)], Reader([stored(X)]), Y),  # it saw the connection itself
    ([stored()], Reader([stored(X)]), X),
    ([], Reader([stored(X)]), X),
    ([stored()], Reader(), None),
    ([stored(Y)], Broken(), Y),
    ([stored()], Broken(), None),
]


@pytest.mark.parametrize(("here", "reader", "owner"), LAST)
def test_the_final_attribution_of_this_host_or_of_another(
    here: list[StoredFlow], reader: Reader, owner: Owner | None
) -> None:
    local = queries(Reader(here))
    view = asyncio.run(FleetQueries(reader, owners_limit=4, local=local).last(CONNECTION))
    assert view is not None
    assert [info.owner for info in view.deployments] == ([] if owner is None else [owner])


def test_a_store_that_is_away_is_an_error_without_this_host() -> None:
    with pytest.raises(HistoryError, match="away"):
        asyncio.run(queries(Broken()).last(CONNECTION))
