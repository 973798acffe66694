"""Answers without HTTP are those over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.errors import QueryError
from flowmap.serve.api.in_process import answer
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask

QUESTIONS = [
    ("attribution", {"srcIp": "10.0.0.1", "srcPort": "40000", "dstIp": "::1", "dstPort": "53", "protocol": "udp"}),
    ("flows", {"peer": "10.0.0.9:9092", "from": "1700000000", "limit": "7", "cursor": "c"}),
    ("map", {"from": "1700000000", "to": "1700000100", "counts": "ip"}),
    ("deployments/a%2Fb/peers", {"from": "1700000000", "to": "1700000100"}),
    ("deployments/id-1/peers/changes", {"from": "1700000000", "to": "1700000100", "beforeFrom": "1600000000"}),
]


@pytest.mark.parametrize(("path", "given"), QUESTIONS)
def test_the_same_question_and_answer_as_over_http(path: str, given: dict[str, str]) -> None:
    direct, served = FakeBackend(), FakeBackend()
    found = asyncio.run(answer(direct, path, given))
    query = "&".join(f"{name}={value}" for name, value in given.items())
    response = ask(f"/api/v1/{path}?{query}", backend=served)
    if "%2F" not in path:  # a router of HTTP sees a slash
        assert found == response.json()
        assert direct.asked == served.asked
    else:
        assert direct.asked == [("a/b", 1_700_000_000.0, 1_700_000_100.0)]


WRONG = [
    ("flows", {"state": "nonsense"}, "state: is none of"),
    ("flows", {"colour": "red"}, "colour: there is no such parameter"),
    ("flows", {"from": "20", "to": "10"}, "the window ends before it begins"),
    ("status", {}, "only a daemon answers this"),
    ("deployments//peers", {}, "only a daemon answers this"),
]


@pytest.mark.parametrize(("path", "given", "reason"), WRONG)
def test_what_cannot_be_answered(path: str, given: dict[str, str], reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        asyncio.run(answer(FakeBackend(), path, given))
