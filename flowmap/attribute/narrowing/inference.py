"""Names from the service endpoints alone, where ``attribute.deployment_networks`` says whose the clients are.

An API that reads src and dst as data flow names no deployment for any client, only the users of a service endpoint. If
every connection from a network is a deployment's, the users of the service endpoint are the candidates. A TaskManager
of one deployment talks to several endpoints: only the deployments that use all of them remain. So the candidates of a
flow are intersected with the users of every endpoint to which its client certainly had a connection at the same time:
both were seen to send at overlapping times. An entry that a former owner of the address left behind does not count.

    an endpoint that no deployment uses      does not count: clusters have storage, name services and brokers
    no deployment uses all of them           every one of the flows is ``unknown``
    an overlap may be proven soon            a new flow stays pending for at most ``PROOF_WAIT``
    an overlap is proven later               open flows that were decided before are narrowed further

It rests on an assumption of the operator. It fails if a job's own code opens a connection to an endpoint that only
another job declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.deciding import INFERRED, NOT_USERS
from flowmap.attribute.decisions import CODE, Decision
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.narrowing.overlaps import Connections, Unproven, may_send
from flowmap.attribute.questions import Owners, Shape, state_of
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.deployment import State

PROOF_WAIT = 6.0
"""Seconds after its start for which a flow stays pending if an overlap may be proven that would change its owners.

