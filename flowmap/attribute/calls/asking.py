"""The questions to ask next: those about the endpoints that the schedule chooses, with exceptions either way."""

from __future__ import annotations

from collections.abc import Sequence

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.answers.shape_stats import ShapeStats
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.schedule import UNKNOWN_CHANGES, AnswerChanges, Schedule
from flowmap.attribute.continuity import Continuity
from flowmap.attribute.questions import Question, Shape, endpoint_questions
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.addresses import SpecialEndpoints
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import NEVER, FlowTable

PROBES = 8
"""Service endpoints of unowned clients that are asked about in one ``ShapeStats.pause`` while no client is ever named.
Their answers show whether the API reads src and dst as data flow."""


class Asking:
    """Chooses questions about single endpoints. Times are monotonic seconds."""

    def __init__(
        self,
        table: FlowTable,
        settings: AttributionSettings,
        special: SpecialEndpoints,
        schedule: Schedule,
        shape_stats: ShapeStats,
        cache: AnswerCache,
        new_answers: NewAnswers,
        forced: set[Question],
        continuity: Continuity,
    ) -> None:
        """``forced``: questions of resting shapes that a decision needs."""
        self.left = False
        """Whether endpoints that were due at the last :meth:`choose` got no call."""
        self._table = table
        self._settings = settings
        self._special = special
        self._schedule = schedule
        self._shape_stats = shape_stats
        self._cache = cache
        self._new_answers = new_answers
        self._forced = forced
        self._continuity = continuity
        self._unguarded: set[int] = set()  # service endpoints with a ``source`` answer newer than that about the host
        self._probe_at = NEVER

    def choose(self, *, now: float, limit: int, changes: AnswerChanges = UNKNOWN_CHANGES) -> list[Question]:
        """At most ``limit`` questions, or a few more: the questions about one endpoint stay together."""
        questions = self._ask_about_hosts(limit)
        infers = self._settings.infers_from_services and self._shape_stats.names_no_client(now=now)
        self._schedule.services_of_unowned = infers
        chosen = self._schedule.choose(self._table, now=now, limit=limit - len(questions), changes=changes)
        for number in chosen or self._probes(now, limit):
            questions += self._ask_about(number, now)
        self.left = self._schedule.waiting > len(chosen)
        return questions

    def has_more(self, *, now: float) -> bool:
        """Whether there may be something to ask besides what the schedule says."""
        return bool(self._unguarded) or self._probing(now)

    def note_answer(self, endpoint: int, question: Question, answer: Answer) -> None:
        """Note an answer about the endpoint."""
        self._mark_unowned(endpoint, self.charged_about(endpoint))
        if question.shape is Shape.SOURCE and answer.owners and not self._cache.is_guarded(question, answer):
            self._unguarded.add(endpoint)

    def forget(self, numbers: Rows) -> None:
        """The numbers of these endpoints will stand for others."""
        self._forced.clear()
        self._unguarded.difference_update(numbers.tolist())

    def questions_about(self, number: int) -> list[Question]:
        """All questions about one endpoint; none if its address is special."""
        if self._special.is_special(number):
            return []
        return endpoint_questions(self._settings.semantics, self._settings.places, self._table.endpoints.key(number))

    def charged_about(self, number: int) -> list[Question]:
        """The questions about one endpoint that cost calls."""
        return [question for question in self.questions_about(number) if not question.place.is_flink]

    def _ask_about(self, number: int, now: float) -> list[Question]:
        if self._continuity.spares(number, now):
            self._schedule.postpone(number, now + self._settings.positive_ttl)
            return []
        about = self.charged_about(number)
        worth = [one for one in about if one.shape is not Shape.HOST and self._worth_asking(one, now)]
        worth += self._hosts(about)
        if not worth:
            self._schedule.postpone(number, now + self._settings.negative_ttl)
            self._mark_unowned(number, about)
            return []
        return self._start(number, worth)

    def _start(self, number: int, worth: Sequence[Question]) -> list[Question]:
        """Ask these questions about an endpoint; returns those that are not under way."""
        self._schedule.started(number, len(worth))
        new = [question for question in worth if not self._new_answers.is_asked(question)]
        for question in worth:
            self._new_answers.expect(question, number)
        self._forced.difference_update(worth)
        return new

    def _hosts(self, about: Sequence[Question]) -> list[Question]:
        """The ``host`` questions that matter: where the newest ``source`` answer names a deployment."""
        named = {one.place for one in about if one.shape is Shape.SOURCE and self._cache.latest(one)}
        return [question for question in about if question.shape is Shape.HOST and question.place in named]

    def _ask_about_hosts(self, limit: int) -> list[Question]:
        """The ``host`` questions about services for which a ``source`` answer named a deployment just now."""
        questions: list[Question] = []
        for number in sorted(self._unguarded):
            if len(questions) < limit and not self._schedule.is_asking(number):
                self._unguarded.discard(number)
                about = self.charged_about(number)
                answers = {one.place: self._cache.newest(one) for one in about if one.shape is Shape.SOURCE}
                hosts = [host for host in self._hosts(about) if not self._cache.is_guarded(host, answers[host.place])]
                questions += self._start(number, hosts) if hosts else []
        return questions

    def _mark_unowned(self, endpoint: int, about: Sequence[Question]) -> None:
        """Note whether a client has no owner; ``about``: the questions about the endpoint."""
        if about and about[0].shape is Shape.CLIENT:
            self._schedule.mark_unowned(endpoint, self._cache.names_no_owner(about))

    def _worth_asking(self, question: Question, now: float) -> bool:
        """Whether the question should be asked: one of a resting shape is repeated after a longer pause only."""
        if question in self._forced or not self._shape_stats.never_names(question.shape, now=now):
            return True
        newest = self._cache.newest(question)
        return newest is None or now - newest.arrived >= self._shape_stats.pause

    def _probes(self, now: float, limit: int) -> list[int]:
        """Service endpoints of unowned clients, while no client is ever named: see :data:`PROBES`."""
        if not self._probing(now) or now < self._probe_at:
            return []
        self._probe_at = now + self._shape_stats.pause / PROBES
        return self._schedule.choose(self._table, now=now, limit=min(limit, 1), unowned=True)

    def _probing(self, now: float) -> bool:
        return self._settings.semantics == "both" and self._shape_stats.names_no_client(now=now)
