"""Prints the explanation of ``query --explain`` for people: from the connection to its owners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowmap.cli.output import text
from flowmap.cli.traffic.flows import endpoint

ANSWERS = 6
"""Latest answers shown for each question. JSON has all of them."""


def print_explanation(chain: dict[str, Any]) -> None:
    """Print the sources, the questions with their answers, and how the answers combine."""
    for line in lines(chain, width=text.terminal_width()):
        print(line)


def lines(chain: dict[str, Any], *, width: int | None) -> list[str]:
    """The explanation line by line, cut to ``width`` cells if possible."""
    facts = [(name, value) for name, value in _facts(chain) if value]
    header = ("QUESTION", "ASKED", "ANSWERED", "OWNER", "RELATION", "RULE")
    open_rule = "wait" if chain["decidedAt"] is None else None
    rows = [row for question in chain["questions"] for row in _answers(question, open_rule)]
    return ["", *text.table(("", ""), facts, width=width)[1:], "", *text.table(header, rows, width=width)]


def _facts(chain: dict[str, Any]) -> Iterator[tuple[str, object]]:
    life = chain["life"]
    yield "seen by", " and ".join(chain["seenBy"])
    yield "client", f"{endpoint(chain['client'])}, {chain['orientation']}"
    yield "questions for", f"{endpoint(chain['client'])} and {endpoint(chain['service'])}"
    yield "  because", chain["endpointReason"]
    yield "started", _between(life["startedAfter"], life["startedBy"])
    yield "open until", life["openUntil"]
    yield "client seen until", life["clientSeenUntil"]
    yield "closed by", life["endedBy"]
    yield "combined", chain["combination"]
    yield "decided", chain["decidedAt"]
    yield "job selection", chain["jobs"]


def _between(after: str | None, by: str | None) -> str | None:
    if after is None:
        return f"before {by}" if by else None
    return f"between {after} and {by}"


def _answers(question: dict[str, Any], open_rule: str | None) -> Iterator[tuple[object, ...]]:
    """Rows of the latest answers and of the decisive one; one row if there is no answer.

    ``open_rule`` is shown for the latest answer if no rule applies yet.
    """
    endpoints = [
        f"{name}={endpoint(question[key])}"
        for name, key in (("src", "source"), ("dst", "destination"))
        if question[key]
    ]
    subject = " ".join([question["shape"], *endpoints, f"in {question['namespace']}"]).replace(":0 ", " ")
    older, answers = question["answers"][:-ANSWERS], question["answers"][-ANSWERS:]
    answers = [answer for answer in older if answer["decisive"]] + answers
    if not answers:
        yield subject, None, None, question["error"] or "not answered yet", None, None
    for number, answer in enumerate(answers):
        named = ", ".join(owner["name"] for owner in answer["owners"]) or "no deployment"
        rule = question["rule"] if answer["decisive"] else ""
        if number == len(answers) - 1 and not question["rule"]:
            rule = open_rule
        yield (
            subject if number == 0 else "",
            answer["askedAt"],
            answer["answeredAt"],
            named,
            answer["relation"],
            rule,
        )
