"""``query --explain``: the chain from a connection to its owners, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowmap.cli.output import text
from flowmap.cli.traffic.flows import end

ANSWERS = 6
"""Answers shown of one question; JSON has all that are kept."""


def print_explanation(chain: dict[str, Any]) -> None:
    """What saw the connection, what was asked and answered when, and how that combines."""
    facts = [(name, value) for name, value in _facts(chain) if value]
    print()
    for line in text.table(("", ""), facts, width=text.terminal_width())[1:]:
        print(line)
    print()
    header = ("QUESTION", "ASKED", "ANSWERED", "NAMED", "TO ITS LIFE", "RULE")
    waits = "wait" if chain["decidedAt"] is None else None
    text.print_table(header, [row for question in chain["questions"] for row in _answers(question, waits)])


def _facts(chain: dict[str, Any]) -> Iterator[tuple[str, object]]:
    life = chain["life"]
    yield "seen by", " and ".join(chain["seenBy"])
    yield "client is", f"{end(chain['client'])}, {chain['orientation']}"
    yield "asked about", f"{end(chain['client'])} and {end(chain['service'])}"
    yield "  because", chain["endpointReason"]
    yield "began", _between(life["startedAfter"], life["startedBy"])
    yield "open until", life["openUntil"]
    yield "client there", life["clientSeenUntil"]
    yield "over by", life["endedBy"]
    yield "combined", chain["combination"]
    yield "decided", chain["decidedAt"]
    yield "jobs are", chain["jobs"]


def _between(after: str | None, by: str | None) -> str | None:
    if after is None:
        return f"at some time until {by}" if by else None
    return f"between {after} and {by}"


def _answers(question: dict[str, Any], waits: str | None) -> Iterator[tuple[object, ...]]:
    """A row for each of the last answers and for the one that decided; one row all the same where there is none.
    ``waits`` stands for no rule."""
    ends = [
        f"{name}={end(question[key])}" for name, key in (("src", "source"), ("dst", "destination")) if question[key]
    ]
    subject = " ".join([question["shape"], *ends, f"in {question['namespace']}"]).replace(":0 ", " ")
    older, answers = question["answers"][:-ANSWERS], question["answers"][-ANSWERS:]
    answers = [answer for answer in older if answer["decisive"]] + answers
    if not answers:
        yield subject, None, None, question["error"] or "not answered yet", None, None
    for number, answer in enumerate(answers):
        named = ", ".join(owner["name"] for owner in answer["owners"]) or "nobody"
        rule = question["rule"] if answer["decisive"] else ""
        if number == len(answers) - 1 and not question["rule"]:
            rule = waits
        yield (
            subject if number == 0 else "",
            answer["askedAt"],
            answer["answeredAt"],
            named,
            answer["relation"],
            rule,
        )
