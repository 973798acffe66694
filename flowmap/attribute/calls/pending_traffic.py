"""How much traffic waits for the answer to each question: what a fleet orders the questions of all hosts by."""

from __future__ import annotations

from collections.abc import Iterable

from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.calls.schedule import Times
from flowmap.attribute.questions import Question


def pending_traffic(traffic: Times, new_answers: NewAnswers, questions: Iterable[Question]) -> dict[Question, float]:
    """The ``traffic`` of the endpoints of each question: see :meth:`Schedule.pending_traffic`.

    Questions about endpoints that are gone are missing in the result. Those about both endpoints of a connection have
    0: they are asked with spare calls.
    """
    found = {}
    for question in questions:
        if question.source is not None and question.destination is not None:
            found[question] = 0.0
        elif endpoints := new_answers.asked_about(question):
            found[question] = sum(map(traffic.item, endpoints))
    return found
