"""Questions of users about the books, answered with immutable values. Runs on the writer's thread."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flowmap.attribute.answers.timeline import NO_OWNERS, Judgement
from flowmap.attribute.decisions import STATES, Decision
from flowmap.attribute.jobs import placed
from flowmap.attribute.questions import (
    CONFIDENCE,
    NAMED,
    Owners,
    Question,
    Shape,
    combine,
    connection_questions,
    state_of,
    state_of_several,
    without_idle_hosts,
)
from flowmap.attribute.report import DATA_FLOW
from flowmap.engine.accounting import FlowAccounting
from flowmap.errors import QueryError
from flowmap.flows.columns import IGNORED, Mask, Row
from flowmap.flows.hash_index import Rows
from flowmap.flows.ports import nat_ports, unpack
from flowmap.model.address import Address, Endpoint, protocol_name, protocol_number
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.views import AttributionView, Evidence, FlowFilter, FlowPage, FlowView
from flowmap.query.explain import explain
from flowmap.query.windows import within

CLOCK_SET = 0.5
"""Seconds by which the wall clock must have moved to be followed: less would only make shown times flicker."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as a user names it; port None means any."""

    source: Address
    source_port: int | None
    destination: Address
    destination_port: int | None
    protocol: int


class LiveQueries:
    """Reads the books. ``epoch`` is what to add to a monotonic instant to get seconds since the epoch."""

    def __init__(self, accounting: FlowAccounting, *, source: str, epoch: float, origin: str = "") -> None:
        """``origin``: where all answers come from, in place of what their age says."""
        self._accounting = accounting
        self._origin = origin
        self._source = source
        self._epoch = epoch

    def follow_clock(self, epoch: float) -> None:
        """Take over what to add to a monotonic instant now; it changes where the wall clock is set."""
        if abs(epoch - self._epoch) > CLOCK_SET:
            self._epoch = epoch

    def find(self, connection: Connection) -> Rows:
        """Rows of the flows that match, in either direction and on either side of NAT, the newest last."""
        return self.matching(self._accounting.table.live(), connection)

    def matching(self, rows: Rows, connection: Connection) -> Rows:
        """Those of ``rows`` that are the connection, as :meth:`find` says."""
        columns = self._accounting.table.columns
        rows = rows[(columns.protocol(rows) == np.uint64(connection.protocol)) & (columns.series[rows] != IGNORED)]
        forward = (connection.source, connection.source_port, connection.destination, connection.destination_port)
        mask = self._has_ends(rows, *forward) | self._has_ends(rows, *forward[2:], *forward[:2])
        found: Rows = rows[mask]
        newest_last: Rows = found[np.argsort(columns.born_by[found], kind="stable")]
        return newest_last

    def answer(self, connection: Connection, now: float, *, explain: bool = False) -> AttributionView | None:
        """Who owns it, as far as flowmap saw it; None if it did not. Of many that match, never just the first.

        ``explain``: with the whole chain from the connection to its owners.
        """
        rows = self.find(connection)
        if not len(rows):
            return None
        if connection.source_port is None or connection.destination_port is None:
            columns = self._accounting.table.columns
            is_open = columns.flags[rows] & np.uint32(Row.OPEN) != 0
            matching = rows[is_open] if is_open.any() else rows
            verdicts = np.unique(np.stack((columns.state[matching], columns.verdict[matching]), axis=1), axis=0)
            found = {(STATES[state], self._owners(verdict)) for state, verdict in verdicts.tolist()}
            if len(found) > 1:
                return self._differing(found, len(matching))
            rows = matching
        return self.explain(int(rows[-1]), now, chain=explain)

    def _owners(self, verdict: int) -> Owners:
        decision = self._accounting.attribution.decisions.get(verdict)
        return decision.owners if decision else NO_OWNERS

    def _differing(self, found: set[tuple[State, Owners]], flows: int) -> AttributionView:
        state, owners = state_of_several(found, self._accounting.attribution.settings.owners_limit)
        cause = f"{flows} connections match and differ in their owners; give both ports"
        return AttributionView(state, self._described(owners), (), None, cause)

    def explain(self, row: int, now: float, *, chain: bool = False) -> AttributionView:
        """What is known of the owner of one flow; with ``chain`` also how it came to be."""
        view = self._rests_on(row, now)
        if not chain:
            return view
        job_selection = view.deployments[0].job_selection if view.deployments else None
        explanation = explain(
            self._accounting, row, source=self._source, epoch=self._epoch, job_selection=job_selection
        )
        return replace(view, explanation=explanation)

    def _rests_on(self, row: int, now: float) -> AttributionView:
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
        evidence = tuple(self._rested_on(question, outcome) for question, outcome in decision.outcomes.items())
        if decision.state in _SEVERAL:  # what was asked about both ends, though it told nothing apart
            about = self._accounting.attribution.narrowing.about(row, decision)
            evidence += tuple(self._known(question, now) for question in about if question not in decision.outcomes)
        cause = _cause(decision)
        if decision.reason == State.UNKNOWN and self._accounting.attribution.shape_stats.suggests_dataflow(now=now):
            return AttributionView(decision.state, (), evidence, flow, f"{cause}; {DATA_FLOW}")
        return AttributionView(decision.state, flow.deployments, evidence, flow, cause)

    def ask(self, connection: Connection, fresh_for: float, now: float) -> tuple[AttributionView, list[Question]]:
        """What the newest answers say of a connection nobody saw, and the questions that have to be asked first."""
        attribution = self._accounting.attribution
        settings, special = attribution.settings, attribution.special
        ends = connection.source, connection.destination
        if cause := special.addresses.cause(*ends, by_client=special.by_client):
            return AttributionView(State.UNKNOWN, (), (), None, cause), []
        service = Endpoint(connection.destination, connection.destination_port or 0)
        questions = connection_questions(settings.semantics, settings.places, connection.source, service)
        answers = without_idle_hosts({question: self._fresh(question, fresh_for, now) for question in questions})
        missing = [question for question, owners in answers.items() if owners is None]
        owners = combine(settings.semantics, answers)
        evidence = tuple(self._known(question, now) for question in answers)
        if owners is None:
            errors = [one.error for one in evidence if one.error]
            state = State.FAILED if errors else State.PENDING
            return AttributionView(state, (), evidence, None, errors[0] if errors else "not asked yet"), missing
        state = state_of(owners, settings.owners_limit)
        stale = any(one.origin == "stale" for one in evidence)
        when = "said of its ends before it stopped answering" if stale else "says of its ends now"
        cause = f"flowmap does not see this connection now; this is what the control plane {when}"
        return AttributionView(state, self._described(owners), evidence, None, cause), missing

    def _fresh(self, question: Question, fresh_for: float, now: float) -> Owners | None:
        """The owners in an answer of this run that is not older than ``fresh_for`` seconds."""
        timeline = self._accounting.attribution.timeline(question)
        newest = timeline.latest() if timeline else None
        if timeline is None or newest is None or timeline.restored or now - newest.arrived > fresh_for:
            return None
        return newest.owners

    def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Flows that pass, in the order of their rows. QueryError for a filter or cursor that cannot be read."""
        columns, rows = self._accounting.table.columns, self._accounting.table.live()
        rows = rows[(columns.series[rows] != IGNORED) & (rows >= _position(cursor))]
        rows = rows[self._passes(rows, wanted)]
        page = rows[:limit].tolist()
        more = str(page[-1] + 1) if page and len(rows) > limit else None
        return FlowPage(tuple(self.flow(row) for row in page), more)

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
        )

    def describe(self, owner: Owner) -> DeploymentInfo:
        """What the control plane last said of a deployment."""
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

    def _has_ends(
        self, rows: Rows, client: Address, client_port: int | None, server: Address, server_port: int | None
    ) -> Mask:
        columns = self._accounting.table.columns
        seen = _equals(columns.client_high[rows], columns.client_low[rows], client)
        seen &= _equals(columns.server_high[rows], columns.server_low[rows], server)
        seen &= _port(columns.client_port(rows), client_port) & _port(columns.server_port(rows), server_port)
        nat = columns.flags[rows] & np.uint32(Row.TRANSLATED) != 0
        ends, (nat_client_port, nat_server_port) = columns.translated[rows], nat_ports(columns.translated_ports[rows])
        behind = nat & _equals(ends[:, 0], ends[:, 1], client) & _equals(ends[:, 2], ends[:, 3], server)
        behind &= _port(nat_client_port, client_port) & _port(nat_server_port, server_port)
        either: Mask = seen | behind
        return either

    def _passes(self, rows: Rows, wanted: FlowFilter) -> Mask:
        columns, accounting = self._accounting.table.columns, self._accounting
        passes = within(accounting, rows, wanted.since, wanted.until, self._epoch)
        if wanted.protocol is not None:
            passes &= columns.protocol(rows) == np.uint64(_protocol(wanted.protocol))
        if wanted.state is not None:
            passes &= columns.state[rows] == STATES.index(wanted.state)
        if wanted.client is not None:
            address, port = read_endpoint(wanted.client, "client")
            passes &= _equals(columns.client_high[rows], columns.client_low[rows], address)
            passes &= _port(columns.client_port(rows), port)
        if wanted.deployment is not None:
            numbers = [n for n, made in accounting.attribution.decisions.items() if _concerns(made, wanted.deployment)]
            passes &= np.isin(columns.verdict[rows], numbers)
        if wanted.peer is not None:
            services = np.unique(columns.service[rows[passes]]).tolist()
            passes &= np.isin(columns.service[rows], [n for n in services if self._is_peer(n, wanted.peer)])
        return passes

    def _is_peer(self, service: int, peer: str) -> bool:
        end = self._accounting.table.endpoints.key(service)
        return peer in (self._accounting.peer(service), str(Endpoint(end.address, end.port)), str(end.address))

    def _why_pending(self, row: int) -> str:
        columns, attribution = self._accounting.table.columns, self._accounting.attribution
        numbers = (int(columns.client[row]), int(columns.service[row]))
        known = [attribution.timeline(q) for number in numbers for q in attribution.questions_about(number)]
        if not any(timeline and timeline.answers for timeline in known):
            return "the control plane has not answered yet"
        return "no answer is known to fall into this connection's life yet; the next confirmation will tell"

    def _known(self, question: Question, now: float) -> Evidence:
        """The newest answer to a question, whether or not it counts."""
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

    def _rested_on(self, question: Question, outcome: Judgement) -> Evidence:
        asked, arrived = outcome.answer.asked + self._epoch, outcome.answer.arrived + self._epoch
        confidence = CONFIDENCE[question.shape]
        origin = self._origin or ("cached" if outcome.rule == "fast" else "live")
        owners = tuple(sorted(outcome.owners))
        return Evidence(question.shape, confidence, asked, arrived, origin, outcome.rule, owners)


_SEVERAL = (State.PENDING, State.SHARED, State.AMBIGUOUS)


def parse_address(text: str, field: str) -> Address:
    """Read an address; QueryError names ``field``."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise QueryError(f"{text!r} is not an IP address", field=field) from error


