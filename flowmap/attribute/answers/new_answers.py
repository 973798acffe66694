"""Which endpoints have answers that their flows were not judged by yet. Endpoints go by their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from flowmap.attribute.questions import Question
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import NEVER


class Judgeable(NamedTuple):
    """Endpoints whose flows can be judged now."""

    endpoints: list[int]
    answered: list[int]
    """Those of them with an answer that no flow was judged by, in ascending order."""


class NewAnswers:
    """Questions under way, and the answers that arrived since the last judgement. Times are monotonic seconds."""

    def __init__(self, capacity: int) -> None:
        """``capacity``: of the endpoint table."""
        self.has_answer = np.zeros(capacity, np.bool_)
        """Whether an answer about each endpoint ever arrived."""
        self._asked_about: dict[Question, list[int]] = {}
        self._judge_after: dict[int, float] = {}  # the instant that the flow table has to catch up with
        self._unjudged: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._judge_after)

    def is_asked(self, question: Question) -> bool:
        """Whether the question is under way."""
        return question in self._asked_about

    def asked_about(self, question: Question) -> list[int]:
        """The endpoints that the question is about; empty if it is not under way, or they are gone."""
        return self._asked_about.get(question, [])

    def expect(self, question: Question, endpoint: int) -> None:
        """The answer to the question will be about the endpoint.

        Two endpoints can share a question (a port of TCP and of UDP): one call, and its answer is for both.
        """
        self._asked_about.setdefault(question, []).append(endpoint)

    def receive(self, question: Question, arrived: float) -> list[int]:
        """The endpoints that an answer is about; their flows can be judged once the table has caught up with it."""
        endpoints = self.close(question)
        self._judge_after.update(dict.fromkeys(endpoints, arrived))
        self._unjudged.update(endpoints)
        self.has_answer[endpoints] = True
        return endpoints

    def close(self, question: Question) -> list[int]:
        """The endpoints that a question was about, which is not under way any more."""
        return self._asked_about.pop(question, [])

    def judge_again(self, endpoints: Iterable[int]) -> None:
        """Judge the flows of these endpoints by the answers there are."""
        self._judge_after.update(dict.fromkeys(endpoints, NEVER))

    def take_judgeable(self, alive_at: float) -> Judgeable:
        """Endpoints whose answers arrived by ``alive_at``, the instant up to which the flow table is complete."""
        endpoints = [endpoint for endpoint, instant in self._judge_after.items() if instant <= alive_at]
        for endpoint in endpoints:
            del self._judge_after[endpoint]
        answered = self._unjudged.intersection(endpoints)
        self._unjudged -= answered
        return Judgeable(endpoints, sorted(answered))

    def forget(self, freed: Rows) -> None:
        """The numbers of these endpoints will stand for others."""
        gone = set(freed.tolist())
        self.has_answer[freed] = False
        self._unjudged -= gone
        self._judge_after = {endpoint: at for endpoint, at in self._judge_after.items() if endpoint not in gone}
        kept = {question: [one for one in about if one not in gone] for question, about in self._asked_about.items()}
        self._asked_about = {question: about for question, about in kept.items() if about}