Two full reads prove it, 2 s apart. An entry that a former owner left behind never proves anything: hence the limit."""
REVIEWED_AT_ONCE = 2000
"""Decided flows that are narrowed again in one turn."""
_OPEN = np.uint32(Row.OPEN)
_USERS = (Shape.SINK, Shape.SOURCE)
_UNNAMED = (CODE[State.PENDING], CODE[State.UNKNOWN])
_NO_ROWS = np.zeros(0, np.int32)

_Decided = Sequence[tuple[Decision, Rows]]


class Inference:
    """Narrows inferred decisions by all endpoints of a client."""

    def __init__(self, table: FlowTable, settings: AttributionSettings, decisions: Mapping[int, Decision]) -> None:
        """``decisions``: by their number in the ``verdict`` column."""
        self._table = table
        self._settings = settings
        self._decisions = decisions
        self._new: dict[int, Decision] = {}  # by row, in place of the column
        self._held: dict[int, tuple[float, Decision]] = {}  # by row: its birth, and the decision that waits for proof
        self._releases: list[tuple[float, int]] = []  # a heap: when the wait of a row ends
        self._unproven = Unproven(table)
        self._queue = _NO_ROWS  # decided rows to narrow again, in the order of their coming

    def narrow(self, decided: _Decided) -> Iterator[tuple[Decision, Rows]]:
        """The inferred decisions of one turn by the endpoints that each client used together.

        ``decided``: each about flows between one client and one service endpoint. Flows for which an overlap may be
        proven soon are left out. They are to be judged again after every full read, and when :meth:`release` says so.
        """
        if not self._settings.one_deployment_per_client:
            yield from decided
            return
        decided = [*self._without_refuted(decided)]
        self._new = {row: decision for decision, rows in decided for row in rows.tolist()}
        new_users = [
            rows for decision, rows in decided if decision.owners and not self._held.keys() >= {*rows.tolist()}
        ]
        for narrowed, rows in self._narrow_clients(decided, holds=True):
            for row in rows.tolist():
                self._held.pop(row, None)
            yield narrowed, rows
        self._new = {}
        if new_users:
            self._review_later(self._table.columns.client[np.concatenate(new_users)])

    def _without_refuted(self, decided: _Decided) -> Iterator[tuple[Decision, Rows]]:
        """The decisions without owners that other connections of the client ruled out for a flow: also after those have
        ended, only an owner that was not named then can be its own."""
        columns = self._table.columns
        for decision, rows in decided:
            for (verdict,), some in _groups((columns.verdict[rows],), rows):
                before = self._decisions.get(verdict)
                if before is None or before.owners or not (refuted := _users(before) & decision.owners):
                    yield decision, some
                elif left := decision.owners - refuted:
                    yield replace(decision, state=state_of(left, self._settings.owners_limit), owners=left), some

    def release(self, now: float) -> list[int]:
        """The clients of flows that have waited for a proof as long as they may. Their flows are to be judged."""
        released = set[int]()
        while self._releases and self._releases[0][0] <= now:
            released.add(heappop(self._releases)[1])
        some = [row for row in released if self._held_decision(row) is not None]
        for row in released:
            self._held.pop(row, None)
        clients: list[int] = np.unique(self._table.columns.client[some]).tolist()
        return clients

    def review(self) -> Iterator[tuple[Decision, Rows]]:
        """Decisions about open flows that were decided before, by the overlaps and users that are known since."""
        clients = self._unproven.take_clients()
        if len(clients):
            self._review_later(clients)
        rows, self._queue = self._queue[:REVIEWED_AT_ONCE], self._queue[REVIEWED_AT_ONCE:]
        rows, columns = rows[self._is_credited(rows)], self._table.columns
        pairs = _groups((columns.client[rows], columns.verdict[rows]), rows)
        decided = [(self._decisions[verdict], some) for (_, verdict), some in pairs]
        decided = [(decision, some) for decision, some in decided if decision.inferred and decision.owners]
        before = {row: decision.owners for decision, some in decided for row in some.tolist()}
        for narrowed, some in self._narrow_clients(decided, holds=False):
            if narrowed.owners != before[int(some[0])]:
                yield narrowed, some

    def _review_later(self, clients: Rows) -> None:
        columns, live = self._table.columns, self._table.live()
        live = live[np.isin(columns.client[live], clients)]
        live = live[self._is_credited(live) & ~np.isin(live, self._queue)]
        self._queue = np.concatenate((self._queue, live))

    def _is_credited(self, rows: Rows) -> Mask:
        """Whether each flow is open and credited to a series."""
        columns = self._table.columns
        credited: Mask = (columns.series[rows] >= 0) & (columns.flags[rows] & _OPEN != 0)
        return credited & ~is_unconfirmed(columns, rows)

    def _narrow_clients(self, decided: _Decided, *, holds: bool) -> Iterator[tuple[Decision, Rows]]:
        columns, live = self._table.columns, self._table.live()
        by_client: dict[int, list[tuple[Decision, Rows]]] = {}
        for decision, rows in decided:
            by_client.setdefault(int(columns.client[rows[0]]), []).append((decision, rows))
        live = live[np.isin(columns.client[live], [*by_client]) & ~is_unconfirmed(columns, live)]
        of_client = {client: rows for (client,), rows in _groups((columns.client[live],), live)}
        undecided = np.zeros(len(columns.flags), np.bool_)
        undecided[[*self._new, *self._held]] = True
        for client, parts in by_client.items():
            rows = of_client.get(client, _NO_ROWS)
            yield from self._narrow(parts, self._connections(rows, undecided[rows]), holds=holds)

    def _narrow(
        self, decided: _Decided, connections: Sequence[Connections], *, holds: bool
    ) -> Iterator[tuple[Decision, Rows]]:
        """The decisions about flows of one client, by its ``connections``."""
        for decision, rows in decided:
            service = int(self._table.columns.service[rows[0]])
            others = [one for one in connections if one.service != service] if decision.owners else []
            life = lifetimes_of(self._table, rows)
            overlaps = np.array([one.overlap(life) for one in others], np.bool_).reshape(len(others), len(rows))
            found: dict[tuple[Owners, int], list[Rows]] = {}
            for pattern, some in _patterns(overlaps, rows):
                used = [one for one, is_used in zip(others, pattern, strict=True) if is_used]
                left = decision.owners.intersection(*(one.users for one in used))
                doubtful = [
                    one for one, is_used in zip(others, pattern, strict=True) if not is_used and left - one.users
                ]
                rest = self._wait(decision, some, doubtful, holds=holds)
                if len(rest):
                    found.setdefault((left, 1 + len({one.service for one in used})), []).append(rest)
            for (left, number), members in found.items():
                yield self._narrowed(decision, left, number), np.concatenate(members)

    def _wait(self, decision: Decision, rows: Rows, doubtful: Sequence[Connections], *, holds: bool) -> Rows:
        """Note which connections may still be proven to overlap the flows. Returns the flows that need not wait."""
        others = np.concatenate([_NO_ROWS, *(one.open_rows for one in doubtful)])
        open_ = may_send(self._table, rows)
        if not len(others) or not open_.any():
            return rows
        self._unproven.add(rows[open_], others)
        waits = open_ & holds & (self._table.columns.born_by[rows] + PROOF_WAIT > decision.decided_at)
        for row, born in zip(rows[waits].tolist(), self._table.columns.born_by[rows[waits]].tolist(), strict=True):
            if self._held_decision(row) is None:
                heappush(self._releases, (born + PROOF_WAIT, row))
            self._held[row] = born, decision
        rest: Rows = rows[~waits]
        return rest

    def _held_decision(self, row: int) -> Decision | None:
        """The decision that waits for proof; None if there is none, or the row is another flow's or decided by now."""
        born, decision = self._held.get(row, (NEVER, None))
        columns = self._table.columns
        return decision if columns.born_by[row] == born and columns.state[row] in _UNNAMED else None

    def _connections(self, rows: Rows, undecided: Mask) -> list[Connections]:
        """The connections of one client to endpoints that deployments use.

        ``undecided``: which may have a decision that is not recorded.
        """
        columns, places = self._table.columns, np.arange(len(rows), dtype=np.int32)
        found: dict[tuple[int, Owners], list[Rows]] = {}
        decided = rows[~undecided]
        for (service, verdict), some in _groups(
            (columns.service[decided], columns.verdict[decided]), places[~undecided]
        ):
            found.setdefault((service, _users(self._decisions.get(verdict))), []).append(some)
        for place in np.flatnonzero(undecided).tolist():
            row = int(rows[place])
            decision = self._new.get(row) or self._held_decision(row) or self._decisions.get(int(columns.verdict[row]))
            found.setdefault((int(columns.service[row]), _users(decision)), []).append(places[place : place + 1])
        life, open_ = lifetimes_of(self._table, rows), may_send(self._table, rows)
        connections = list[Connections]()
        for (service, users), parts in found.items():
            if users:
                some = np.concatenate(parts)
                born, proven = life.born_by[some], life.proven_until[some]
                connections.append(Connections.of(service, users, born, proven, rows[some[open_[some]]]))
        return connections

    def _narrowed(self, decision: Decision, left: Owners, number: int) -> Decision:
        if left == decision.owners and number == 1:
            return decision
        if not left:
            cause = f"inferred: no deployment uses all {number} endpoints that the client had connections to"
            return replace(decision, state=State.UNKNOWN, owners=NO_OWNERS, cause=cause)
        cause = f"{INFERRED}; narrowed by {number} endpoints of the client"
        return replace(decision, state=state_of(left, self._settings.owners_limit), owners=left, cause=cause)


