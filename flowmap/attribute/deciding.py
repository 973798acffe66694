"""What the judged answers about both endpoints of a flow mean together.

Each answer was judged for the flow by the rules of time (``answers/timeline``). Three things are added here:

    corroborated    if the client has exactly one owner, an older answer about the service endpoint is enough
    guarded         a ``source`` answer counts only if no deployment has the service's address (see ``questions``)
    resting         a flow becomes ``unknown``, never an owner's, without the answers of shapes that name no deployment
"""

from __future__ import annotations

from collections.abc import Mapping

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.shape_stats import ShapeStats
from flowmap.attribute.answers.timeline import NO_OWNERS, Answer, Judgement
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import UNREADABLE, Owners, Question, Semantics, Shape, combine, state_of
from flowmap.attribute.settings import AttributionSettings
from flowmap.model.deployment import State

INFERRED = (
    "inferred: the client is in attribute.deployment_networks, and the users of the service endpoint are candidates"
)
ANOTHER_PROGRAM = "the client's socket is not of a TaskManager, but of another program at its address"
NOT_USERS = ("unconfirmed", "late", "grace")
"""Rules under which an answer may lack users of a service endpoint. ``grace`` assumes that an address keeps its owner,
and a deployment can begin to use an endpoint at any time."""
SHARED_ADDRESS = "other programs use the client's address, too, so the jobs there need not own the connection"


