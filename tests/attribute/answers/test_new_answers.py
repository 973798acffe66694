"""Endpoints with new answers: judged once the flow table has caught up, and each answer once."""

from __future__ import annotations

import numpy as np

from flowmap.attribute.answers.new_answers import NewAnswers
from flowmap.attribute.questions import Question, Shape
from flowmap.model.address import Address, Endpoint


def question(number: int) -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address(0, number), 0), None)


def test_shared_question_serves_every_endpoint() -> None:
    news = NewAnswers(8)
    for endpoint in (3, 2):
        news.expect(question(1), endpoint)
    assert news.is_asked(question(1)) and not news.is_asked(question(2))
    assert news.receive(question(1), 10.0) == [3, 2]
    assert news.has_answer.nonzero()[0].tolist() == [2, 3]
    assert not news.is_asked(question(1)) and news.receive(question(1), 11.0) == []
    assert news.take_judgeable(10.0) == ([3, 2], [2, 3])
    assert not news


def test_an_answer_waits_until_the_table_has_caught_up() -> None:
    news = NewAnswers(8)
    news.expect(question(1), 1)
    news.receive(question(1), 10.0)
    assert news.take_judgeable(9.9) == ([], []) and news
    assert news.take_judgeable(10.0) == ([1], [1])


def test_flows_judged_again_have_no_new_answer() -> None:
    news = NewAnswers(8)
    news.judge_again([4])
    assert news.take_judgeable(0.0) == ([4], [])


def test_a_question_without_answer_leaves_no_news() -> None:
    news = NewAnswers(8)
    news.expect(question(1), 1)
    assert news.close(question(1)) == [1]
    assert not news and not news.has_answer.any() and not news.is_asked(question(1))


def test_a_freed_number_starts_without_news() -> None:
    news = NewAnswers(8)
    for endpoint in (1, 2):
        news.expect(question(endpoint), endpoint)
        news.expect(question(3), endpoint)
    news.receive(question(1), 10.0)
    news.forget(np.array([1], np.int32))
    assert not news and not news.has_answer.any()
    assert news.close(question(3)) == [2]
