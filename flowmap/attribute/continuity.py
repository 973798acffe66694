"""Continuity: while new connections of a client come from the process that had them before, its owner needs no answer.

A *line* of a client address is a process that is known to be its owner's, and has had a connection from the address
open ever since. It begins with a connection that an answer named (rule ``inside``), and continues as long as

    - every connection that began at the address since is certainly of the same network namespace, cgroup and process,
      where a process that began later with the same pid is another one;
    - at every moment one of these connections was open;
    - the address was not taken off the host, and no change of the table was lost;
    - every answer about the address names that owner alone, and nothing else was ever said of the process;
    - the owner is known to have a cluster of its own: in a session cluster a process serves one deployment after the
      other.

Everything else ends the line: a connection of another process, one whose process was not found, an instant without a
connection, an answer that names another owner, none, or several. Then answers decide again.

What the line is good for: a connection of the process that began within it belongs to the owner (rule ``continuity``),
as soon as its process is known and all connections that may be older are known to be of the line. An answer that comes
first decides as ever. And a client with a line is not asked about again just because time has passed.

Only TCP counts here: the kernel does not tell whose a datagram is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.timeline import Answer, Judgement, Lifetimes
from flowmap.attribute.decisions import CODE, Decision
from flowmap.attribute.lines import Base, ClientFlows, Line
from flowmap.attribute.owner_state import is_undecided, may_be_named
from flowmap.attribute.questions import UNREADABLE, Owners, Question, Shape, endpoint_questions
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.bursts import is_connectionless
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.address import Address
from flowmap.model.deployment import State

RULE = "continuity"
LONGEST = 540.0
"""Seconds without an answer after which a client is asked about although it has a line: less than
:data:`~flowmap.attribute.answers.intervals.BRIDGE`, so its ownership interval continues."""
LIMIT = 65_536
"""Processes, and questions, of which it is remembered what was said of them."""
MIXED: Owners = frozenset()
"""Said of a process that has not had one owner only."""

_TELLING = ("inside", "around")
"""Rules under which the answers say that a connection has no owner, if they name none."""
_UNSURE = np.uint32(Row.GUESSED | Row.PREEXISTING | Row.PICKED_UP)
_OPEN_OR_ENDED, _OPEN = np.uint32(Row.OPEN | Row.ENDED), np.uint32(Row.OPEN)

Known = list[Mapping[Question, Judgement | None]]


class Continuity:
    """The lines of all clients. Used by one thread."""

    def __init__(
        self,
        table: FlowTable,
        settings: AttributionSettings,
        cache: AnswerCache,
        decisions: Mapping[int, Decision],
    ) -> None:
        """``decisions``: by the number in the ``verdict`` column."""
        self.spared = 0
        """Clients that were not asked about again because they have a line; each time counts."""
        self.named = 0
        """Connections that got their owner from a line."""
        self._table, self._settings, self._cache = table, settings, cache
        self._decisions = decisions
        self._lines: dict[int, Line] = {}
        self._bases: dict[int, Base] = {}
        self._rows: dict[int, set[int]] = {}  # of watched clients, the rows of their flows
        self._watched = np.zeros(table.endpoints.capacity, np.bool_)
        self._touched: set[int] = set()
        self._served: OrderedDict[int, Owners] = OrderedDict()  # by process: the owner of its connections
        self._own_cluster: OrderedDict[Question, bool] = OrderedDict()
        self._lapsed = NEVER  # what was seen before this instant is not certain
        # Of connections that have left the table, by client; zeros take no memory until they are written.
        self._other_until = np.zeros(table.endpoints.capacity, np.float64)
        self._last_process = np.zeros(table.endpoints.capacity, np.uint32)
        self._last_until = np.zeros(table.endpoints.capacity, np.float64)

    def __len__(self) -> int:
        """Clients with a line."""
        return len(self._lines)

    @property
    def has_news(self) -> bool:
        """Whether :meth:`review` has something to do."""
        return bool(self._touched)

    @property
    def _is_on(self) -> bool:
        settings = self._settings
        return settings.one_deployment_per_client and settings.semantics != "dataflow" and not settings.timeless

    # What happens to flows, answers and addresses.

    def opened(self, rows: Rows) -> None:
        """Note new flows."""
        numbers = self._table.columns.client[rows]
        seen = np.flatnonzero(self._watched[numbers])
        for row, number in zip(rows[seen].tolist(), numbers[seen].tolist(), strict=True):
            self._rows[number].add(row)

    def touch(self, rows: Rows) -> None:
        """Note flows whose process is better known."""
        self._touched.update(self._of_watched(rows))

    def left(self, rows: Rows) -> None:
        """Note flows that leave the table, before their rows are used again."""
        columns = self._table.columns
        for number in self._of_watched(rows):
            flows, line = self._flows(number), self._lines.get(number)
            if line is not None:
                gone = np.isin(flows.rows, rows) & ~line.has(flows) & (flows.ended_by > line.since)
                if gone.any() or not self._extend(line, flows):
                    self._end(number)
            self._rows[number].difference_update(rows.tolist())
            self._touched.add(number)
        rows = rows[~is_connectionless(columns, rows)]
        numbers, ended = columns.client[rows], columns.ended_by[rows]
        processes = self._table.workloads.processes(columns.client_workload[rows])
        np.maximum.at(self._other_until, numbers[processes == 0], ended[processes == 0])
        certain = np.flatnonzero(processes)
        for number, process, at in zip(
            numbers[certain].tolist(), processes[certain].tolist(), ended[certain].tolist(), strict=True
        ):
            if self._last_process[number] not in (0, process):
                self._other_until[number] = max(self._other_until[number], self._last_until[number])
                self._last_until[number] = 0.0
            self._last_process[number] = process
            self._last_until[number] = max(self._last_until[number], at)

    def receive(self, question: Question, answer: Answer, own_clusters: Owners) -> None:
        """Take an answer. ``own_clusters``: its owners that have a cluster of their own."""
        if question.shape is Shape.CLIENT:
            self._own_cluster.pop(question, None)
            self._own_cluster[question] = answer.owners <= own_clusters
            while len(self._own_cluster) > LIMIT:
                self._own_cluster.popitem(last=False)

    def confirm(self, numbers: Iterable[int]) -> None:
        """Take the newest answers about these clients; the table has all that happened before they arrived."""
        for number in numbers:
            base, line = self._base(number) if self._is_on else None, self._lines.get(number)
            if line is not None and (base is None or line.base.owners != base.owners):
                self._say(line.process, MIXED)
            if base is None or (line is not None and line.base.owners != base.owners):
                self._end(number)
            if base is None:
                continue
            self._bases[number] = base
            self._touched.add(number)
            if line is not None and number in self._lines:
                line.base = base

    def decided(self, decision: Decision, rows: Rows) -> None:
        """Note what a decision says of the processes of its flows."""
        if not self._is_on or decision.inferred or is_connectionless(self._table.columns, rows).all():
            return
        told = [one for question, one in decision.outcomes.items() if question.shape is Shape.CLIENT]
        owners = frozenset(owner for one in told for owner in one.owners)
        self.named += len(rows) * any(one.rule == RULE for one in told)
        late, telling = (any(one.rule in rules for one in told) for rules in (("late",), _TELLING))
        processes = self._table.workloads.processes(self._table.columns.client_workload[rows])
        for process in np.unique(processes[processes > 0]).tolist():
            if late or len(owners) > 1 or (telling and not owners and process in self._served):
                self._say(process, MIXED)
            elif owners:
                self._say(process, owners)
        self._touched.update(self._of_watched(rows))

    def removed(self, addresses: tuple[Address, ...] | None, now: float) -> None:
        """Note addresses that were taken off the host; None: any may have been."""
        if addresses is None:
            self.lapse(now)
            return
        gone = set(addresses)
        for number in [*self._rows]:
            if self._table.endpoints.key(number).address in gone:
                self._end(number)
                self._other_until[number] = now

    def lapse(self, now: float) -> None:
        """End all lines: flows may have come and gone without being seen."""
        self._lapsed = now
        for number in [*self._lines, *self._bases]:
            self._end(number)

    def forget(self, numbers: Rows) -> None:
        """The numbers will stand for other endpoints."""
        for number in numbers.tolist():
            self._end(number)
            self._rows.pop(number, None)
            self._touched.discard(number)
        self._watched[numbers] = False
        for column in (self._other_until, self._last_process, self._last_until):
            column[numbers] = 0

    # What follows from it.

    def review(self) -> list[int]:
        """Begin lines and let them go on. Returns the clients whose flows they may name."""
        touched, self._touched = self._touched, set()
        touched = {number for number in touched if number in self._bases}
        self._watch(touched)
        for number in sorted(touched):
            flows = self._flows(number)
            line = self._lines.get(number)
            if line is None:
                line = self._begin(number, self._bases[number], flows)
            if line is not None and not self._extend(line, flows):
                self._end(number)
        return [number for number in sorted(touched) if number in self._lines]

    def name(self, rows: Rows, lifetimes: Lifetimes, of_client: npt.NDArray[np.intp], known: Known) -> None:
        """Let lines stand in for answers that flows wait for.

        ``of_client``: for each flow a position in ``known``: what the answers about its client mean for it. Both are
        changed in place.
        """
        if not self._lines:
            return
        columns = self._table.columns
        clients, processes = columns.client[rows], self._table.workloads.processes(columns.client_workload[rows])
        for number in {one for one in np.unique(clients[processes > 0]).tolist() if one in self._lines}:
            line = self._lines[number]
            if not self._extend(line, self._flows(number)):
                self._end(number)
                continue
            fits = (clients == number) & (processes == line.process) & (columns.namespace[rows] == line.namespace)
            fits &= ~lifetimes.connectionless & (columns.flags[rows] & _UNSURE == 0)
            fits &= lifetimes.born_after >= line.since
            fits &= lifetimes.born_by <= min(line.covered, line.blocked)
            for position in np.unique(of_client[fits]).tolist():
                judged = known[position]
                waits = [one for one in line.base.outcomes if one in judged and judged[one] is None]
                if waits:
                    chosen = fits & (of_client == position)
                    of_client[chosen] = len(known)
                    known.append({**judged, **{one: line.base.outcomes[one] for one in waits}})

    def spares(self, number: int, now: float) -> bool:
        """Whether a client need not be asked about now: it has a line, and no flow of it waits for an answer."""
        line = self._lines.get(number)
        if line is None or now - line.base.arrived >= LONGEST:
            return False
        flows, columns = self._flows(number), self._table.columns
        if not self._extend(line, flows):
            self._end(number)
            return False
        every = np.fromiter(self._rows[number], np.int32, len(self._rows[number]))
        young = columns.born_by[every] > now - self._settings.registration_lag
        if line.blocked < np.inf or (may_be_named(columns, every) & (is_undecided(columns, every) | young)).any():
            return False
        connected = columns.flags[flows.rows] & _OPEN_OR_ENDED == _OPEN
        goes_on = bool((connected & line.has(flows) & (flows.born_by <= line.covered)).any())
        self.spared += goes_on
        return goes_on

    # The parts.

    def _questions_about(self, number: int) -> list[Question]:
        """The questions about a client that cost calls."""
        settings, key = self._settings, self._table.endpoints.key(number)
        questions = endpoint_questions(settings.semantics, settings.charged_places, key)
        return [question for question in questions if question.shape is Shape.CLIENT]

    def _base(self, number: int) -> Base | None:
        """The newest answers, if they name one owner with a cluster of its own."""
        questions = self._questions_about(number)
        answers = {question: self._cache.newest(question) for question in questions}
        found = {question: answer for question, answer in answers.items() if answer is not None}
        owners = frozenset(owner for answer in found.values() for owner in answer.owners)
        if len(found) < len(questions) or len(owners) != 1:
            return None
        if any(owner.deployment_id == UNREADABLE for owner in owners):
            return None
        if not all(self._own_cluster.get(question, False) for question, one in found.items() if one.owners):
            return None
        timelines = [self._cache.timeline(question) for question in questions]
        if any(timeline is None or timeline.restored for timeline in timelines):
            return None
        return Base(
            {question: Judgement(answer.owners, RULE, answer) for question, answer in found.items()},
            owners,
            min(answer.asked for answer in found.values()),
            max(answer.arrived for answer in found.values()),
        )

    def _begin(self, number: int, base: Base, flows: ClientFlows) -> Line | None:
        """A line from these answers, if one process had all connections then, and its owner was named for certain.

        What began later is for :meth:`Line.extend`.
        """
        if max(self._lapsed, self._other_until[number]) >= base.asked:
            return None
        then = (flows.ended_by > base.asked) & (flows.born_after < base.arrived)
        kinds = set(zip(flows.process[then].tolist(), flows.namespace[then].tolist(), strict=True))
        if len(kinds) != 1:
            return None
        ((process, namespace),) = kinds
        other = self._last_process[number] not in (0, process) and self._last_until[number] >= base.asked
        if process == 0 or other or self._served.get(process) != base.owners:
            return None
        covers = flows.sure & (flows.born_by <= base.asked) & (flows.alive_until >= base.arrived)
        if not any(self._was_named(row, base) for row in flows.rows[covers].tolist()):
            return None
        self._lines[number] = line = Line(process, namespace, base, base.asked, base.arrived)
        return line

    def _was_named(self, row: int, base: Base) -> bool:
        """Whether an answer that was asked and came within the flow's life named its owner."""
        columns = self._table.columns
        if columns.state[row] != CODE[State.ATTRIBUTED]:
            return False
        decision = self._decisions.get(int(columns.verdict[row]))
        if decision is None or decision.owners != base.owners:
            return False
        return all(
            one.rule == "inside"
            for question, one in decision.outcomes.items()
            if question in base.outcomes and one.owners
        )

    def _extend(self, line: Line, flows: ClientFlows) -> bool:
        """Let the line go on through these connections; whether it does not end."""
        return self._served.get(line.process) == line.base.owners and line.extend(flows)

    def _flows(self, number: int) -> ClientFlows:
        table, rows = self._table, np.array(sorted(self._rows.get(number, ())), np.int32)
        columns = table.columns
        rows = rows[~is_connectionless(columns, rows)]
        return ClientFlows(
            rows,
            table.workloads.processes(columns.client_workload[rows]),
            columns.namespace[rows],
            columns.born_after[rows],
            columns.born_by[rows],
            table.alive_until(rows),
            columns.ended_by[rows],
            columns.flags[rows] & np.uint32(Row.GUESSED) == 0,
        )

    def _watch(self, numbers: Iterable[int]) -> None:
        """From now on know which rows these clients have."""
        new = [number for number in numbers if not self._watched[number]]
        if not new:
            return
        self._watched[new] = True
        self._rows.update((number, set()) for number in new)
        rows = self._table.live()
        clients = self._table.columns.client[rows]
        found = np.flatnonzero(np.isin(clients, np.array(new, np.int32)))
        for row, number in zip(rows[found].tolist(), clients[found].tolist(), strict=True):
            self._rows[number].add(row)

    def _of_watched(self, rows: Rows) -> list[int]:
        numbers = self._table.columns.client[rows]
        found: list[int] = np.unique(numbers[self._watched[numbers]]).tolist()
        return found

    def _say(self, process: int, owners: Owners) -> None:
        self._served[process] = owners if self._served.get(process, owners) == owners else MIXED
        while len(self._served) > LIMIT:
            self._served.popitem(last=False)

    def _end(self, number: int) -> None:
        self._lines.pop(number, None)
        self._bases.pop(number, None)