class Deciding:
    """Makes decisions from judged answers."""

    def __init__(self, settings: AttributionSettings, cache: AnswerCache, shape_stats: ShapeStats) -> None:
        self._settings = settings
        self._cache = cache
        self._shape_stats = shape_stats
        self.forced: set[Question] = set()
        """Questions of resting shapes that a decision needs."""

    def decide(self, judged: Mapping[Question, Judgement | None], now: float) -> Decision | None:
        """The decision that judged answers to all questions about both endpoints allow; None: the flows wait."""
        if self._settings.infers_from_services and self._is_never_named(judged, now):
            return self._infer(judged, now)
        known = self._guarded(self._corroborated(judged, now))
        owners = combine(self._settings.semantics, _owners(known))
        if owners is None:
            return self._decide_without_resting(known, self._settings.semantics, now)
        outcomes = {question: one for question, one in known.items() if one is not None and _tells(question, one)}
        if owners and all(owner.deployment_id == UNREADABLE for owner in owners):
            return Decision(State.UNKNOWN, NO_OWNERS, outcomes, now, "the answers could not be read in full")
        state = state_of(owners, self._settings.owners_limit)
        if state is State.UNKNOWN:
            local = any(one.rule == "local" for one in outcomes.values())
            cause = ANOTHER_PROGRAM if local else SHARED_ADDRESS if owners else ""
            return Decision(state, NO_OWNERS, outcomes, now, cause)
        own = f"a connection of Flink itself, cluster {', '.join(sorted(owner.namespace for owner in owners))}"
        return Decision(state, owners, outcomes, now, own if state is State.INTERNAL else "")

    def _corroborated(
        self, known: Mapping[Question, Judgement | None], now: float
    ) -> Mapping[Question, Judgement | None]:
        """``known`` with older answers about the service endpoint, where the client has exactly one owner.

        The rules of time hold for the client's answer. That the owner also uses the service endpoint changes seldom, so
        for that an ownership interval is enough that names the owner and is not older than ``stale_for``.
        """
        charged = {question: outcome for question, outcome in known.items() if not question.place.is_flink}
        of_client = [outcome for question, outcome in charged.items() if question.shape is Shape.CLIENT]
        owners = NO_OWNERS.union(*(outcome.owners for outcome in of_client if outcome is not None))
        if len(owners) != 1 or None in of_client or any(owner.deployment_id == UNREADABLE for owner in owners):
            return known
        found: dict[Question, Judgement | None] = {}
        for question, outcome in charged.items():
            open_ = outcome is None or outcome.rule in ("unconfirmed", "late")
            if open_ and question.shape in (Shape.SINK, Shape.SOURCE):
                interval = self._cache.interval(question)
                if interval and owners <= interval.owners and now - interval.last_arrived <= self._settings.stale_for:
                    rested = Answer(interval.last_asked, interval.last_arrived, interval.owners)
                    found[question] = Judgement(owners, "corroborated", rested)
        return {**known, **found}

    def _guarded(self, known: Mapping[Question, Judgement | None]) -> Mapping[Question, Judgement | None]:
        """``known`` with the owners that any answer about the service's host ever named; None while it is too old.

        No rule of time is needed: a ``source`` answer that may be about the host must not name a flow.
        """
        sources = {question.place: one for question, one in known.items() if question.shape is Shape.SOURCE}
        found: dict[Question, Judgement | None] = {}
        for host in (question for question in known if question.shape is Shape.HOST):
            source, timeline = sources.get(host.place), self._cache.timeline(host)
            found[host] = None
            if source is not None and source.owners and timeline and self._cache.is_guarded(host, source.answer):
                every = NO_OWNERS.union(*(answer.owners for answer in timeline.answers))
                found[host] = Judgement(every, "host", timeline.answers[-1])
        return {**known, **found} if found else known

    def _is_never_named(self, known: Mapping[Question, Judgement | None], now: float) -> bool:
        """Whether the client's own answers came and name no deployment, as for every client of this API.

        Under the data-flow reading clients are not asked about.
        """
        if self._settings.semantics == "dataflow":
            return not any(question.place.is_flink for question in known)
        of_client = {question: one for question, one in known.items() if question.shape is Shape.CLIENT}
        if any(question.place.is_flink for question in of_client) or not self._shape_stats.names_no_client(now=now):
            return False
        answered = all(one is not None and not one.owners for one in of_client.values())
        return answered and self._cache.names_no_owner(of_client)

    def _infer(self, known: Mapping[Question, Judgement | None], now: float) -> Decision | None:
        """The decision by the answers about the service endpoint alone."""
        of_service = {question: one for question, one in known.items() if question.shape in (Shape.SINK, Shape.SOURCE)}
        owners = combine("dataflow", _owners(of_service))
        if owners is None:
            return self._decide_without_resting(of_service, "dataflow", now)
        if any(one is not None and one.rule in NOT_USERS for one in of_service.values()):
            owners = NO_OWNERS  # the owner may be another user of the endpoint
        outcomes = {question: one for question, one in known.items() if one and question.shape is not Shape.HOST}
        return Decision(state_of(owners, self._settings.owners_limit), owners, outcomes, now, INFERRED, inferred=True)

    def _decide_without_resting(
        self, known: Mapping[Question, Judgement | None], semantics: Semantics, now: float
    ) -> Decision | None:
        """Decide ``unknown``, never an owner, without waiting for the answers of resting shapes.

        If such an answer could matter for candidates that there are, its question is asked.
        """
        resting = [
            question
            for question, outcome in known.items()
            if outcome is None and question.shape is not Shape.CLIENT and self._is_resting(question, now)
        ]
        owners = combine(semantics, _owners(known) | dict.fromkeys(resting, NO_OWNERS))
        if owners is None or not resting:
            return None
        if owners:
            self.forced.update(resting)
            return None
        outcomes = {question: outcome for question, outcome in known.items() if outcome is not None}
        shapes = " and ".join(dict.fromkeys(question.shape for question in resting))
        cause = f"no deployment is named for both endpoints ({shapes} questions never name one: asked less often)"
        return Decision(State.UNKNOWN, NO_OWNERS, outcomes, now, cause)

    def _is_resting(self, question: Question, now: float) -> bool:
        """Whether the question is of a resting shape and its newest answer names no deployment; shapes rest only where
        questions cost calls."""
        newest = self._cache.newest(question)
        resting = self._shape_stats.never_names(question.shape, now=now)
        return resting and not question.place.is_flink and newest is not None and not newest.owners


def _tells(question: Question, outcome: Judgement) -> bool:
    """Whether the outcome is part of the evidence. A host without deployments changes nothing."""
    return question.shape is not Shape.HOST or bool(outcome.owners)


def _owners(known: Mapping[Question, Judgement | None]) -> dict[Question, Owners | None]:
    return {question: None if outcome is None else outcome.owners for question, outcome in known.items()}
