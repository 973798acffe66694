"""Names from the service endpoints alone, where ``attribute.deployment_networks`` says whose the clients are.

An API that reads src and dst as data flow names no deployment for any client, only the users of a service endpoint. If
every connection from a network is a deployment's, the users of the service endpoint are the candidates. A TaskManager
of one deployment talks to several endpoints: only the deployments that use all of them remain. So the candidates of a
flow are intersected with the users of every endpoint to which its client certainly had a connection at the same time:
both were seen to send at overlapping times. An entry that a former owner of the address left behind does not count.

    an endpoint that no deployment uses      does not count: clusters have storage, name services and brokers
    no deployment uses all of them           every one of the flows is ``unknown``
    a connection begins or ends later        open flows that were decided before are narrowed further

It rests on an assumption of the operator. It fails if a job's own code opens a connection to an endpoint that only
another job declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.deciding import NOT_USERS
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import Owners, Shape, state_of
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import State

_OPEN = np.uint32(Row.OPEN)
_USERS = (Shape.SINK, Shape.SOURCE)


class Inference:
    """Narrows inferred decisions by all endpoints of a client."""

    def __init__(self, table: FlowTable, settings: AttributionSettings, decisions: Mapping[int, Decision]) -> None:
        """``decisions``: by their number in the ``verdict`` column."""
        self._table = table
        self._settings = settings
        self._decisions = decisions
        self._new: dict[int, Decision] = {}  # by row, in place of the column

    def narrow(self, decided: Sequence[tuple[Decision, Rows]]) -> Iterator[tuple[Decision, Rows]]:
        """The inferred decisions of one turn, each about flows of one client, by the endpoints used together."""
        self._new = {row: decision for decision, rows in decided for row in rows.tolist()}
        for decision, rows in decided:
            yield from self._narrow(decision, rows)
        self._new = {}
        if decided:
            yield from self._narrow_again(np.concatenate([rows for _, rows in decided]))

    def _narrow(self, decision: Decision, rows: Rows) -> Iterator[tuple[Decision, Rows]]:
        """The decision for each flow by the endpoints that the client used with it."""
        if not (decision.owners and self._settings.one_deployment_per_client):
            yield decision, rows
            return
        columns, live = self._table.columns, self._table.live()
        others = live[(columns.client[live] == columns.client[rows[0]]) & ~is_unconfirmed(columns, live)]
        theirs, ours = lifetimes_of(self._table, others), lifetimes_of(self._table, rows)
        found: dict[tuple[Owners, int], list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            together = (theirs.born_by <= ours.proven_until[place]) & (theirs.proven_until >= ours.born_by[place])
            elsewhere = others[together & (columns.service[others] != columns.service[row])]
            used = self._users(elsewhere)
            left = decision.owners.intersection(*used.values())
            found.setdefault((left, 1 + len(used)), []).append(row)
        for (left, number), some in found.items():
            yield self._narrowed(decision, left, number), np.array(some, np.int32)

    def _narrow_again(self, rows: Rows) -> Iterator[tuple[Decision, Rows]]:
        """Decisions about other open flows of the clients of ``rows``, which were just decided."""
        columns, live = self._table.columns, self._table.live()
        held = (columns.series[live] >= 0) & (columns.flags[live] & _OPEN != 0) & ~is_unconfirmed(columns, live)
        live = live[held & np.isin(columns.client[live], columns.client[rows]) & ~np.isin(live, rows)]
        pairs = np.stack((columns.client[live], columns.verdict[live]), axis=1)
        for pair in np.unique(pairs, axis=0):
            decision = self._decisions[int(pair[1])]
            if not decision.inferred:
                continue
            for narrowed, some in self._narrow(decision, live[(pairs == pair).all(axis=1)]):
                if narrowed.owners != decision.owners:
                    yield narrowed, some

    def _users(self, rows: Rows) -> Mapping[int, Owners]:
        """The deployments that use each service endpoint of these flows, by the answers that count for the flows.

        Newer answers do not: the owner may have stopped since.
        """
        found: dict[int, Owners] = {}
        columns = self._table.columns
        for row, service in zip(rows.tolist(), columns.service[rows].tolist(), strict=True):
            decision = self._new.get(row) or self._decisions.get(int(columns.verdict[row]))
            if decision is not None and decision.inferred:
                about = [one for question, one in decision.outcomes.items() if question.shape in _USERS]
                users = NO_OWNERS.union(*(one.owners for one in about))
                if users and all(one.rule not in NOT_USERS for one in about):
                    found[service] = found.get(service, users) & users
        return found

    def _narrowed(self, decision: Decision, left: Owners, number: int) -> Decision:
        if not left:
            cause = f"inferred: no deployment uses all {number} endpoints that the client had connections to"
            return replace(decision, state=State.UNKNOWN, owners=NO_OWNERS, cause=cause)
        cause = decision.cause if number == 1 else f"{decision.cause}; narrowed by {number} endpoints of the client"
        return replace(decision, state=state_of(left, self._settings.owners_limit), owners=left, cause=cause)
