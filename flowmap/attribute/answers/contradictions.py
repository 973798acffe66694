"""Contradictions: answers that deny an attribution. They are counted and listed; the attribution stays.

An address cannot move while a connection on it lives. So two kinds of answer show a fault elsewhere: one about a client
that names none of the owners of its open flows, and one that denies the inside of an ownership interval. Causes are a
control plane that reports late, a connection whose end was missed, or an earlier answer that was wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.timeline import NO_OWNERS, Answer
from flowmap.attribute.decisions import CODE, Decision
from flowmap.attribute.questions import Owners, Question
from flowmap.flows.bursts import is_connectionless
from flowmap.flows.columns import Row
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import FLINK, State
from flowmap.model.status import Contradiction

LISTED = 100
"""Contradictions that are listed, the newest of all."""

_NAMED = [CODE[State.ATTRIBUTED], CODE[State.SHARED]]
_OPEN, _OVER = np.uint32(Row.OPEN), np.uint32(Row.OPEN | Row.ENDED)


class Contradictions:
    """Counts contradictions and keeps the newest of them."""

    def __init__(self, table: FlowTable, decisions: Mapping[int, Decision], cache: AnswerCache) -> None:
        self.count = 0
        """Open flows whose owners an answer denied, plus answers that denied the inside of an interval."""
        self._table = table
        self._decisions = decisions
        self._cache = cache
        self._latest: deque[Contradiction] = deque(maxlen=LISTED)

    def latest(self) -> tuple[Contradiction, ...]:
        """The newest, the last one first."""
        return tuple(reversed(self._latest))

    def check(self, clients: Mapping[int, Sequence[Question]]) -> None:
        """Check the open flows of clients with a new answer.

        ``clients``: the ``client`` questions, one for each place, by the number of the client endpoint.
        """
        if not clients:
            return
        columns, rows = self._table.columns, self._table.live()
        marked = np.zeros(self._table.endpoints.top, np.bool_)
        marked[list(clients)] = True
        held = np.isin(columns.state[rows], _NAMED) & (columns.flags[rows] & _OVER == _OPEN)
        held &= ~is_connectionless(columns, rows)  # their kernel entries outlive the owner's use
        rows = rows[held & marked[columns.client[rows]]]
        pairs = np.stack((columns.verdict[rows], columns.client[rows]), axis=1)
        pairs, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        for (verdict, client), row, count in zip(pairs.tolist(), rows[first].tolist(), counts.tolist(), strict=True):
            owners = self._decisions[verdict].owners
            if any(owner.workspace == FLINK for owner in owners):  # they have tenures instead
                continue
            named = NO_OWNERS.union(*(self._cache.latest(question) for question in clients[client]))
            if {owner.key for owner in owners}.isdisjoint(owner.key for owner in named):
                question, answer = self._newest(clients[client])
                self.deny(question, answer._replace(owners=named), owners, flows=count, row=row)

    def deny(self, question: Question, answer: Answer, owners: Owners, *, flows: int = 0, row: int = -1) -> None:
        """Record that an answer denies ``owners``: of that many flows, one of them in ``row``, or of an interval."""
        ends = [str(end) if end.port else str(end.address) for end in (question.source, question.destination) if end]
        self.count += max(1, flows)
        client, server = self._table.columns.endpoints_of(row) if flows else (None, None)
        self._latest.append(
            Contradiction(
                answer.asked,
                answer.arrived,
                " ".join((question.shape, *ends)),
                question.namespace,
                tuple(sorted(owners)),
                tuple(sorted(answer.owners)),
                flows,
                client,
                server,
            )
        )

    def _newest(self, questions: Sequence[Question]) -> tuple[Question, Answer]:
        found = []
        for question in questions:
            timeline = self._cache.timeline(question)
            answer = timeline.latest() if timeline else None
            if answer is not None:
                found.append((question, answer))
        return max(found, key=lambda one: one[1].arrived)