def _protocol(text: str) -> int:
    try:
        return protocol_number(text)
    except ValueError as error:
        raise QueryError(str(error), field="protocol") from error


def read_endpoint(text: str, field: str) -> tuple[Address, int | None]:
    """Address and port of ``ip``, ``ip:port`` or ``[ip]:port``; QueryError names ``field``."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and (host.endswith("]") or ":" not in host):
        return parse_address(host.strip("[]"), field), int(port)
    return parse_address(text.strip("[]"), field), None


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:
        raise QueryError("not a cursor of an earlier answer", field="cursor")
    return int(cursor)


def _equals(high: np.ndarray, low: np.ndarray, address: Address) -> Mask:
    same: Mask = (high == np.uint64(address.high)) & (low == np.uint64(address.low))
    return same


def _port(ports: np.ndarray, wanted: int | None) -> Mask:
    same: Mask = ports == np.uint64(wanted) if wanted is not None else np.ones(len(ports), np.bool_)
    return same


def _concerns(decision: Decision, deployment: str) -> bool:
    told = decision.state is not State.PENDING  # candidates of a tie are nobody's yet
    return told and any(deployment in (owner.deployment_id, owner.name) for owner in decision.owners)


def _cause(decision: Decision) -> str | None:
    if decision.cause:
        return decision.cause
    rules = {outcome.rule for outcome in decision.outcomes.values()}
    match decision.state:
        case State.UNKNOWN if "unconfirmed" in rules:
            return "no answer falls into this connection's life, and those around it do not agree or are too few"
        case State.UNKNOWN:
            return "the control plane names no deployment for both ends"
        case State.AMBIGUOUS:
            return f"{len(decision.owners)} deployments are possible, more than attribute.owners_limit"
    return None
