"""How much traffic waits for the answer to each question: what a fleet orders the questions of all hosts by."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.owner_state import is_undecided
from flowmap.attribute.questions import Question
from flowmap.flows.table import FlowTable


def pending_traffic(table: FlowTable, new_answers: NewAnswers, questions: Iterable[Question]) -> dict[Question, float]:
    """Bytes of the undecided flows at the endpoints of each question, and one for each such flow.

    Questions about endpoints that are gone are missing in the result. Those about both endpoints of a connection have
    0: they are asked with spare calls.
    """
    columns, rows = table.columns, table.live()
    rows = rows[is_undecided(columns, rows)]
    waiting = np.zeros(table.endpoints.top)
    amount = 1.0 + (columns.last[rows, :2] - columns.base[rows, :2]).sum(axis=1)
    for numbers in (columns.client[rows], columns.service[rows]):
        waiting += np.bincount(numbers, weights=amount, minlength=table.endpoints.top)
    found = {}
    for question in questions:
        if question.source is not None and question.destination is not None:
            found[question] = 0.0
        elif endpoints := new_answers.asked_about(question):
            found[question] = float(waiting[endpoints].sum())
    return found
