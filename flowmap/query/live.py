"""Answers to questions of users, from the accounting, as immutable values. Runs on the engine's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flowmap.attribute.answers.timeline import NO_OWNERS, Judgement
from flowmap.attribute.continuity import RULE as CONTINUITY
from flowmap.attribute.decisions import STATES, Decision
from flowmap.attribute.jobs import placed
from flowmap.attribute.questions import (
    CONFIDENCE,
    NAMED,
    Owners,
    Question,
    Shape,
    combine,
    combine_client,
    connection_questions,
    state_of,
    state_of_several,
    without_idle_hosts,
)
from flowmap.attribute.report import DATA_FLOW
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.errors import QueryError
from flowmap.flows.columns import IGNORED, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import unpack
from flowmap.model.address import protocol_name
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.views import (
    AttributionView,
    Connection,
    Evidence,
    FlowChanges,
    FlowFilter,
    FlowPage,
    FlowView,
    Lookup,
    PeerSeen,
)
from flowmap.query.explain import explain
from flowmap.query.following import NO_MARKS, Marks, changes
from flowmap.query.matching import in_namespaces, of_connection, of_lookups, passing
from flowmap.query.windows import peers_of, rows_at

NEEDS_SERVER = "attribute.semantics is dataflow, which names deployments by the server endpoint; give it too"
"""Why the address of a client alone names no deployment."""
CLOCK_SET = 0.5
"""Seconds by which the wall clock must differ before it is followed. Less would make shown times flicker."""


class LiveQueries:
    """Answers from the accounting. ``epoch`` is added to a monotonic instant for seconds since the epoch."""

    def __init__(self, accounting: FlowAccounting, *, source: str, epoch: float, origin: str = "") -> None:
        """``origin``: replaces the origin of every answer, which otherwise depends on its age."""
        self._accounting = accounting
        self._origin = origin
        self._source = source
        self._epoch = epoch

    @property
    def settings(self) -> AttributionSettings:
        """The attribution settings in force."""
        return self._accounting.attribution.settings

    @property
    def accounting(self) -> FlowAccounting:
        """The accounting, for other questions on the engine's thread."""
        return self._accounting

    @property
    def epoch(self) -> float:
        """What is added to a monotonic instant for seconds since the epoch."""
        return self._epoch

    def follow_clock(self, epoch: float) -> None:
        """Apply the current ``epoch``, which changes when the wall clock is set."""
        if abs(epoch - self._epoch) > CLOCK_SET:
            self._epoch = epoch

    def find(self, connection: Connection) -> Rows:
        """Rows of the flows that match, in either direction and before or after NAT, the newest last."""
        return self.matching(self._accounting.table.live(), connection)

    def matching(self, rows: Rows, connection: Connection) -> Rows:
        """Those of ``rows`` that match, as for :meth:`find`."""
        return of_connection(self._accounting.table, rows, connection)

    def at(self, connection: Connection, at: float, now: float) -> list[AttributionView]:
        """The tracked flows that match and may have been open at a time: one for each different decision."""
        rows = rows_at(self._accounting, self.find(connection), at - self._epoch)
        return [self.explain(row, now) for row in rows]

    def at_several(self, lookups: Sequence[Lookup], at: float, now: float) -> list[list[AttributionView]]:
        """As :meth:`at`, for many connections that may be known in part."""
        matching = of_lookups(self._accounting.table, self._accounting.table.live(), lookups)
        chosen = [rows_at(self._accounting, rows, at - self._epoch) for rows in matching]
        return [[self.explain(row, now) for row in rows] for rows in chosen]

    def peers(self, deployment: str | None, since: float, until: float, now: float) -> list[PeerSeen]:
        """Peers in the tracked flows that were open in a window of time; of a deployment (id or name), None: of all."""
        return peers_of(self._accounting, deployment, since, until, epoch=self._epoch, now=now)

    def answer(self, connection: Connection, now: float, *, explain: bool = False) -> AttributionView | None:
        """The owners of a connection; None if no tracked flow matches. All flows that match count, not only the first.

        ``explain``: with the explanation.
        """
        return self._of_matches(connection.lookup, self.find(connection), now, explain=explain)

    def answers(self, lookups: Sequence[Lookup], now: float) -> list[AttributionView | None]:
        """As :meth:`answer`, for many connections that may be known in part."""
        table = self._accounting.table
        found = zip(lookups, of_lookups(table, table.live(), lookups), strict=True)
        return [self._of_matches(lookup, matching, now) for lookup, matching in found]

    def _of_matches(self, lookup: Lookup, rows: Rows, now: float, *, explain: bool = False) -> AttributionView | None:
        if not len(rows):
            return None
        columns = self._accounting.table.columns
        is_open = columns.flags[rows] & np.uint32(Row.OPEN) != 0
        matching = rows[is_open] if is_open.any() else rows
        if len(spaces := np.unique(columns.namespace[matching])) > 1:
            return self._differing(matching, in_namespaces(map(self._accounting.table.namespaces.get, spaces.tolist())))
        if not lookup.is_exact and len(self._verdicts(matching)) > 1:
            return self._differing(matching, "and differ in their owners; give both ports")
        return self.explain(int(matching[-1]), now, chain=explain)

    def _verdicts(self, rows: Rows) -> set[tuple[State, Owners]]:
        """The different states and owners of the rows."""
        columns = self._accounting.table.columns
        verdicts = np.unique(np.stack((columns.state[rows], columns.verdict[rows]), axis=1), axis=0)
        return {(STATES[state], self._owners(verdict)) for state, verdict in verdicts.tolist()}

    def _owners(self, verdict: int) -> Owners:
        decision = self._accounting.attribution.decisions.get(verdict)
        return decision.owners if decision else NO_OWNERS

    def _differing(self, rows: Rows, how: str) -> AttributionView:
        """What can be said of several connections; ``how`` they differ."""
        limit = self._accounting.attribution.settings.owners_limit
        state, owners = state_of_several(self._verdicts(rows), limit)
        cause = f"{len(rows)} connections match {how}"
        return AttributionView(state, self._described(owners), (), None, cause, matches=len(rows))

    def explain(self, row: int, now: float, *, chain: bool = False) -> AttributionView:
        """The owners of one flow with the evidence; with ``chain`` also the explanation."""
        view = self._attribution(row, now)
        if not chain:
            return view
        job_selection = view.deployments[0].job_selection if view.deployments else None
        explanation = explain(
            self._accounting, row, source=self._source, epoch=self._epoch, job_selection=job_selection
        )
        return replace(view, explanation=explanation)

    def _attribution(self, row: int, now: float) -> AttributionView:
        columns = self._accounting.table.columns
        decision = self._accounting.attribution.decisions.get(int(columns.verdict[row]))
        flow = self.flow(row)
        if decision is None:
            numbers = (int(columns.client[row]), int(columns.service[row]))
            about = [q for number in numbers for q in self._accounting.attribution.questions_about(number)]
            questions = [question for question in about if question.shape is not Shape.HOST]
            evidence = tuple(self._known(question, now) for question in questions)
            errors = [one.error for one in evidence if one.error]
            waiting = f"waiting for the control plane: {errors[0]}" if errors else self._why_pending(row)
            return AttributionView(State.PENDING, (), evidence, flow, waiting)
        evidence = tuple(self._decisive(question, outcome) for question, outcome in decision.outcomes.items())
        if decision.state in _SEVERAL:  # questions about both endpoints that did not narrow the candidates
            about = self._accounting.attribution.narrowing.about(row, decision)
            evidence += tuple(self._known(question, now) for question in about if question not in decision.outcomes)
        cause = _cause(decision)
        if decision.reason == State.UNKNOWN and self._accounting.attribution.shape_stats.suggests_dataflow(now=now):
            return AttributionView(decision.state, (), evidence, flow, f"{cause}; {DATA_FLOW}")
        return AttributionView(decision.state, flow.deployments, evidence, flow, cause)

    def ask(self, lookup: Lookup, now: float, *, stale_for: float = 0.0) -> tuple[AttributionView, list[Question]]:
        """The owners of a connection that was not observed, by the newest answers; and the questions without an answer.

        Without a server endpoint they are the candidates by the client's address alone. Answers count up to an age of
        ``attribute.positive_ttl``, or of ``stale_for`` seconds if that is longer.
        """
        attribution = self._accounting.attribution
        settings, special = attribution.settings, attribution.special
        client, server = lookup.client.address, None if lookup.server is None else lookup.server.address
        if cause := special.addresses.cause(client, server, by_client=special.by_client):
            return AttributionView(State.UNKNOWN, (), (), None, cause), []
        questions = connection_questions(settings.semantics, settings.places, lookup.client.address, lookup.service)
        if not questions:
            return AttributionView(State.UNKNOWN, (), (), None, NEEDS_SERVER), []
        fresh_for = max(settings.positive_ttl, stale_for)
        answers = without_idle_hosts({question: self._fresh(question, fresh_for, now) for question in questions})
        missing = [question for question, owners in answers.items() if owners is None]
        owners = combine_client(answers) if server is None else combine(settings.semantics, answers)
        evidence = tuple(self._known(question, now) for question in answers)
        if owners is None:
            errors = [one.error for one in evidence if one.error]
            state = State.FAILED if errors else State.PENDING
            return AttributionView(state, (), evidence, None, errors[0] if errors else "not asked yet"), missing
        state = state_of(owners, settings.owners_limit)
        stale = any(one.origin == "stale" for one in evidence)
        when = "last answered about" if stale else "answers about"
        about = f"{when} {'its client address' if server is None else 'its endpoints'}{'' if stale else ' now'}"
        cause = f"flowmap does not see this connection now; this is what the control plane {about}"
        return AttributionView(state, self._described(owners), evidence, None, cause), missing

    def _fresh(self, question: Question, fresh_for: float, now: float) -> Owners | None:
        """The owners in an answer of this run that is not older than ``fresh_for`` seconds."""
        timeline = self._accounting.attribution.timeline(question)
        newest = timeline.latest() if timeline else None
        if timeline is None or newest is None or timeline.restored or now - newest.arrived > fresh_for:
            return None
        return newest.owners

    def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Flows that pass, in the order of their rows. QueryError for an invalid cursor."""
        columns, rows = self._accounting.table.columns, self._accounting.table.live()
        rows = rows[(columns.series[rows] != IGNORED) & (rows >= _position(cursor))]
        rows = passing(self._accounting, rows, wanted, self._epoch)
        page = rows[:limit].tolist()
        more = str(page[-1] + 1) if page and len(rows) > limit else None
        return FlowPage(tuple(self.flow(row) for row in page), more)

    def changes(self, wanted: FlowFilter, limit: int, before: object) -> FlowChanges:
        """The flows that pass and changed since ``before``, the marks of an earlier call; None: all, the newest."""
        columns, rows = self._accounting.table.columns, self._accounting.table.live()
        rows = passing(self._accounting, rows[columns.series[rows] != IGNORED], wanted, self._epoch)
        return changes(columns, rows, limit, before if isinstance(before, Marks) else NO_MARKS, self.flow)

    def flow(self, row: int) -> FlowView:
        """One flow."""
        columns = self._accounting.table.columns
        flags, (client, server) = int(columns.flags[row]), columns.endpoints_of(row)
        ended = flags & (Row.ENDED | Row.OPEN) != Row.OPEN
        state = STATES[int(columns.state[row])]
        decision = self._accounting.attribution.decisions.get(int(columns.verdict[row]))
        total = columns.total(np.array([row], np.int32))[0].tolist()
        return FlowView(
            protocol=protocol_name(unpack(int(columns.ports[row])).protocol),
            client=client,
            server=server,
            translated=columns.translated_endpoints_of(row) if flags & Row.TRANSLATED else None,
            started_at=None if flags & (Row.PREEXISTING | Row.PICKED_UP) else float(columns.born_by[row]) + self._epoch,
            ended_at=float(columns.ended_by[row]) + self._epoch if ended else None,
            transmit_bytes=total[0],
            receive_bytes=total[1],
            transmit_packets=total[2],
            receive_packets=total[3],
            state=state,
            deployments=self._placed(decision.owners, row) if decision and state in NAMED else (),
            guessed=bool(flags & Row.GUESSED),
            source=self._source,
            local=self._accounting.table.workloads.local(columns, row),
            namespace=self._accounting.table.namespaces.get(int(columns.namespace[row])),
        )

    def describe(self, owner: Owner) -> DeploymentInfo:
        """The newest description of a deployment by the control plane."""
        return self._accounting.describe(owner)

    def _placed(self, owners: Owners, row: int) -> tuple[DeploymentInfo, ...]:
        """The owners of a flow, with the jobs that ran when it began."""
        columns = self._accounting.table.columns
        known = not int(columns.flags[row]) & Row.PREEXISTING
        after = float(columns.born_after[row]) + self._epoch if known else -np.inf
        by = float(columns.born_by[row]) + self._epoch
        return tuple(placed(info, after, by) for info in self._described(owners))

    def _described(self, owners: Owners) -> tuple[DeploymentInfo, ...]:
        return tuple(self.describe(owner) for owner in sorted(owners))

    def _why_pending(self, row: int) -> str:
        columns, attribution = self._accounting.table.columns, self._accounting.attribution
        numbers = (int(columns.client[row]), int(columns.service[row]))
        known = [attribution.timeline(q) for number in numbers for q in attribution.questions_about(number)]
        if not any(timeline and timeline.answers for timeline in known):
            return "the control plane has not answered yet"
        return "no API answer covers this connection yet; it will be asked about again"

    def _known(self, question: Question, now: float) -> Evidence:
        """The newest answer to a question, also if it does not count for the flow."""
        timeline = self._accounting.attribution.timeline(question)
        newest = timeline.latest() if timeline else None
        failure = timeline.failure if timeline else None
        confidence = CONFIDENCE[question.shape]
        if newest is None:
            return Evidence(question.shape, confidence, None, None, "none", error=failure)
        age = now - newest.arrived
        stale = age >= self._accounting.attribution.settings.positive_ttl
        origin = "stale" if stale else "live" if age < 1 else "cached"
        if timeline is not None and timeline.restored:
            origin = "history"
        origin = self._origin or origin
        asked, arrived = newest.asked + self._epoch, newest.arrived + self._epoch
        owners = tuple(sorted(newest.owners))
        return Evidence(question.shape, confidence, asked, arrived, origin, owners=owners, error=failure)

    def _decisive(self, question: Question, outcome: Judgement) -> Evidence:
        asked, arrived = outcome.answer.asked + self._epoch, outcome.answer.arrived + self._epoch
        confidence = CONFIDENCE[question.shape]
        origin = self._origin or {"fast": "cached", CONTINUITY: CONTINUITY}.get(outcome.rule, "live")
        owners = tuple(sorted(outcome.owners))
        return Evidence(question.shape, confidence, asked, arrived, origin, outcome.rule, owners)


_SEVERAL = (State.PENDING, State.SHARED, State.AMBIGUOUS)


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:
        raise QueryError("not a cursor of an earlier answer", field="cursor")
    return int(cursor)


def _cause(decision: Decision) -> str | None:
    if decision.cause:
        return decision.cause
    rules = {outcome.rule for outcome in decision.outcomes.values()}
    match decision.state:
        case State.UNKNOWN if "unconfirmed" in rules:
            return "no answer covers this connection: those before and after it differ, or there are too few"
        case State.UNKNOWN:
            return "the control plane names no deployment for both endpoints"
        case State.AMBIGUOUS:
            return f"{len(decision.owners)} deployments are possible, more than attribute.owners_limit"
    return None
