"""Owners as words, as JSON, and counted."""

from __future__ import annotations

import pytest

from flowmap.cli.who.mentions import Mention, Place
from flowmap.cli.who.printing import Summary, annotated, line_json
from flowmap.cli.who.reader import Line
from tests.support.attributions import answer

WITH_PORT, WITHOUT = Mention(Place("10.0.0.1", 7)), Mention(Place("10.0.0.1", None))

PAIR = Mention(Place("10.0.0.1", 7), Place("10.0.0.2", 80))

WORDS = [
    (PAIR, answer("attributed", "a"), "a"),
    (PAIR, answer("attributed", "a", observed=False), "a (by address 10.0.0.1)"),
    (WITH_PORT, answer("attributed", "a"), "a"),
    (WITH_PORT, answer("attributed", "a", observed=False), "a (by address)"),
    (WITHOUT, answer("attributed", "a"), "a (by address)"),
    (WITH_PORT, answer("shared", "b", "a"), "a | b (one of these)"),
    (WITHOUT, answer("shared", "a", "b"), "a | b (one of these) (by address)"),
    (WITH_PORT, answer("unknown"), "no deployment"),
    (WITH_PORT, answer("unknown", observed=False), "no deployment (by address)"),
    (WITH_PORT, answer("internal"), "internal to a Flink cluster"),
    (WITH_PORT, answer("pending") | {"cause": "not asked yet"}, "? pending: not asked yet"),
    (WITH_PORT, answer("ambiguous"), "? ambiguous"),
    (WITH_PORT, answer("attributed", "\x1b[2Ja"), "\\x1b[2Ja"),
]


@pytest.mark.parametrize(("mention", "attribution", "words"), WORDS)
def test_words(mention: Mention, attribution: dict[str, object], words: str) -> None:
    assert annotated(Line("text", (mention,)), {mention: attribution}) == f"text  => {words}"


def test_lines() -> None:
    answers = {WITH_PORT: answer("attributed", "a"), WITHOUT: answer("unknown")}
    assert annotated(Line("\t as it was "), answers) == "\t as it was "
    assert annotated(Line("x", remark="a host name"), answers) == "x  => ? a host name"
    assert annotated(Line("x", (WITH_PORT,), "2 more"), answers) == "x  => a; ? 2 more"
    two = Line("x", (WITH_PORT, WITHOUT))
    assert annotated(two, answers) == "x  => 10.0.0.1:7 a; 10.0.0.1 no deployment"
    assert line_json(3, two, answers)["connections"][0] == {
        "client": {"ip": "10.0.0.1", "port": 7},
        "server": None,
        "protocol": "tcp",
        "state": "attributed",
        "observed": True,
        "deployments": answer("attributed", "a")["deployments"],
        "cause": None,
        "byAddress": False,
    }


def test_a_connection_counts_once() -> None:
    summary = Summary()
    answers = {WITH_PORT: answer("attributed", "a"), WITHOUT: answer("attributed", "a")}
    for _ in range(2):
        summary.add([Line("x", (WITH_PORT,)), Line("y", (WITH_PORT, WITHOUT)), Line("z")], answers)
    assert summary.rows() == [("a", "attributed", 2, 1)]
    assert summary.as_json() == [{"deployments": ["id-a"], "state": "attributed", "connections": 2, "byAddress": 1}]
