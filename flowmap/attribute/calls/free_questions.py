"""Questions that need no call of the budget: their control plane reads everything anyway and answers from memory.

An endpoint is asked about while a flow of it has no decision, one question at a time. The answer comes with the next
reading, so this is one question for each reading. An endpoint without such a flow is asked about every
``attribute.positive_ttl``, for the intervals that history keeps, and once more when the process of an ``unknown`` flow
is found, which may tell its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.owner_state import is_undecided
from flowmap.attribute.questions import Question
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.addresses import SpecialEndpoints
from flowmap.flows.columns import IGNORED, Row
from flowmap.flows.table import FlowTable

IN_FLIGHT = 2000
"""Endpoints that are asked about at one time, the longest unanswered first."""

RETRY_AFTER = 1.0
"""Seconds until a failed question is asked again."""

_OPEN = np.uint32(Row.OPEN)


class FreeQuestions:
    """When each endpoint is due, by its number in the endpoint table. Times are monotonic seconds."""

    def __init__(
        self, special: SpecialEndpoints, capacity: int, settings: AttributionSettings, new_answers: NewAnswers
    ) -> None:
        """``capacity``: of the endpoint table."""
        self._new_answers = new_answers
        self._special = special
        self._settings = settings
        self._asked = np.zeros(capacity, np.bool_)
        # 0: never. Pages of zeros take no memory until they are written.
        self._answered, self._due = np.zeros(capacity), np.zeros(capacity)

    def choose(self, table: FlowTable, *, now: float) -> list[int]:
        """The endpoints to ask about now."""
        room = IN_FLIGHT - int(np.count_nonzero(self._asked))
        if room <= 0:
            return []
        columns, rows = table.columns, table.live()
        undecided = is_undecided(columns, rows)
        wanted = undecided | ((columns.flags[rows] & _OPEN != 0) & (columns.series[rows] != IGNORED))
        wanted &= ~self._special.holds(rows)
        rows, undecided = rows[wanted], undecided[wanted]
        in_use, urgent = np.zeros(table.endpoints.top, np.bool_), np.zeros(table.endpoints.top, np.bool_)
        for numbers in (columns.client[rows], columns.service[rows]):
            in_use[numbers] = True
            urgent[numbers[undecided]] = True
        answered = self._answered[: table.endpoints.top]
        due = urgent | (in_use & (now - answered >= self._settings.positive_ttl))
        due &= ~self._asked[: table.endpoints.top] & (self._due[: table.endpoints.top] <= now)
        found = np.flatnonzero(due)
        return [int(number) for number in found[np.argsort(answered[found], kind="stable")][:room]]

    def ask_again(self, numbers: npt.NDArray[np.int32]) -> None:
        """Make endpoints with an open flow due at once. A question that is under way serves for this, too."""
        self._answered[numbers] = -np.inf

    def ask(
        self, table: FlowTable, questions_about: Callable[[int], Iterable[Question]], *, now: float
    ) -> list[Question]:
        """The questions to ask now."""
        found: list[Question] = []
        if not self._settings.flink:
            return found
        for number in self.choose(table, now=now):
            for question in questions_about(number):
                if question.place.is_flink:
                    found += [] if self._new_answers.is_asked(question) else [question]
                    self._new_answers.expect(question, number)
                    self._asked[number] = True
        return found

    def receive(self, question: Question, *, now: float) -> None:
        """Take the answer that arrived at ``now``."""
        self._finish(self._new_answers.receive(question, now), now, 0.0)

    def fail(self, question: Question, *, now: float, retry_after: float | None) -> None:
        """Take the failure of a question; ``retry_after``: seconds until another one makes sense."""
        self._finish(self._new_answers.close(question), now, RETRY_AFTER if retry_after is None else retry_after)

    def _finish(self, numbers: list[int], now: float, pause: float) -> None:
        self._asked[numbers] = False
        self._answered[numbers], self._due[numbers] = now, now + pause

    def forget(self, numbers: npt.NDArray[np.int32]) -> None:
        """The numbers will stand for other endpoints."""
        self._asked[numbers] = False
        self._answered[numbers] = self._due[numbers] = 0