def _users(decision: Decision | None) -> Owners:
    """The deployments that use the service endpoint of a decision's flows, by the answers that count for the flows.

    Newer answers do not: the owner may have stopped since.
    """
    if decision is None or not decision.inferred:
        return NO_OWNERS
    about = [one for question, one in decision.outcomes.items() if question.shape in _USERS]
    return NO_OWNERS if any(one.rule in NOT_USERS for one in about) else NO_OWNERS.union(*(one.owners for one in about))


def _groups(keys: Sequence[Rows], rows: Rows) -> Iterator[tuple[tuple[int, ...], Rows]]:
    """The ``rows`` that have the same keys, together."""
    distinct, position = distinct_rows(keys)
    parts = np.split(rows[np.argsort(position, kind="stable")], np.cumsum(np.bincount(position))[:-1])
    return zip(distinct, parts, strict=False)  # without rows there is one part, an empty one


def _patterns(facts: npt.NDArray[np.bool_], rows: Rows) -> Iterator[tuple[list[bool], Rows]]:
    """The rows whose columns of ``facts`` are the same, together with that column."""
    found: dict[bytes, list[int]] = {}
    for place, packed in enumerate(np.packbits(facts, axis=0).T):
        found.setdefault(packed.tobytes(), []).append(place)
    for places in found.values():
        yield facts[:, places[0]].tolist(), rows[places]
