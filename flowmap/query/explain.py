"""The explanation of a flow's owners: its source, the questions with their answers, and how they combine.

Runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.attribute.answers.timeline import Answer, Judgement, Lifetimes
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import READINGS, Owners, Question, Semantics, Shape
from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.columns import Row
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Endpoint
from flowmap.model.deployment import JobSelection, Owner
from flowmap.model.explanation import AskedQuestion, Explanation, Lifetime, ReceivedAnswer, Relation
from flowmap.sources.kinds import KINDS

GUESSED = "guessed from the ports: the start of the connection was not observed"
JOBS: Mapping[JobSelection, str] = {
    JobSelection.AT_START: "jobs that ran when the connection began, by the list of jobs of the deployment",
    JobSelection.RUNNING: "jobs that had not ended when last listed; those at the start are not known",
    JobSelection.UNLISTED: "not listed yet",
}


def explain(
    accounting: FlowAccounting, row: int, *, source: str, epoch: float, job_selection: JobSelection | None
) -> Explanation:
    """The explanation of the flow in ``row``.

    ``epoch`` is added to a monotonic instant for seconds since the epoch. ``job_selection``: how the jobs beside its
    owners were selected; None without an owner.
    """
    columns, attribution = accounting.table.columns, accounting.attribution
    lives = attribution.lifetimes(np.array([row], np.int32))
    decision = attribution.decisions.get(int(columns.verdict[row]))
    numbers = int(columns.client[row]), int(columns.service[row])
    questions = [question for number in numbers for question in attribution.questions_about(number)]
    if decision is not None:
        known = dict.fromkeys(questions) | dict.fromkeys(decision.outcomes)
        of_ties = (
            question for question in attribution.narrowing.about(row, decision) if attribution.timeline(question)
        )
        questions = list(known | dict.fromkeys(of_ties))
    asked = tuple(_asked(accounting, question, lives, decision, epoch) for question in questions)
    service = accounting.table.endpoints.key(numbers[1])
    flags = int(columns.flags[row])
    return Explanation(
        seen_by=(source, "sockets") if flags & Row.HEALTH_READ and source != "sockets" else (source,),
        orientation=GUESSED if flags & Row.GUESSED else (KINDS[source].orientation if source in KINDS else "seen"),
        client=columns.endpoints_of(row)[0],
        service=Endpoint(service.address, service.port),
        endpoint_reason=_because(accounting, row, service) if flags & Row.TRANSLATED else "",
        life=_life(lives, epoch),
        questions=asked,
        combination=_combination(attribution.settings.semantics, asked, decision),
        decided_at=None if decision is None else decision.decided_at + epoch,
        jobs="" if job_selection is None else JOBS.get(job_selection, ""),
    )


def _asked(
    accounting: FlowAccounting, question: Question, lives: Lifetimes, decision: Decision | None, epoch: float
) -> AskedQuestion:
    timeline = accounting.attribution.timeline(question)
    answers: Sequence[Answer] = timeline.answers if timeline else ()
    outcome = None
    if decision is not None:  # a question without an outcome named nothing, or was answered too late
        outcome = decision.outcomes.get(question)
    elif answers and timeline is not None:
        settings = accounting.attribution.settings
        _, (outcome,) = timeline.judge(lives, grace=settings.grace, registration_lag=settings.registration_lag)
    if outcome is not None and outcome.answer not in answers:
        answers = sorted((*answers, outcome.answer), key=lambda answer: answer.arrived)
    confirmed = timeline.interval if timeline else None
    return AskedQuestion(
        shape=question.shape,
        workspace=question.workspace,
        namespace=question.namespace,
        source=question.source,
        destination=question.destination,
        answers=tuple(_received(answer, lives, outcome, epoch) for answer in answers),
        rule=outcome.rule if outcome else "",
        owners=_sorted(outcome.owners) if outcome else (),
        confirmed_from=confirmed.first_arrived + epoch if confirmed and confirmed.answers > 1 else None,
        confirmed_until=confirmed.last_asked + epoch if confirmed and confirmed.answers > 1 else None,
        error=timeline.failure if timeline else None,
    )


def _received(answer: Answer, lives: Lifetimes, outcome: Judgement | None, epoch: float) -> ReceivedAnswer:
    owners, relation = _sorted(answer.owners), _relation(answer, lives)
    decisive = outcome is not None and answer == outcome.answer
    return ReceivedAnswer(answer.asked + epoch, answer.arrived + epoch, owners, relation, decisive)


def _relation(answer: Answer, lives: Lifetimes) -> Relation:
    """See :class:`Relation`; by the same comparisons as the rules of time."""
    if answer.arrived <= lives.born_after[0]:
        return Relation.BEFORE
    if answer.asked >= lives.ended_by[0]:
        return Relation.AFTER
    if answer.asked >= lives.born_by[0] and answer.arrived <= lives.alive_until[0]:
        return Relation.INSIDE
    return Relation.UNCERTAIN


def _life(lives: Lifetimes, epoch: float) -> Lifetime:
    columns = (lives.born_after, lives.born_by, lives.alive_until, lives.proven_until, lives.ended_by)
    times = [float(column[0]) for column in columns]
    return Lifetime(*(instant + epoch if np.isfinite(instant) else None for instant in times))


def _because(accounting: FlowAccounting, row: int, service: EndpointKey) -> str:
    columns = accounting.table.columns
    kept = (service.address, service.port) == columns.endpoints_of(row)[1]
    asked = "before destination NAT" if kept else "after destination NAT"
    return f"the client endpoint before source NAT, as many clients can share an address after it; the service {asked}"


def _combination(semantics: Semantics, asked: Sequence[AskedQuestion], decision: Decision | None) -> str:
    reading = READINGS[semantics]
    client = _joined(reading.of_client, asked)
    adding = [shape for shape in reading.of_service if shape is not Shape.HOST]
    service = _joined(adding, asked)
    said = f"({service})" if len(adding) > 1 and client else service
    if hosts := [one for one in asked if one.shape is Shape.HOST and one.owners]:
        said += f" without source, which answers about the host: {_names(*hosts)}"
    parts = [part for part in (client, said) if part]
    narrowing = [f"{one.shape} {_names(one)}" for one in asked if one.shape in _TIES and one.rule]
    if decision is None:
        return " ∩ ".join(parts)
    left = "{" + ", ".join(sorted(owner.name for owner in decision.owners)) + "}"
    return " ∩ ".join(parts + narrowing) + f" = {left}"


def _joined(shapes: Sequence[Shape], asked: Sequence[AskedQuestion]) -> str:
    """``sink {orders} ∪ source {}``: the owners of each shape, from all places."""
    return " ∪ ".join(f"{shape} {_names(*(one for one in asked if one.shape == shape))}" for shape in shapes)


def _names(*asked: AskedQuestion) -> str:
    """Names of the owners; ``?`` for a question that is not answered or not used."""
    names = {owner.name for one in asked for owner in one.owners}
    if any(not one.rule for one in asked):
        names.add("?")
    return "{" + ", ".join(sorted(names)) + "}"


def _sorted(owners: Owners) -> tuple[Owner, ...]:
    return tuple(sorted(owners))


_TIES = (Shape.LINK, Shape.EXACT)
