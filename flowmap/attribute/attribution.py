"""From answers to decisions: which questions to ask, and the owner of every flow once the rules of time allow it.

One turn of the engine, in this order:

    receive, fail    results of questions go to the cache, the schedule and the statistics of shapes
    decide           flows whose endpoints have new answers are judged; returns (decision, rows)
    ask              endpoints that are due become questions, as many as the call budget allows

The rules live in other modules: ``questions`` (which questions, how answers combine), ``answers/timeline`` (for which
flows an answer counts), ``calls/schedule`` (which endpoint is next), ``narrowing`` (several candidates). Nothing here
reads a clock, makes a call or touches a metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from flowmap.attribute.answers.backlog import Backlog
from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.contradictions import Contradictions
from flowmap.attribute.answers.intervals import IntervalChange, OwnershipInterval
from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.answers.shape_stats import ShapeStats
from flowmap.attribute.answers.timeline import NO_OWNERS, Answer, Judgement, Lifetimes, Timeline
from flowmap.attribute.calls.asking import Asking
from flowmap.attribute.calls.free_questions import FreeQuestions
from flowmap.attribute.calls.outage import Outage
from flowmap.attribute.calls.pending_traffic import pending_traffic
from flowmap.attribute.calls.schedule import MAX_BACKOFF, UNKNOWN_CHANGES, AnswerChanges, Schedule
from flowmap.attribute.continuity import Continuity
from flowmap.attribute.deciding import Deciding
from flowmap.attribute.decisions import CODE, Decision
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.narrowing.inference import Inference
from flowmap.attribute.narrowing.ties import Narrowing
from flowmap.attribute.owner_state import is_undecided, may_be_named
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.addresses import SpecialEndpoints
from flowmap.attribute.unproven import Unproven
from flowmap.attribute.waits import pending_for
from flowmap.flows import bursts
from flowmap.flows.columns import PENDING, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.deployment import State
from flowmap.model.status import PendingFor
from flowmap.model.tenure import Holders

GIVEN_UP_AT_ONCE = 10_000
"""Flows that are given up in one turn."""
LOOK_EVERY = 1.0
"""Seconds between two looks for flows that were seen to live, or their clients to send, after an answer."""
_OPEN, _OPEN_AND_READ = np.uint32(Row.OPEN), np.uint32(Row.OPEN | Row.READ)
_SEVERAL = (State.SHARED, State.AMBIGUOUS)


class Attribution:
    """The attribution of the flows of one table: answers, questions and decisions. Used by one thread."""

    def __init__(self, settings: AttributionSettings, table: FlowTable) -> None:
        self.settings = settings = settings.model_copy()
        self.asked: Counter[Shape] = Counter()
        """Number of questions asked, by shape."""
        self.special = SpecialEndpoints(table, settings)
        self.schedule = Schedule(self.special, table.endpoints.capacity, settings)
        self.shape_stats = ShapeStats(settings)
        self.decisions: dict[int, Decision] = {}
        """Decisions by the number in the ``verdict`` column."""
        self._next_decision = 0
        self._table, self._cache = table, AnswerCache(settings)
        self.contradictions = Contradictions(table, self.decisions, self._cache)
        self.now = NEVER
        """Instant of the last :meth:`decide`, monotonic seconds."""
        self.narrowing = Narrowing(table, self.decisions, settings, self.shape_stats, self._cache)
        self._deciding = Deciding(settings, self._cache, self.shape_stats)
        self._inference = Inference(table, settings, self.decisions)
        self._looked, self._infers = NEVER, False
        self._backlog, self._outage = Backlog(table.columns), Outage()
        self._new_answers = NewAnswers(table.endpoints.capacity)
        self._free = FreeQuestions(self.special, table.endpoints.capacity, settings, self._new_answers)
        self.continuity = Continuity(table, settings, self._cache, self.decisions)
        self._unproven = Unproven(table, self.schedule, self._decisive)
        self._asking = Asking(
            table, settings, self.special, self.schedule, self.shape_stats, self._cache, self._new_answers,
            self._deciding.forced, self.continuity,
        )  # fmt: skip

    def __len__(self) -> int:
        """Questions in the cache."""
        return len(self._cache)

    @property
    def has_news(self) -> bool:
        """Whether there are answers that no flow was judged by yet."""
        return bool(self._new_answers) or self.narrowing.has_news or self.continuity.has_news

    @property
    def has_backlog(self) -> bool:
        """Whether the last :meth:`decide` left flows for the next turn."""
        return bool(self._backlog)

    @property
    def waiting(self) -> int:
        """Endpoints and narrowing questions that were due at the last :meth:`ask` and got no call."""
        return self.schedule.waiting + self.narrowing.waiting

    @property
    def next_due(self) -> float:
        """Before this instant there is nothing to ask or decide, unless a flow begins; in the past if that is open."""
        unsettled = self.settings.flink or self._asking.has_more(now=self.now) or self.narrowing.unsettled
        return NEVER if unsettled else self.schedule.next_due

    def ask(self, *, now: float, limit: int, changes: AnswerChanges = UNKNOWN_CHANGES) -> list[Question]:
        """At most ``limit`` questions to ask now, or a few more: the questions about one endpoint stay together.

        Questions about single endpoints come first; narrowing gets the calls that are left. ``changes``: when answers
        change, where that is known.
        """
        questions = self._asking.choose(now=now, limit=limit, changes=changes)
        if len(questions) < limit and not self._asking.left:
            questions += self.narrowing.ask(now=now, limit=limit - len(questions))
        questions += self._free.ask(self._table, self.questions_about, now=now)
        self.asked.update(question.shape for question in questions)
        return questions

    def pending_traffic(self, questions: Iterable[Question]) -> dict[Question, float]:
        """See :func:`flowmap.attribute.calls.pending_traffic.pending_traffic`."""
        return pending_traffic(self.schedule.pending_traffic(self._table), self._new_answers, questions)

    def questions_about(self, number: int) -> list[Question]:
        """All questions about one endpoint; none if its address is special."""
        return self._asking.questions_about(number)

    def receive(
        self, question: Question, answer: Answer, holders: Holders | None = None, own_clusters: Owners = NO_OWNERS
    ) -> IntervalChange:
        """Take an answer. It counts once the flow table is complete up to its arrival.

        Returns its effect on the question's intervals. The data it rests on may be ``answer_age`` old. ``holders``: see
        :class:`flowmap.control.port.OwnersAnswer`. ``own_clusters``: owners that are known to have a cluster of their
        own.
        """
        if question.place.is_flink:
            self._free.receive(question, now=answer.arrived)
            return self._cache.add(question, answer, holders)
        answer = answer._replace(asked=answer.asked - self.settings.answer_age)
        self.continuity.receive(question, answer, own_clusters)
        change = self._cache.add(question, answer)
        if change.contradicted:
            self.contradictions.deny(question, answer, change.current.owners)
        self.shape_stats.receive(question, answer.owners, now=answer.arrived)
        self.narrowing.receive(question, answer.asked, now=answer.arrived)
        if self._outage.end(answer.arrived) >= MAX_BACKOFF:
            self.schedule.retry_now(answer.arrived)
        asked = np.inf if question.shape is Shape.HOST else answer.asked
        for endpoint in self._new_answers.receive(question, answer.arrived):
            self.schedule.finished(endpoint, named=bool(answer.owners), now=answer.arrived, asked=asked)
            self._asking.note_answer(endpoint, question, answer)
        return change

    def fail(self, question: Question, cause: str, *, now: float, retry_after: float | None = None) -> None:
        """Take the failure of a question, which is asked again after ``retry_after`` seconds, or after a backoff."""
        self._cache.fail(question, cause)
        if question.place.is_flink:
            return self._free.fail(question, now=now, retry_after=retry_after)
        self._outage.fail(now, cause)
        self.narrowing.receive(question, None, now=now, retry_after=retry_after)
        for endpoint in self._new_answers.close(question):
            self.schedule.finished(endpoint, named=None, now=now, retry_after=retry_after)

    def restore(self, question: Question, known: OwnershipInterval, *, now: float) -> None:
        """Start with an ownership interval from before a restart.

        It names no flow by itself: flows wait for an answer that confirms it. It serves as the witness of that answer,
        and its endpoint is not due before the interval's confirmation is. Ignored if the question has answers, or if
        the interval lies in the future.
        """
        self._cache.restore(question, known, now=now)

    def intervals(self) -> Iterator[tuple[Question, OwnershipInterval]]:
        """The newest ownership interval of every question in the cache."""
        return self._cache.intervals()

    @property
    def lookups(self) -> Counter[tuple[str, str]]:
        """See :attr:`AnswerCache.lookups`."""
        return self._cache.lookups

    def timeline(self, question: Question) -> Timeline | None:
        """The answers to a question, or None. Does not count as use: see :meth:`AnswerCache.timeline`."""
        return self._cache.timeline(question)

    def opened(self, rows: Rows) -> None:
        """Note new flows. If ``AttributionSettings.at_once`` is set, cached answers may decide them at once."""
        self.special.opened(rows)
        self.continuity.opened(rows)
        if self.settings.at_once:
            self._judge_at_once(rows)

    def _judge_at_once(self, rows: Rows) -> None:
        ends = np.unique(np.concatenate((self._table.columns.client[rows], self._table.columns.service[rows])))
        self._new_answers.judge_again(ends.tolist())

    def resumed(self, rows: Rows) -> None:
        """Note traffic of decided connectionless flows that waits for a confirmation."""
        self.special.resumed(rows)
        if self.settings.at_once:
            self._judge_at_once(rows)

    def workloads_told(self, rows: Rows) -> None:
        """Note flows whose client's workload is better known, which may tell the owner of open ``unknown`` ones."""
        self.continuity.touch(rows)
        if self.settings.flink and len(rows):
            columns = self._table.columns
            self._free.ask_again(columns.client[rows[may_be_named(columns, rows)]])

    def judge_again(self) -> None:
        """Judge pending flows at the next :meth:`decide`: a full read may have shown that clients live and send."""
        self._looked = NEVER
        self.narrowing.judge_again()

    def _look(self, now: float) -> None:
        """Judge the pending flows again that were read since the last look and have an answer inside their life."""
        columns, rows = self._table.columns, self._table.live()
        rows = rows[is_undecided(columns, rows)]
        decisive = self._decisive(rows)
        ready = self.schedule.has_inside_answer(decisive, columns.born_by[rows])
        ready &= columns.read_at[rows] >= self._looked - LOOK_EVERY
        self._new_answers.judge_again(np.unique(decisive[ready]).tolist())
        proven = self._unproven.take()
        self._backlog.add(proven, self._decisive(proven), [])
        self._looked = now
        infers = self.settings.infers_from_services and self.shape_stats.names_no_client(now=now)
        if infers and not self._infers:  # it turned out now that clients are never named
            self._new_answers.judge_again(np.unique(self._decisive(self._undecided())).tolist())
        self._infers = infers

    def pending_for(self) -> PendingFor:
        """See :func:`flowmap.attribute.waits.pending_for`."""
        by_service, outage = self.settings.services_decide, self._outage.lasts
        return pending_for(self._table, self.schedule, services_decide=by_service, outage=outage)

    def forget(self, numbers: Rows) -> None:
        """The numbers of these endpoints were freed and will stand for others."""
        self.schedule.forget(numbers)
        self._free.forget(numbers)
        self.special.forget(numbers)
        self.narrowing.forget(set(numbers.tolist()))
        self._new_answers.forget(numbers)
        self._asking.forget(numbers)
        self.continuity.forget(numbers)
        self._backlog.forget(numbers)

    def decide(self, *, now: float) -> list[tuple[Decision, Rows]]:
        """The decisions that the answers allow now, with the rows of each."""
        self.now = now
        if now - self._looked >= LOOK_EVERY:
            self._look(now)
        self._new_answers.judge_again([*self.continuity.review(), *self._inference.release(now)])
        decided = [self._record(*one) for one in self.special.decide(now)] + self._judge_endpoints(now)
        decided += [self._record(*one) for one in self.narrowing.resolve(self.lifetimes, now=now)]
        return decided + [self._record(*one) for one in self._inference.review()]

    def _judge_endpoints(self, now: float) -> list[tuple[Decision, Rows]]:
        ready = self._new_answers.take_judgeable(self._table.alive_at)
        if ready.endpoints:
            marked = np.zeros(self._table.endpoints.top, np.bool_)
            marked[ready.endpoints] = True
            columns, rows = self._table.columns, self._answerable(self._undecided())
            rows = rows[marked[columns.client[rows]] | marked[columns.service[rows]]]
            answered = np.array(ready.answered, np.int32)
            clients = answered[~self._table.endpoints.are_services(answered)]
            self._backlog.add(rows, self._decisive(rows), clients.tolist())
            self.continuity.confirm(clients.tolist())
        asked = {number: self._asking.charged_about(number) for number in self._backlog.take_clients()}
        self.contradictions.check({number: about for number, about in asked.items() if about})
        rows = self._backlog.take_rows()
        rows = rows[~self.special.holds(rows)]
        return self._decide_rows(rows, now) if len(rows) else []

    def _answerable(self, rows: Rows) -> Rows:
        """The flows whose decisive endpoint has an answer. Others cannot be decided; a flood has a million of them."""
        return rows if self.settings.at_once else rows[self._new_answers.has_answer[self._decisive(rows)]]

    def _decisive(self, rows: Rows) -> Rows:
        """The endpoint of each flow without which no answer decides it."""
        columns = self._table.columns
        return columns.service[rows] if self.settings.services_decide else columns.client[rows]

    def give_up(self, *, older_than: float, now: float) -> list[tuple[Decision, Rows]]:
        """Decide ``failed`` for flows that ended before ``older_than`` and still wait for an answer."""
        columns, rows = self._table.columns, self._table.live()
        waiting = (columns.series[rows] == PENDING) | bursts.is_unconfirmed(columns, rows)
        waiting &= columns.ended_by[rows] < older_than
        rows = rows[waiting & (columns.flags[rows] & _OPEN == 0)][:GIVEN_UP_AT_ONCE]
        causes: dict[str, list[int]] = {}
        ends, position = distinct_rows((columns.client[rows], columns.service[rows]))
        for number, pair in enumerate(ends):
            causes.setdefault(self._why_failed(pair, older_than), []).append(number)
        return [
            self._record(Decision(State.FAILED, NO_OWNERS, {}, now, cause), rows[np.isin(position, numbers)])
            for cause, numbers in causes.items()
        ]

    def shed(self, rows: Rows, *, now: float) -> tuple[Decision, Rows]:
        """Decide ``failed`` for closed flows whose rows other flows need."""
        cause = "shed: the flow table is full (collect.max_flows)"
        return self._record(Decision(State.FAILED, NO_OWNERS, {}, now, cause), rows)

    def _why_failed(self, endpoints: Iterable[int], since: float) -> str:
        """Why there are no answers about the endpoints of a flow that ended before ``since``."""
        for number in endpoints:
            for question in self.questions_about(number):
                timeline = self._cache.timeline(question)
                if timeline is not None and timeline.failure is not None:
                    return f"errors: {timeline.failure}"
        return self._outage.cause(since) or "budget: control_plane.rate allowed too few calls to ask about it in time"

    def forget_answers(self, before: float) -> None:
        """Drop answers that no flow can need; every flow that opens from now on begins after ``before``."""
        columns, born_after = self._table.columns, self._table.columns.born_after
        instant = min(before, float(self.lifetimes(self._undecided()).born_after.min(initial=np.inf)))
        rows = self._table.live()  # the next burst of these will have begun with the flow
        unread = bursts.is_connectionless(columns, rows) & (columns.flags[rows] & _OPEN_AND_READ == _OPEN)
        instant = min(instant, float(born_after[rows[unread]].min(initial=np.inf)))
        narrowing = min(before, float(born_after[self.narrowing.rows()].min(initial=np.inf)))
        if instant > NEVER or narrowing > NEVER:
            self._cache.forget_before(instant, narrowing=narrowing)

    def forget_decisions(self) -> None:
        """Drop decisions that no tracked flow has."""
        in_use = set(np.unique(self._table.columns.verdict[self._table.live()]).tolist())
        for number in self.decisions.keys() - in_use:
            del self.decisions[number]

    def _record(self, decision: Decision, rows: Rows) -> tuple[Decision, Rows]:
        columns = self._table.columns
        bursts.keep_decision(columns, rows)
        columns.state[rows] = CODE[decision.state]
        columns.verdict[rows] = self._next_decision
        self.continuity.decided(decision, rows)
        self.decisions[self._next_decision] = decision
        self._next_decision = (self._next_decision + 1) % (1 << 31)
        return decision, rows

    def _undecided(self) -> Rows:
        """Flows without a decision, and open flows that are ``unknown``: an answer may still name them."""
        rows = self._table.live()
        undecided: Rows = rows[may_be_named(self._table.columns, rows)]
        return undecided[~self.special.holds(undecided)]

    def _decide_rows(self, rows: Rows, now: float) -> list[tuple[Decision, Rows]]:
        lifetimes = self.lifetimes(rows)
        columns = self._table.columns
        undecided = is_undecided(columns, rows)  # for all at once: there can be as many groups as flows
        known: list[Mapping[Question, Judgement | None]] = [{}]
        of_client = self._cache.judge_endpoints(columns.client[rows], lifetimes, known, self.questions_about, now)
        self.continuity.name(rows, lifetimes, of_client, known)
        of_service = self._cache.judge_endpoints(columns.service[rows], lifetimes, known, self.questions_about, now)
        order = np.lexsort((of_service, of_client))
        pairs = np.stack((of_client, of_service), axis=1)[order]
        starts = np.flatnonzero((pairs[1:] != pairs[:-1]).any(axis=1)) + 1
        decided, inferred = list[tuple[Decision, Rows]](), list[tuple[Decision, Rows]]()
        for group in np.split(order, starts):
            client, service = of_client[group[0]], of_service[group[0]]
            decision = self._deciding.decide({**known[client], **known[service]}, now)
            members = rows[group]
            if decision is None or decision.state is State.UNKNOWN:
                self._unproven.note(members[~undecided[group]])
                members = members[undecided[group]]
            if decision is not None and decision.state in _SEVERAL and not decision.inferred:
                members = self._hold_tied(decision, members)
            if decision is not None and decision.inferred and len(members):
                inferred.append((decision, members))
            elif decision is not None and len(members):
                decided.append(self._record(decision, members))
        return decided + [self._record(*one) for one in self._inference.narrow(inferred)]

    def _hold_tied(self, decision: Decision, rows: Rows) -> Rows:
        """Keep flows pending whose candidates may be narrowed. Returns the others."""
        waits = self.narrowing.hold(decision, rows) & (self._table.columns.series[rows] == PENDING)
        if waits.any():
            cause = f"{len(decision.owners)} deployments are possible; asking about both endpoints together"
            self._record(replace(decision, state=State.PENDING, cause=cause), rows[waits])
        rest: Rows = rows[~waits]
        return rest

    def lifetimes(self, rows: Rows) -> Lifetimes:
        """When each flow began and ended: see :func:`lifetimes_of`."""
        return lifetimes_of(self._table, rows, local=self.settings.flink)
